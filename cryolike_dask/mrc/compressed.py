"""Decompresses image files while they are read.

Nothing is written to disk, and only the requested part is decompressed, so the unpacked size of a file does not matter.
"""

from __future__ import annotations

import bz2
import gzip
import os
import zlib
from typing import IO, TypeAlias

from cryolike_dask.errors import InputError

DAMAGED = "is a damaged archive"
ENDS_EARLY = "ends too early"
TOO_LONG = "has more data than its header states"
_Stream: TypeAlias = gzip.GzipFile | bz2.BZ2File


def detect_compression(first_bytes: bytes) -> str:
    """'gz', 'bz2' or '', by the first bytes of a file and not by its name. No MRC header begins with these bytes."""
    if first_bytes.startswith(b"\x1f\x8b\x08"):
        return "gz"
    return "bz2" if first_bytes.startswith(b"BZh") else ""


def read_first_bytes(path: str, fd: int, compression: str, n_bytes: int) -> bytes:
    """The first bytes after decompression, fewer if there are no more. The file descriptor stays open.

    Raises:
        InputError: the archive is damaged.
    """
    stream = CompressedBytes(os.dup(fd), compression, data_end=-1)
    try:
        start = bytearray(n_bytes)
        n_read, fault = stream.read_into(0, memoryview(start))
    finally:
        stream.close()
    if fault == DAMAGED:
        raise InputError(f"{path} {fault}: not even its header can be read. Copy the file again from where it came from.")
    return bytes(start[:n_read])


class CompressedBytes:
    """The decompressed bytes of an open file, whose file descriptor it owns.

    Reading forward is cheap; going back starts again from the beginning of the file.

    Args:
        fd: the open file.
        compression: 'gz' or 'bz2'.
        data_end: position after the last byte of the images. A read up to this position also verifies the checksum of the archive, and
            that nothing follows.
    """

    def __init__(self, fd: int, compression: str, data_end: int) -> None:
        self.fd = fd
        self._data_end = data_end
        os.lseek(fd, 0, os.SEEK_SET)
        self._file: IO[bytes] = os.fdopen(fd, "rb")
        self._stream: _Stream = gzip.GzipFile(fileobj=self._file) if compression == "gz" else bz2.BZ2File(self._file)

    def read_into(self, position: int, buffer: memoryview) -> tuple[int, str]:
        """Fill the buffer from this position.

        Returns:
            The number of bytes read, which is less than the buffer holds only at the end of the data or before damage, and what to
            report then.
        """
        n_read = 0
        try:
            self._stream.seek(position)
            if self._stream.tell() < position:
                return 0, ENDS_EARLY
            while n_read < len(buffer):
                more = self._stream.readinto1(buffer[n_read:])  # the bytes before an error are kept
                if more == 0:
                    return n_read, ENDS_EARLY
                n_read += more
            if position + n_read == self._data_end:
                more = len(self._stream.read(1))
                return (n_read, "") if not more else (n_read - 1, TOO_LONG)
        except EOFError:
            return min(n_read, len(buffer) - 1), ENDS_EARLY
        except (OSError, zlib.error) as error:
            # gzip and bz2 report damage as an OSError without an errno; one with an errno comes from the system.
            if isinstance(error, OSError) and error.errno is not None:
                raise
            return min(n_read, len(buffer) - 1), DAMAGED
        return n_read, ""

    def close(self) -> None:
        self._stream.close()
        self._file.close()
