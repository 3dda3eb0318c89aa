"""Compressed image files, decompressed as they are read.

Nothing is written to disk and no more is decompressed than what is asked for, so what a small file would unpack to does not matter.
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
TOO_LONG = "has more data than its header announces"
_Stream: TypeAlias = gzip.GzipFile | bz2.BZ2File


def compression_of(first_bytes: bytes) -> str:
    """'gz', 'bz2' or '', by the first bytes of a file. Its name does not count; no MRC header begins with these bytes."""
    if first_bytes.startswith(b"\x1f\x8b\x08"):
        return "gz"
    return "bz2" if first_bytes.startswith(b"BZh") else ""


def read_start(path: str, descriptor: int, compression: str, n_bytes: int) -> bytes:
    """The first bytes after decompression, fewer if there are no more. The descriptor stays open.

    Raises:
        InputError: the archive is damaged.
    """
    stream = CompressedBytes(os.dup(descriptor), compression, data_end=-1)
    try:
        start = bytearray(n_bytes)
        got, fault = stream.read_into(0, memoryview(start))
    finally:
        stream.close()
    if fault == DAMAGED:
        raise InputError(f"{path} {fault}: not even its header can be read. Copy the file again from where it came from.")
    return bytes(start[:got])


class CompressedBytes:
    """The decompressed bytes of an open file, whose descriptor it owns.

    Reading onward is cheap; going back starts again from the beginning of the file.

    Args:
        descriptor: the open file.
        compression: 'gz' or 'bz2'.
        data_end: position after the last byte that counts; who reads up to it has the checksum of the archive verified and learns
            that nothing more comes.
    """

    def __init__(self, descriptor: int, compression: str, data_end: int) -> None:
        self.descriptor = descriptor
        self._data_end = data_end
        os.lseek(descriptor, 0, os.SEEK_SET)
        self._file: IO[bytes] = os.fdopen(descriptor, "rb")
        self._stream: _Stream = gzip.GzipFile(fileobj=self._file) if compression == "gz" else bz2.BZ2File(self._file)

    def read_into(self, position: int, buffer: memoryview) -> tuple[int, str]:
        """Fill the buffer from this position; the bytes got (fewer only at the end or before damage) and what stopped them."""
        got = 0
        try:
            self._stream.seek(position)
            if self._stream.tell() < position:
                return 0, ENDS_EARLY
            while got < len(buffer):
                more = self._stream.readinto1(buffer[got:])  # what came before a fault is kept
                if more == 0:
                    return got, ENDS_EARLY
                got += more
            if position + got == self._data_end:
                more = len(self._stream.read(1))
                return (got, "") if not more else (got - 1, TOO_LONG)
        except EOFError:
            return min(got, len(buffer) - 1), ENDS_EARLY
        except (OSError, zlib.error) as error:
            # Both modules report damage as an OSError without a number; one with a number comes from the system.
            if isinstance(error, OSError) and error.errno is not None:
                raise
            return min(got, len(buffer) - 1), DAMAGED
        return got, ""

    def close(self) -> None:
        self._stream.close()
        self._file.close()
