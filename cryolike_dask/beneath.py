"""Folders below an output folder, held on to while something is written in them: no link leads out of them meanwhile.

A path is looked up anew by each call that gets it, and whoever may write in the output folder can put a link in the place of one of its
folders in between. So the folder is opened, one component after the other and no link followed, and what is done then is done in the very
folder that was opened, whatever its path has become: Linux finds an open folder under /proc/self/fd.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryolike_dask.errors import OutputError

_OPEN_FILES = Path("/proc/self/fd")
_DIRECTORY = os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_DIRECTORY", 0)
_NOT_FOLLOWED = _DIRECTORY | getattr(os, "O_NOFOLLOW", 0)


@contextmanager
def pinned(folder: Path, root: Path) -> Iterator[Path]:
    """A path to a folder that stays with it until the end. Elsewhere than on Linux it is the folder's own, looked at once for links.

    Args:
        folder: the root, or below it.
        root: chosen by the user, who may have chosen a link.

    Raises:
        OutputError: a component below the root is a link.
        FileNotFoundError, NotADirectoryError: there is no such folder.
    """
    parts = folder.relative_to(root).parts
    if not _OPEN_FILES.exists():
        for depth in range(len(parts)):
            _check_no_link(root.joinpath(*parts[: depth + 1]), os.lstat(root.joinpath(*parts[: depth + 1])))
        yield folder
        return
    fd = os.open(root, _DIRECTORY)
    try:
        for depth, name in enumerate(parts):
            below = _open_below(fd, name, root.joinpath(*parts[: depth + 1]))
            os.close(fd)
            fd = below
        yield _OPEN_FILES / str(fd)
    finally:
        os.close(fd)


@contextmanager
def pinned_place(path: Path, root: Path) -> Iterator[Path]:
    """The path of a file in a folder that is `pinned`."""
    with pinned(path.parent, root) as folder:
        yield folder / path.name


def create_file(path: Path) -> int:
    """Create a file and open it for reading and writing. What has its name is removed first, and is not written to if it is a link.

    Returns:
        its file descriptor.

    Raises:
        OSError: it cannot be created.
    """
    path.unlink(missing_ok=True)
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0), 0o666)


def _open_below(fd: int, name: str, path: Path) -> int:
    try:
        return os.open(name, _NOT_FOLLOWED, dir_fd=fd)
    except OSError:
        _check_no_link(path, os.lstat(name, dir_fd=fd))
        raise


def _check_no_link(path: Path, found: os.stat_result) -> None:
    if stat.S_ISLNK(found.st_mode):
        raise OutputError(f"{path} is a link. Output never leaves its folder: remove the link, or choose another folder.")
