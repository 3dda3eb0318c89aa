"""Writes `.pt` files in place: reserves the full size first, then fills in images in any order.

Memory never holds a complete stack. The file is the same as that of `torch.save`, byte for byte, so that `torch.load(weights_only=True,
mmap=True)` can read it. It is written without torch, because importing torch takes longer than a small conversion. The CRC is written at
the end, so that any zip tool can verify the file.
"""

from __future__ import annotations

import os
import pickle
import struct
import sys
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from cryolike_dask.errors import InputError, lost_file_error
from cryolike_dask.filesystem.pinned import create_file
from cryolike_dask.filesystem.reading import open_input
from cryolike_dask.stacks.archive import member_bytes, read_members
from cryolike_dask.stacks.checksums import combine_equal_lengths, crc32, crc32_of_file
from cryolike_dask.stacks.durable import begin_sync

_DATA_ENTRY = "archive/data/0"
_ALIGNMENT = 64
_STORAGES = {
    np.dtype(np.float32): b"FloatStorage",
    np.dtype(np.complex64): b"ComplexFloatStorage",
    np.dtype(np.complex128): b"ComplexDoubleStorage",
}
_HASH_OF_NAMES = 15728199511854643026
"""First part of torch's serialization ID: a hash of the names of the members, which are always the same."""
_IN_ZIP64 = 0xFFFFFFFF
_TUPLES = {1: b"\x85", 2: b"\x86", 3: b"\x87"}
"""Pickle's opcodes for tuples, by number of values."""
_SYNC_BYTES = 8 << 20
"""Bytes between two requests to write to the disk: large enough that requests cost nothing, and small enough that the end need not wait."""


class InPlaceWriter(ABC):
    """Fills a file with consecutive images. Use it as a context manager. Several threads may write different images.

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
        """Write images (k, ...), contiguous and of this dtype, at these positions of the stack. Consecutive images take one call."""
        flat = images.reshape(len(images), -1).view(np.uint8)
        for i, position in enumerate(positions):
            self.crcs[position] = crc32(flat[i])
        self.written[positions] = True
        first = 0
        while first < len(positions):
            last = first + 1
            while last < len(positions) and positions[last] == positions[last - 1] + 1:
                last += 1
            write_all(self._fd, flat[first:last], self.data_offset + int(positions[first]) * self.image_bytes)
            first = last
        self._unsynced += flat.nbytes
        if self._unsynced >= _SYNC_BYTES:
            self.begin_sync()

    def crc(self) -> int:
        """CRC-32 of the bytes of all images."""
        if not self.written.all():
            raise AssertionError(f"{self.path}: image {int(np.argmin(self.written))} of the stack was never written")
        return combine_equal_lengths(self.crcs.tolist(), self.image_bytes)

    @abstractmethod
    def finish(self) -> int:
        """Complete the file. Returns `crc`."""

    def begin_sync(self) -> None:
        """Let the system write to the disk while the next images are computed. This is a hint: only `sync` makes the file durable."""
        begin_sync(self._fd)
        self._unsynced = 0

    def sync(self) -> None:
        """Make the content of the file durable.

        Raises:
            OSError: the file system refuses it; the file must not be used.
        """
        os.fsync(self._fd)


class TensorFileWriter(InPlaceWriter):
    """Writes one tensor of shape (n, ...) to a `.pt` file.

    Args:
        path: the file; replaced if it exists.
        shape: (n, ...) of the whole tensor.
        dtype: float32, complex64 or complex128.

    Raises:
        OSError: the file system refuses it, for example because it is full. The incomplete file stays at `path`.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        fd = create_file(path)
        try:
            _reserve(fd, shape, np.dtype(dtype))
            self.layout = read_layout(path)
        except BaseException:
            os.close(fd)
            raise
        super().__init__(path, shape, dtype, self.layout.data_offset, fd)

    def finish(self) -> int:
        """Write the CRC. The file is then complete, but not durable yet.

        Returns:
            CRC-32 of the tensor's bytes.

        Raises:
            OSError: the file system refuses it.
        """
        crc = self.crc()
        for offset in self.layout.crc_offsets:
            write_all(self._fd, np.frombuffer(struct.pack("<I", crc), dtype=np.uint8), offset)
        return crc


@dataclass(frozen=True)
class TensorLayout:
    """The positions of the data and of their CRC in a `.pt` file.

    Args:
        data_offset, data_bytes: offset and number of the tensor's bytes.
        crc: their CRC-32 according to the archive.
        crc_offsets: offsets of the CRC in the central directory and after the data.
    """

    data_offset: int
    data_bytes: int
    crc: int
    crc_offsets: tuple[int, int]


def read_layout(path: Path) -> TensorLayout:
    """The layout of a `.pt` file written here or by `torch.save`, after every byte of it but the data was checked.

    Raises:
        zipfile.BadZipFile, OSError, InputError: the file is damaged, or is not such a file.
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


def map_images(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """The images (n, ...) of a `.pt` file that a stack's metadata describe, memory-mapped, without loading torch.

    Raises:
        InputError: the file is missing, damaged or of another size.
    """
    try:
        layout = read_layout(path)
    except FileNotFoundError:
        raise lost_file_error(path) from None
    except zipfile.BadZipFile as error:
        raise InputError(f"{path} is damaged ({error}).") from error
    if layout.data_bytes != int(np.prod(shape, dtype=np.int64)) * dtype.itemsize:
        raise InputError(f"{path} holds {layout.data_bytes:,} bytes of images, but its metadata say {dtype} {shape}.")
    return np.memmap(path, dtype, "r", layout.data_offset, shape)


def checksum_of_data(path: Path, layout: TensorLayout, block_bytes: int = 1 << 22) -> int:
    """CRC-32 of the tensor's bytes on disk, read in blocks of `block_bytes`."""
    return crc32_of_file(path, layout.data_offset, layout.data_bytes, block_bytes)


