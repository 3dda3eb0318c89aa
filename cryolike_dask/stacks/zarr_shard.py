"""One shard of a Zarr v3 array, written in place: reserved at full size first, then filled image by image in any order.

A shard is what Zarr's 'sharding_indexed' codec writes without compression: the inner chunks one after the other, then their offsets and
sizes, then the CRC-32C of these. An inner chunk holds some whole images, so an image lies at a place that is known beforehand, and a
stack is never in memory whole.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import numpy.typing as npt

from cryolike_dask.stacks.tensor_file import InPlaceWriter

_CHUNK_BYTES = 4 << 20
_ABSENT = np.iinfo(np.uint64).max


def chunk_images(n_shard: int, image_bytes: int) -> int:
    """Images of an inner chunk: a divisor of the shard's, few enough to be read on their own."""
    most = max(1, _CHUNK_BYTES // image_bytes)
    return max(n for n in range(1, min(n_shard, most) + 1) if n_shard % n == 0)


def shard_bytes(n_images: int, n_shard: int, image_bytes: int) -> int:
    """Size of a shard that holds n_images of at most n_shard."""
    n_chunk = chunk_images(n_shard, image_bytes)
    filled = -(-n_images // n_chunk)
    return filled * n_chunk * image_bytes + 16 * (n_shard // n_chunk) + 4


class ShardWriter(InPlaceWriter):
    """Writes the images of one stack as a shard.

    Args:
        path: the file; created, or truncated if it exists.
        shape: (n, ...) of the stack.
        dtype: of the array.
        n_shard: images of a full shard; n is less in the last one.

    Raises:
        OSError: the file system refuses.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: np.dtype[Any], n_shard: int) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        super().__init__(path, shape, dtype, 0, descriptor)
        self.index = _index(shape[0], n_shard, self.image_bytes)
        os.ftruncate(descriptor, shard_bytes(shape[0], n_shard, self.image_bytes))

    def finish(self) -> int:
        """Write the index. The file is complete afterwards, though not durable yet.

        Returns:
            CRC-32 of the images' bytes.
        """
        crc = self.crc()
        os.pwrite(self._file, self.index, os.fstat(self._file).st_size - len(self.index))
        return crc


def _index(n_images: int, n_shard: int, image_bytes: int) -> bytes:
    n_chunk = chunk_images(n_shard, image_bytes)
    chunk_bytes = n_chunk * image_bytes
    entries: npt.NDArray[np.uint64] = np.full((n_shard // n_chunk, 2), _ABSENT, dtype="<u8")
    filled = -(-n_images // n_chunk)
    entries[:filled, 0] = np.arange(filled, dtype=np.uint64) * chunk_bytes
    entries[:filled, 1] = chunk_bytes
    content = entries.tobytes()
    return content + int(google_crc32c.value(content)).to_bytes(4, "little")
