"""Writes one shard of a Zarr v3 array in place: reserves the full size first, then fills in images in any order.

A shard has the form of Zarr's 'sharding_indexed' codec without compression: the inner chunks one after the other, then their offsets and
sizes, then the CRC-32C of these. An inner chunk holds a few complete images, so that the offset of each image is known beforehand, and
memory never holds a complete stack.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import numpy.typing as npt

from cryolike_dask.errors import InputError, lost_file_error
from cryolike_dask.filesystem.pinned import create_file
from cryolike_dask.stacks.checksums import crc32
from cryolike_dask.stacks.object_store import ObjectStore, open_object_store
from cryolike_dask.stacks.tensor_file import InPlaceWriter, write_all

_READ_BYTES = 32 << 20
_CHUNK_BYTES = 4 << 20
_ABSENT = np.iinfo(np.uint64).max


def images_per_inner_chunk(images_per_shard: int, image_bytes: int) -> int:
    """Number of images of an inner chunk: a divisor of the number in a shard, such that a chunk is small enough to be read alone."""
    most = max(1, _CHUNK_BYTES // image_bytes)
    return max(n for n in range(1, min(images_per_shard, most) + 1) if images_per_shard % n == 0)


def shard_bytes(n_images: int, images_per_shard: int, image_bytes: int) -> int:
    """Size of a shard that holds `n_images` images of at most `images_per_shard`."""
    images_per_chunk = images_per_inner_chunk(images_per_shard, image_bytes)
    n_filled = -(-n_images // images_per_chunk)
    return n_filled * images_per_chunk * image_bytes + 16 * (images_per_shard // images_per_chunk) + 4


def shard_name(array: str, counter: int) -> str:
    """The object that holds a stack's images: array is 'fourier' or 'phys'."""
    return f"{array}/c/{counter}/0/0"


def read_images(
    location: str, array: str, counter: int, shape: tuple[int, ...], dtype: np.dtype[Any], first: int = 0
) -> npt.NDArray[Any]:
    """Images of one stack, (n, ...), starting with image `first`.

    Raises:
        InputError: they are missing.
    """
    image_bytes = int(np.prod(shape[1:])) * dtype.itemsize
    name = shard_name(array, counter)
    try:
        content = open_object_store(location).read(name, first * image_bytes, shape[0] * image_bytes)
    except (FileNotFoundError, NotADirectoryError):
        raise lost_file_error(f"{location}/{name}") from None
    if len(content) != shape[0] * image_bytes:
        raise InputError(f"{location}/{name} is cut off.")
    return np.frombuffer(content, dtype=dtype).reshape(shape)


class ShardWriter(InPlaceWriter):
    """Writes the images of one stack as a shard.

    Args:
        path: the file; replaced if it exists.
        shape: (n, ...) of the stack.
        dtype: of the array.
        images_per_shard: number of images of a full shard; n may be less in the last one.

    Raises:
        OSError: the file system refuses it.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: np.dtype[Any], images_per_shard: int) -> None:
        fd = create_file(path)
        super().__init__(path, shape, dtype, 0, fd)
        self.index = _index(shape[0], images_per_shard, self.image_bytes)
        os.ftruncate(fd, shard_bytes(shape[0], images_per_shard, self.image_bytes))

    def finish(self) -> int:
        """Write the index. The file is then complete, but not durable yet.

        Returns:
            CRC-32 of the bytes of the images.
        """
        crc = self.crc()
        write_all(self._fd, np.frombuffer(self.index, dtype=np.uint8), os.fstat(self._fd).st_size - len(self.index))
        return crc


def check_shard(store: ObjectStore, name: str, n_images: int, images_per_shard: int, image_bytes: int) -> int:
    """Check that a shard exists and has the right size, and that the zeros and the index after its images are undamaged.

    Args:
        store, name: the object.
        n_images, images_per_shard, image_bytes: as for `shard_bytes`.

    Returns:
        its size in bytes.

    Raises:
        InputError: the shard is missing or damaged.
        OSError: the shard cannot be read.
    """
    n_bytes, first = shard_bytes(n_images, images_per_shard, image_bytes), n_images * image_bytes
    index = _index(n_images, images_per_shard, image_bytes)
    expected = bytes(n_bytes - first - len(index)) + index
    try:
        # One byte more than the shard should have.
        found = store.read(name, first, len(expected) + 1)
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{name} is missing") from None
    if len(found) != len(expected):
        raise InputError(f"{name} is damaged: it is too {'short' if len(found) < len(expected) else 'long'}")
    if found != expected:
        raise InputError(f"{name} is damaged: its index or its padding has changed")
    return n_bytes


def checksum_of_images(store: ObjectStore, name: str, n_bytes: int) -> int:
    """CRC-32 of the images of a shard, which are its first `n_bytes` bytes.

    Raises:
        OSError: the shard cannot be read.
    """
    crc = 0
    for first in range(0, n_bytes, _READ_BYTES):
        crc = crc32(store.read(name, first, min(_READ_BYTES, n_bytes - first)), crc)
    return crc


def _index(n_images: int, images_per_shard: int, image_bytes: int) -> bytes:
    images_per_chunk = images_per_inner_chunk(images_per_shard, image_bytes)
    chunk_bytes = images_per_chunk * image_bytes
    entries: npt.NDArray[np.uint64] = np.full((images_per_shard // images_per_chunk, 2), _ABSENT, dtype="<u8")
    n_filled = -(-n_images // images_per_chunk)
    entries[:n_filled, 0] = np.arange(n_filled, dtype=np.uint64) * chunk_bytes
    entries[:n_filled, 1] = chunk_bytes
    content = entries.tobytes()
    return content + int(google_crc32c.value(content)).to_bytes(4, "little")
