"""Folders that are kept open while files in them are written, so that no link leads out of them, and no process takes them for abandoned.

Every system call looks up its path again, and meanwhile anybody who may write to the output folder could replace one of its folders by a
link. Therefore the folder is opened, one component after the other without following links, and all further calls use the open folder,
whatever has become of its path. On Linux, an open folder has a path below /proc/self/fd.
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
    """A path that leads to this folder until the end of the context, even if the folder is moved or replaced.

    On systems other than Linux, it is the folder's own path, which is checked for links only once.

    Args:
        folder: the root, or a folder below it.
        root: chosen by the user; it may be a link.

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
    """Create a file and open it for reading and writing. An existing file or link of this name is removed first.

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
    """A folder that is removed at the end. Such folders of killed processes are removed at the beginning.

    A folder is in use as long as its process holds a lock on it, which ends with the process.

    Args:
        before: beginning of the folder's name.
        parent: folder in which it is made; by default that of the system's temporary files.

    Raises:
        OSError: the folder cannot be made.
    """
    where = Path(tempfile.gettempdir()) if parent is None else parent
    _remove_abandoned(where, f"{before}{_TEMPORARY}")
    # After an interrupt, a thread may still write to the folder (Zarr has one). Errors of the cleanup must not hide the interrupt; the next
    # call removes the rest.
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
        # A new folder may not be locked yet.
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
    """Lock an open folder, unless another process has locked it. Returns whether this process has the lock."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # another process has locked it, or the file system has no locks
        return False
    return True
