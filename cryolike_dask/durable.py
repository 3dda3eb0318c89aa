"""Files that are there whole or not at all, also after a power cut."""

from __future__ import annotations

import errno
import os
import uuid
from pathlib import Path

_NO_DIRECTORY_SYNC = {errno.EINVAL, errno.EBADF, errno.ENOTSUP, errno.ENOSYS, errno.EACCES}


def sync_file(path: Path) -> None:
    """Have the system write a file's content to the disk.

    Raises:
        OSError: it could not; the content must then be taken for lost, because a second try may succeed without writing anything.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_directory(path: Path) -> None:
    """Have the system write a directory's names to the disk, on file systems where that is to be asked for."""
    try:
        sync_file(path)
    except OSError as error:
        if error.errno not in _NO_DIRECTORY_SYNC:
            raise


def install(whole: Path, final: Path) -> None:
    """Give a finished file on the same file system its final name, replacing what has it. A link is replaced, not followed."""
    sync_file(whole)
    os.replace(whole, final)
    sync_directory(final.parent)


def write_whole(final: Path, content: bytes) -> None:
    """Write a file in one step: whatever happens, `final` is what it was or the new content, never a part of it.

    Raises:
        OSError: the file system refuses; `final` is what it was.
    """
    partial = final.with_name(f".{final.name}.{uuid.uuid4().hex[:12]}.partial")
    try:
        with partial.open("xb") as file:
            file.write(content)
        install(partial, final)
    finally:
        partial.unlink(missing_ok=True)
