"""CRC-32 of stacks written in any order, and sealed records, which show whether they have changed.

A zip archive, and therefore a `.pt` file, contains the CRC-32 of its data. Images are written in any order, so a CRC is computed for each
image, and these are combined to that of the stack: CRC is linear over GF(2), and appending L bytes to a message multiplies its CRC by a
fixed 32 x 32 bit matrix (Adler, zlib's crc32_combine).
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from isal import isal_zlib

from cryolike_dask.settings import fingerprint

_POLYNOMIAL = 0xEDB88320
_SEAL = "checksum"


def seal(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record for JSON, with the SHA-256 of all its values added as the last value."""
    content = {key: value for key, value in record.items() if key != _SEAL}
    return content | {_SEAL: fingerprint(content)}


def is_sealed(record: Mapping[str, Any]) -> bool:
    """Whether a record read from JSON is unchanged since it was sealed."""
    return bool(record.get(_SEAL) == seal(record)[_SEAL])


def crc32(data: Any, start: int = 0) -> int:
    """CRC-32 of a contiguous buffer, continuing from the CRC `start`."""
    return int(isal_zlib.crc32(data, start))


def crc32_of_file(path: Path, first: int = 0, size: int | None = None, block_bytes: int = 1 << 22) -> int:
    """CRC-32 of a file, or of at most `size` bytes from the offset `first`, read in blocks of `block_bytes`."""
    crc, n_left = 0, sys.maxsize if size is None else size
    with path.open("rb") as file:
        file.seek(first)
        while n_left and (block := file.read(min(block_bytes, n_left))):
            crc = crc32(block, crc)
            n_left -= len(block)
    return crc


def combine_equal_lengths(crcs: Iterable[int], length: int) -> int:
    """The CRC-32 of blocks of `length` bytes each, one after the other, from the blocks' own CRCs."""
    tables = _append_tables(length)
    total = 0
    for crc in crcs:
        total = (
            tables[0][total & 255]
            ^ tables[1][(total >> 8) & 255]
            ^ tables[2][(total >> 16) & 255]
            ^ tables[3][total >> 24]
            ^ int(crc)
        )
    return total


@lru_cache(maxsize=16)
def _append_tables(length: int) -> list[list[int]]:
    """For each byte of a CRC and each of its values, the contribution to the CRC after `length` more bytes."""
    operator = _identity()
    square = _one_zero_bit()
    bits = 8 * length
    while bits:
        if bits & 1:
            operator = _multiply(square, operator)
        square = _multiply(square, square)
        bits >>= 1
    return [[_apply(operator, value << (8 * byte)) for value in range(256)] for byte in range(4)]


def _identity() -> npt.NDArray[np.uint32]:
    return (np.uint32(1) << np.arange(32, dtype=np.uint32)).astype(np.uint32)


def _one_zero_bit() -> npt.NDArray[np.uint32]:
    """The matrix that appends one zero bit to a message. Column i is the result for bit i of the CRC."""
    columns = np.zeros(32, dtype=np.uint32)
    columns[0] = _POLYNOMIAL
    columns[1:] = np.uint32(1) << np.arange(31, dtype=np.uint32)
    return columns


def _multiply(left: npt.NDArray[np.uint32], right: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    return np.array([_apply(left, int(column)) for column in right], dtype=np.uint32)


def _apply(matrix: npt.NDArray[np.uint32], vector: int) -> int:
    result = 0
    for bit in range(32):
        if vector >> bit & 1:
            result ^= int(matrix[bit])
    return result
