"""Folders that are kept open while something is written in them: no link leads out of them, and no process takes them for abandoned.

A path is looked up anew by each call that gets it, and whoever may write in the output folder can put a link in the place of one of its
folders in between. So the folder is opened, one component after the other and no link followed, and what is done then is done in the very
folder that was opened, whatever its path has become: Linux finds an open folder under /proc/self/fd.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cryolike_dask.errors import OutputError

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

_TEMPORARY = "cryolike-tmp-"
_YOUNG_SECONDS = 60.0
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


@contextmanager
def temporary_folder(before: str = "", parent: Path | None = None) -> Iterator[Path]:
    """A folder that is removed in the end. What killed processes left of the same kind is removed at the beginning.

    A folder is in use as long as the process that made it holds a lock on it, which ends with the process.

    Args:
        before: what its name begins with.
        parent: where it is; by default where temporary files are.

    Raises:
        OSError: it cannot be made.
    """
    where = Path(tempfile.gettempdir()) if parent is None else parent
    _remove_abandoned(where, f"{before}{_TEMPORARY}")
    # Who is interrupted may leave a thread that still writes here (Zarr has one). That must not hide the interrupt; what stays is removed
    # at the next beginning.
    with tempfile.TemporaryDirectory(prefix=f"{before}{_TEMPORARY}", dir=where, ignore_cleanup_errors=True) as name:
        fd = os.open(name, _NOT_FOLLOWED)
        try:
            _lock(fd)
            yield Path(name)
        finally:
            os.close(fd)


def _remove_abandoned(parent: Path, prefix: str) -> None:
    with os.scandir(parent) as entries:
        folders = [entry for entry in entries if entry.name.startswith(prefix) and entry.is_dir(follow_symlinks=False)]
    for folder in folders:
        # Who has just made a folder has it locked in a moment.
        with suppress(OSError):
            if time.time() - folder.stat(follow_symlinks=False).st_mtime < _YOUNG_SECONDS:
                continue
            fd = os.open(folder.path, _NOT_FOLLOWED)
            try:
                if _lock(fd):
                    shutil.rmtree(folder.path)
            finally:
                os.close(fd)


def _lock(fd: int) -> bool:
    """Lock an open folder, if no other process has. Returns whether it is locked."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # another process has locked it, or the file system has no locks
        return False
    return True