def _reserve(fd: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Write all of a tensor's file but its data, for which a hole of zeros is left."""
    n_bytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    contents = {
        "data.pkl": _pickled(shape, dtype),
        ".format_version": b"1",
        ".storage_alignment": str(_ALIGNMENT).encode(),
        "byteorder": sys.byteorder.encode(),
        "data/0": b"",
        "version": b"3\n",
    }
    contents[".data/serialization_id"] = f"{_HASH_OF_NAMES:020d}{_combined([crc32(c) for c in contents.values()]):020d}".encode()
    directory, offset = b"", 0
    for member, content in contents.items():
        name = f"archive/{member}".encode()
        size = n_bytes if name.decode() == _DATA_ENTRY else len(content)
        # Numbers that do not fit into 32 bits are in an extra field.
        large, far = size >= _IN_ZIP64, offset >= _IN_ZIP64
        place = struct.pack("<Q", offset) if far else b""
        extra = _extra((struct.pack("<QQ", size, 0) if large else b"") + place)
        extra += _padding(offset + 30 + len(name) + len(extra))
        common = struct.pack("<HHHHH", 0, 0x0808, 0, 0, 0)
        head = struct.pack("<4s10sLLLHH", b"PK\x03\x04", common, 0, 0, 0, len(name), len(extra)) + name + extra
        descriptor = struct.pack("<4sLQQ" if large or far else "<4sLLL", b"PK\x07\x08", crc32(content), size, size)
        extra = _extra((struct.pack("<QQ", size, size) if large else b"") + place)
        stated = min(size, _IN_ZIP64)
        directory += struct.pack("<4sH10sLLL", b"PK\x01\x02", 0, common, crc32(content), stated, stated)
        directory += struct.pack("<HHHHHLL", len(name), len(extra), 0, 0, 0, 0, min(offset, _IN_ZIP64)) + name + extra
        write_all(fd, np.frombuffer(head + content, dtype=np.uint8), offset)
        offset += len(head) + size + len(descriptor)
        write_all(fd, np.frombuffer(descriptor, dtype=np.uint8), offset - len(descriptor))
    n, size = len(contents), len(directory)
    end = struct.pack("<4sQHHLLQQQQ", b"PK\x06\x06", 44, 0x031E, 45, 0, 0, n, n, size, offset)
    end += struct.pack("<4sLQL", b"PK\x06\x07", 0, offset + size, 1)
    end += struct.pack("<4sHHHHLLH", b"PK\x05\x06", 0, 0, n, n, size, min(offset, _IN_ZIP64), 0)
    write_all(fd, np.frombuffer(directory + end, dtype=np.uint8), offset)


def _pickled(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bytes:
    """The pickle of a contiguous tensor of up to three dimensions, as torch writes it: the call that makes it from its storage."""
    strides = tuple(int(np.prod(shape[axis + 1 :], dtype=np.int64)) for axis in range(len(shape)))
    storage = (
        b"(X\x07\x00\x00\x00storageq\x01ctorch\n" + _STORAGES[dtype] + b"\nq\x02X\x01\x00\x00\x000q\x03X\x03\x00\x00\x00cpuq\x04"
    )
    n_values = int(np.prod(shape, dtype=np.int64))
    return (
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nq\x00("
        + (storage + _pickled_integers((n_values,)) + b"tq\x05Q")
        + (_pickled_integers((0, *shape)) + _TUPLES[len(shape)] + b"q\x06")
        + (_pickled_integers(strides) + _TUPLES[len(shape)] + b"q\x07")
        + b"\x89ccollections\nOrderedDict\nq\x08)Rq\ttq\nRq\x0b."
    )


def _pickled_integers(values: Iterable[int]) -> bytes:
    return b"".join(pickle.dumps(value, 2)[2:-1] for value in values)


def _combined(crcs: Iterable[int]) -> int:
    """The hash of several numbers, as torch computes it."""
    seed = 0
    for crc in crcs:
        seed ^= (crc + 0x9E3779B9 + (seed << 6) + (seed >> 2)) & 0xFFFFFFFFFFFFFFFF
    return seed


def _extra(numbers: bytes) -> bytes:
    """The extra field for 64-bit numbers, if there are any."""
    return struct.pack("<HH", 1, len(numbers)) + numbers if numbers else b""


def _padding(start: int) -> bytes:
    """The extra field of padding that aligns data which would otherwise begin at `start`."""
    n = -(start + 4) % _ALIGNMENT
    return struct.pack("<2sH", b"FB", n) + b"Z" * n


def write_all(fd: int, data: npt.NDArray[np.uint8], offset: int) -> None:
    """Write bytes at an offset of an open file. The system may write fewer bytes than it was given, so this may take several calls."""
    view = data.data.cast("B")
    while view:
        count = os.pwrite(fd, view, offset)
        view = view[count:]
        offset += count
