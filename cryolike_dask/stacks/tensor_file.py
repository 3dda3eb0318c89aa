"""`.pt` files written in place: reserved at full size first, then filled image by image in any order.

A stack is never in memory whole. The file is what `torch.save` writes, so `torch.load(weights_only=True, mmap=True)` reads it; its
CRC is put in at the end, so that any zip tool tests it clean.
"""

from __future__ import annotations

import os
import struct
import zipfile
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch

from cryolike_dask.filesystem.pinned import create_file
from cryolike_dask.filesystem.reading import open_input
from cryolike_dask.stacks.archive import member_bytes, read_members
from cryolike_dask.stacks.checksums import combine_equal_lengths, crc32, crc32_of_file
from cryolike_dask.stacks.durable import begin_sync

_DATA_ENTRY = "archive/data/0"
_SYNC_BYTES = 8 << 20
"""What is written before the disk is set to work: so much that asking costs nothing, so little that the end need not wait."""


class InPlaceWriter(ABC):
    """Fills the images of a file that lie one after the other. A context manager. Several threads may write different images.

    Args:
        path: the file, for messages.
        shape: (n, ...) of all images.
        dtype: of a value.
        data_offset: bytes before the first image.
        fd: file descriptor, open for writing; closed here.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: np.dtype[Any], data_offset: int, fd: int) -> None:
        self.path = path
        self.dtype = dtype
        self.data_offset = data_offset
        self.image_bytes = int(np.prod(shape[1:], dtype=np.int64)) * dtype.itemsize
        self.crcs = np.zeros(shape[0], dtype=np.uint32)
        self.written = np.zeros(shape[0], dtype=bool)
        self._fd = fd
        self._unsynced = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        os.close(self._fd)

    def write(self, positions: npt.NDArray[np.int64], images: npt.NDArray[Any]) -> None:
        """Write images (k, ...), contiguous and of this dtype, at these positions of the stack; neighbours in one call."""
        flat = images.reshape(len(images), -1).view(np.uint8)
        for i, position in enumerate(positions):
            self.crcs[position] = crc32(flat[i])
        self.written[positions] = True
        first = 0
        while first < len(positions):
            last = first + 1
            while last < len(positions) and positions[last] == positions[last - 1] + 1:
                last += 1
            _write_all(self._fd, flat[first:last], self.data_offset + int(positions[first]) * self.image_bytes)
            first = last
        self._unsynced += flat.nbytes
        if self._unsynced >= _SYNC_BYTES:
            self.begin_sync()

    def crc(self) -> int:
        """CRC-32 of all images' bytes."""
        if not self.written.all():
            raise AssertionError(f"{self.path}: image {int(np.argmin(self.written))} of the stack was never written")
        return combine_equal_lengths(self.crcs.tolist(), self.image_bytes)

    @abstractmethod
    def finish(self) -> int:
        """Complete the file. Returns `crc`."""

    def begin_sync(self) -> None:
        """Set the disk to work on what was written, while the next images are computed. A hint: only `sync` makes it durable."""
        begin_sync(self._fd)
        self._unsynced = 0

    def sync(self) -> None:
        """Make what was written durable.

        Raises:
            OSError: the file system refuses; the file must not be used.
        """
        os.fsync(self._fd)


class TensorFileWriter(InPlaceWriter):
    """Writes one tensor of shape (n, ...) to a `.pt` file.

    Args:
        path: the file; replaced if it exists.
        shape: (n, ...) of the whole tensor.
        dtype: of the tensor.

    Raises:
        OSError: the file system refuses, for instance because it is full. What was written stays at `path`.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        fd = create_file(path)
        try:
            with os.fdopen(os.dup(fd), "wb") as file, torch.serialization.skip_data():
                # The tensor is address space only: nothing touches its pages.
                torch.save(torch.empty(shape, dtype=torch.from_numpy(np.empty(0, dtype)).dtype), file)
            self.layout = read_layout(path)
        except BaseException:
            os.close(fd)
            raise
        super().__init__(path, shape, dtype, self.layout.data_offset, fd)

    def finish(self) -> int:
        """Put in the CRC. The file is complete afterwards, though not durable yet.

        Returns:
            CRC-32 of the tensor's bytes.

        Raises:
            OSError: the file system refuses.
        """
        crc = self.crc()
        for offset in self.layout.crc_offsets:
            _write_all(self._fd, np.frombuffer(struct.pack("<I", crc), dtype=np.uint8), offset)
        return crc


@dataclass(frozen=True)
class TensorLayout:
    """Where the data and their CRC lie in a `.pt` file.

    Args:
        data_offset, data_bytes: the tensor's bytes.
        crc: as the archive states it.
        crc_offsets: places that hold the CRC: in the central directory and behind the data.
    """

    data_offset: int
    data_bytes: int
    crc: int
    crc_offsets: tuple[int, int]


def read_layout(path: Path) -> TensorLayout:
    """The layout of a `.pt` file written here or by `torch.save`, once every byte of it but the data was checked.

    Raises:
        zipfile.BadZipFile, OSError, InputError: it is no such file.
    """
    with open_input(path, "a tensor file") as file:
        members = {member.name: member for member in read_members(file)}
        for name, member in members.items():
            if name != _DATA_ENTRY:
                member_bytes(file, member)
    data = members.get(_DATA_ENTRY)
    if data is None:
        raise zipfile.BadZipFile(f"there is no {_DATA_ENTRY} in it")
    return TensorLayout(data.data_offset, data.size, data.crc, data.crc_offsets)


def checksum_of_data(path: Path, layout: TensorLayout, block_bytes: int = 1 << 22) -> int:
    """CRC-32 of the tensor's bytes as they lie on disk, read in such blocks."""
    return crc32_of_file(path, layout.data_offset, layout.data_bytes, block_bytes)


def _write_all(fd: int, data: npt.NDArray[np.uint8], offset: int) -> None:
    view = data.data.cast("B")
    while view:
        count = os.pwrite(fd, view, offset)
        view = view[count:]
        offset += count
