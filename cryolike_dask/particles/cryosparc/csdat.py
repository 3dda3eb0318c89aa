"""Reads cryoSPARC's compressed table format (CSDAT) with the optional package `cryosparc-tools`.

Damaged files can crash the native code of that package, so it runs in a separate process, with this file as its script.
"""

from __future__ import annotations

import importlib.util
import io
import json
import os
import subprocess
import sys
from collections.abc import Collection
from typing import Any

import numpy as np
import numpy.typing as npt

from cryolike_dask.errors import InputError
from cryolike_dask.filesystem.reading import open_input
from cryolike_dask.formatting import format_bytes

MAGIC = b"\x95CSDAT"
_MAX_HEADER_BYTES = 16 << 20
_TIMEOUT_SECONDS = 600


def read_csdat(path: str, wanted: Collection[str]) -> tuple[tuple[str, ...], npt.NDArray[np.void]]:
    """The names of all columns, and the wanted ones that exist, as a structured array.

    Raises:
        InputError: `cryosparc-tools` is not installed, or the file is damaged.
    """
    length, names = _header(path)
    if importlib.util.find_spec("cryosparc") is None:
        raise InputError(
            f"{path} is in cryoSPARC's compressed table format, which needs one more package: "
            "`pip install cryolike-dask[cryosparc]`. Or export the particles again in the uncompressed format."
        )
    present = [name for name in names if name in wanted]
    command = [sys.executable, "-P", "-W", "ignore", __file__, path, *present]
    try:
        decoder = subprocess.run(command, capture_output=True, timeout=_TIMEOUT_SECONDS, check=False)
        rows: Any = np.load(io.BytesIO(decoder.stdout), allow_pickle=False) if decoder.returncode == 0 else None
    except (subprocess.TimeoutExpired, ValueError, EOFError) as error:
        raise InputError(f"{path} is damaged: its rows cannot be decoded ({error}). Copy or export it again.") from error
    if rows is None or len(rows) != length:
        reason = decoder.stderr.decode(errors="replace").strip().rpartition("\n")[2] or f"exit status {decoder.returncode}"
        raise InputError(f"{path} is damaged: its {length} rows cannot be decoded ({reason}). Copy or export it again.")
    return names, rows


def _header(path: str) -> tuple[int, tuple[str, ...]]:
    try:
        with open_input(path, "a .cs file") as file:
            n_file = os.fstat(file.fileno()).st_size
            file.seek(len(MAGIC))
            n_bytes = int.from_bytes(file.read(4), "little")
            header = json.loads(file.read(min(n_bytes, _MAX_HEADER_BYTES)))
            file.seek(-1, os.SEEK_END)
            last_byte = file.read(1)
        length, names = header["length"], tuple(str(column[0]) for column in header["dtype"])
        has_text = any("O" in str(column[1]) for column in header["dtype"])
        row_bytes = sum(np.dtype((kind, *map(tuple, shape)) if shape else kind).itemsize for _, kind, *shape in header["dtype"])
    except InputError:
        raise
    except (OSError, ValueError, LookupError, TypeError, ArithmeticError, RecursionError) as error:
        raise InputError(f"The header of {path} is damaged ({error}). Copy or export it again.") from error
    if not isinstance(length, int) or length < 0:
        raise InputError(f"The header of {path} is damaged: it states {length!r} rows. Copy or export it again.")
    if length * row_bytes > most_unpacked_bytes(n_file):
        raise InputError(
            f"The header of {path} states {length:,} rows of {row_bytes:,} bytes; a compressed table of {format_bytes(n_file)} may unpack "
            f"to {format_bytes(most_unpacked_bytes(n_file))} at most. Copy or export it again."
        )
    if length and has_text and last_byte != b"\0":
        # Texts are at the end of the file, each followed by a zero byte. The decoder would accept a text that is cut off.
        raise InputError(f"{path} is damaged: its end is missing. Copy or export it again.")
    return length, names


def most_unpacked_bytes(n_file: int) -> int:
    """The most bytes to which a compressed table of `n_file` bytes may unpack. Compression saves a factor of 21 at most, but padding texts
    to equal width adds to that."""
    return max(1 << 28, 64 * n_file)


def _decode(path: str, fields: list[str]) -> None:
    from cryosparc.dataset import Dataset

    dataset = Dataset.load(path, fields=fields)
    most = most_unpacked_bytes(os.path.getsize(path))
    columns = {name: _fixed_width(np.asarray(dataset[name]), most) for name in fields}
    rows = np.empty(len(dataset), dtype=[(name, column.dtype, column.shape[1:]) for name, column in columns.items()])
    for name, column in columns.items():
        rows[name] = column
    np.save(sys.stdout.buffer, rows, allow_pickle=False)


def _fixed_width(column: npt.NDArray[Any], most: int) -> npt.NDArray[Any]:
    if column.dtype != object:
        return column
    texts = [str(text).encode() for text in column]
    if (n_bytes := len(texts) * max(map(len, texts), default=0)) > most:
        # All texts get the width of the longest one.
        raise InputError(f"a column of texts takes {format_bytes(n_bytes)}, but may take at most {format_bytes(most)}")
    return np.array(texts)


if __name__ == "__main__":
    _decode(sys.argv[1], sys.argv[2:])
