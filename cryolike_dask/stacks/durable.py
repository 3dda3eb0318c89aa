"""Files that either are complete or do not exist, even after a power cut."""

from __future__ import annotations

import ctypes
import errno
import itertools
import os
import sys
import uuid
from functools import cache
from pathlib import Path
from typing import Any

from cryolike_dask.errors import OutputError
from cryolike_dask.filesystem.pinned import pinned_place

_NO_DIRECTORY_SYNC = {errno.EINVAL, errno.EBADF, errno.ENOTSUP, errno.ENOSYS, errno.EACCES}
_SYNC_FILE_RANGE_WRITE = 2


def begin_sync(fd: int) -> None:
    """Let the system begin to write an open file to the disk, if it supports this, so that a later fsync waits less.

    This is only a hint: it does not wait, and reports no errors. Only the fsync makes the content durable, and reports errors.
    """
    sync_file_range = _sync_file_range()
    if sync_file_range is not None:
        sync_file_range(fd, 0, 0, _SYNC_FILE_RANGE_WRITE)


@cache
def _sync_file_range() -> Any:
    if not sys.platform.startswith("linux"):
        return None
    function = getattr(ctypes.CDLL(None), "sync_file_range", None)
    if function is not None:
        function.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    return function


def sync_file(path: Path) -> None:
    """Let the system write the content of a file to the disk.

    Raises:
        OSError: it could not. The content must then be considered lost, because a second try may succeed without writing anything.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_directory(path: Path) -> None:
    """Let the system write the names in a directory to the disk, on file systems that need this."""
    try:
        sync_file(path)
    except OSError as error:
        if error.errno not in _NO_DIRECTORY_SYNC:
            raise


def check_directory(path: Path) -> None:
    """Check that a directory can be made or written to. Nothing is written.

    Raises:
        OutputError: a file is in the way.
        OSError: permission is missing.
    """
    existing = next(folder for folder in (path, *path.parents) if folder.exists())
    if not existing.is_dir():
        what = "it" if existing == path else existing
        raise OutputError(f"The output folder {path} cannot be made: {what} is a file. Choose another folder.")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(existing))


def make_directory(path: Path) -> list[Path]:
    """Make a directory and its missing parents. Their names are made durable, because otherwise their contents would not be.

    Returns:
        what was made, each directory before its parent.

    Raises:
        OSError: a directory cannot be made.
    """
    missing = list(itertools.takewhile(lambda folder: not folder.is_dir(), (path, *path.parents)))
    for directory in reversed(missing):
        directory.mkdir(exist_ok=True)
        sync_directory(directory.parent)
    return missing


def make_directory_below(path: Path, root: Path) -> None:
    """Make a directory below an existing one, as `make_directory` does, without following links.

    Raises:
        OutputError: a component of the path is a link.
        OSError: a directory cannot be made.
    """
    parts = path.relative_to(root).parts
    for depth in range(len(parts)):
        with pinned_place(root.joinpath(*parts[: depth + 1]), root) as directory:
            # A broken link exists as well; it is refused when the directory is opened.
            if not os.path.lexists(directory):
                directory.mkdir(exist_ok=True)
                sync_directory(directory.parent)


def replace_durably(finished: Path, final: Path) -> None:
    """Give a finished file on the same file system its final name, replacing an existing file. A link is replaced, not followed."""
    sync_file(finished)
    os.replace(finished, final)
    sync_directory(final.parent)


def write_atomic(final: Path, content: bytes, root: Path) -> None:
    """Write a file in one step: `final` always has either its old or its complete new content.

    Args:
        final: the file; a link of this name is replaced.
        content: of the file.
        root: folder below which no component of the path may be a link.

    Raises:
        OutputError: a component is a link.
        OSError: the file system refuses it; `final` has not changed.
    """
    with pinned_place(final, root) as place:
        partial = place.with_name(f".{final.name}.{uuid.uuid4().hex[:12]}.partial")
        try:
            with partial.open("xb") as file:
                file.write(content)
            replace_durably(partial, place)
        finally:
            partial.unlink(missing_ok=True)
