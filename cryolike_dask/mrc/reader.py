"""Reads some of the images of an MRC file fast.

In plain files, neighbouring images are read in one system call, and float32 images directly into the caller's array.
`gz` and `bz2` files are read as a stream and decompressed on the way, which is many times slower.
"""

from __future__ import annotations

import os
import socket
from types import TracebackType
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from cryolike_dask.errors import InputError
from cryolike_dask.filesystem.reading import open_regular_file
from cryolike_dask.formatting import plural
from cryolike_dask.mrc.compressed import ENDS_EARLY, CompressedBytes
from cryolike_dask.mrc.header import IMAGE_FILE, ImageFile, read_header, scan_headers

__all__ = ["FloatArray", "ImageFile", "ImageFileReader", "IntArray", "read_header", "scan_headers"]

FloatArray: TypeAlias = npt.NDArray[np.float32] | npt.NDArray[np.float64]
IntArray: TypeAlias = npt.NDArray[np.integer[Any]]

_CAST_BYTES = 8 << 20  # of pixels that are in memory at one time while they are cast


class ImageFileReader:
    """Reads images of one file, which is opened once. A context manager, for one thread at a time.

    Args:
        file: the header, as read when the work was planned.

    Raises:
        InputError: the file is gone, cannot be opened, or has changed since its header was read.
    """

    def __init__(self, file: ImageFile) -> None:
        self.file = file
        self._image_bytes = file.image_bytes
        self._dtype = np.dtype(file.dtype)
        fd = _open_unchanged(file)
        data_end = file.data_offset + file.n_images * self._image_bytes
        self._bytes: _PlainBytes | CompressedBytes
        self._bytes = CompressedBytes(fd, file.compression, data_end) if file.compression else _PlainBytes(fd)

    def read(self, indexes: IntArray, out: FloatArray) -> None:
        """Read images into `out`.

        Args:
            indexes: (k,) images counted from 0, ascending, possibly with repeats.
            out: (k, n_rows, n_columns) float32 or float64, C-contiguous.

        Raises:
            InputError: an index is out of range, or the file ends early or is damaged; the message names the first missing image.
            OSError: the system could not read the file; trying again may help.
        """
        expected = (len(indexes), self.file.n_rows, self.file.n_columns)
        if out.shape != expected or not out.flags.c_contiguous:
            raise ValueError(f"out must be C-contiguous and of shape {expected}; it has shape {out.shape}")
        for start, stop in self._consecutive_runs(indexes):
            first = int(indexes[start])
            if start and first == indexes[start - 1]:
                out[start] = out[start - 1]
                start, first = start + 1, first + 1
            if out.dtype == self._dtype:
                self._read_consecutive(first, out[start:stop])
            else:
                self._read_and_cast(first, out[start:stop])

    def advise(self, indexes: IntArray) -> None:
        """Announce to the operating system that these images (ascending, as for `read`) are needed soon, if it supports that."""
        if self.file.compression or not hasattr(os, "posix_fadvise"):
            return
        for start, stop in self._consecutive_runs(indexes):
            position = self.file.data_offset + int(indexes[start]) * self._image_bytes
            os.posix_fadvise(self._bytes.fd, position, (stop - start) * self._image_bytes, os.POSIX_FADV_WILLNEED)

    def check_unchanged(self) -> None:
        """Make sure that the open file has not changed since its header was read.

        Raises:
            InputError: its size or time has changed.
        """
        _check_unchanged(self.file, os.fstat(self._bytes.fd))

    def close(self) -> None:
        self._bytes.close()

    def __enter__(self) -> ImageFileReader:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _consecutive_runs(self, indexes: IntArray) -> list[tuple[int, int]]:
        """(start, stop) of each run of consecutive images in `indexes`."""
        if len(indexes) == 0:
            return []
        steps = np.diff(np.asarray(indexes, dtype=np.int64))
        if np.any(steps < 0):
            raise ValueError("indexes must be ascending")
        if indexes[0] < 0 or indexes[-1] >= self.file.n_images:
            wrong = int(indexes[0] if indexes[0] < 0 else indexes[-1])
            raise InputError(
                f"Image {wrong} (counted from 0) of {self.file.path} does not exist: it has {plural(self.file.n_images, 'image')}."
            )
        starts = [0, *(np.flatnonzero(steps != 1) + 1).tolist()]
        return list(zip(starts, [*starts[1:], len(indexes)], strict=True))

    def _read_consecutive(self, first: int, images: npt.NDArray[Any]) -> None:
        """Read the images from `first` on as raw bytes."""
        if not len(images):
            return
        position = self.file.data_offset + first * self._image_bytes
        n_read, fault = self._bytes.read_into(position, images.reshape(-1).view(np.uint8).data)
        if n_read < images.nbytes:
            missing = first + n_read // self._image_bytes
            raise InputError(
                f"{self.file.path} {fault}: image {missing + 1} of {self.file.n_images} (counted from 1) cannot be read. "
                "Copy the file again from where it came from."
            )

    def _read_and_cast(self, first: int, images: npt.NDArray[Any]) -> None:
        n_chunk = max(1, _CAST_BYTES // self._image_bytes)
        as_stored = np.empty((min(n_chunk, len(images)), *images.shape[1:]), dtype=self._dtype)
        for start in range(0, len(images), n_chunk):
            part = as_stored[: len(images) - start]
            self._read_consecutive(first + start, part)
            images[start : start + len(part)] = part


class _PlainBytes:
    """The bytes of an open file."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def read_into(self, position: int, buffer: memoryview) -> tuple[int, str]:
        """Fill the buffer from this position.

        Returns:
            The number of bytes read, which is less than the buffer holds only at the end of the file, and what to report then.
        """
        n_read = 0
        while n_read < len(buffer):
            more = os.preadv(self.fd, [buffer[n_read:]], position + n_read)
            if more == 0:
                break
            n_read += more
        return n_read, ENDS_EARLY

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def _open_unchanged(file: ImageFile) -> int:
    host = socket.gethostname()
    try:
        fd = open_regular_file(file.path, IMAGE_FILE)
    except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
        raise InputError(
            f"{file.path} cannot be opened on {host} ({error.strerror}), though its header could be read before. "
            "Every worker must see the image files under the same path."
        ) from error
    try:
        _check_unchanged(file, os.fstat(fd))
    except BaseException:
        os.close(fd)
        raise
    return fd


def _check_unchanged(file: ImageFile, now: os.stat_result) -> None:
    change = file.change(now)
    if change:
        raise InputError(
            f"{file.path} has changed since its header was read: {change}, on {socket.gethostname()}. Wait until it is written "
            "completely, then start again."
        )
