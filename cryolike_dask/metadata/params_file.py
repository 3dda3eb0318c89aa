"""Params files: `.npz` archives of the values of an image descriptor. CryoLike reads and writes them, too."""

from __future__ import annotations

import io
import pickletools
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cryolike_dask.errors import InputError, MissingFileError, OutputExistsError
from cryolike_dask.filesystem.paths import input_path
from cryolike_dask.filesystem.reading import UNREADABLE_ARRAY, ObjectArrayError, open_archive, open_input, read_arrays

_WHAT = "a params .npz file"
_MOST_BYTES = 1 << 24
"""Size after unpacking. A params file holds a dozen numbers and texts."""


def read_params(path: str | Path, keys: Sequence[str]) -> dict[str, Any]:
    """Read those of the `keys` that a params file has, without unpickling anything. An absent value is None.

    Raises:
        MissingFileError: the file is missing.
        InputError: the file is not a params file, or is damaged.
    """
    file = input_path(path)
    try:
        with open_input(file, _WHAT) as stream, open_archive(stream, file, _WHAT, _MOST_BYTES) as archive:
            # Without this check, an optional value whose name is damaged would be taken as absent.
            damaged = archive.testzip()
            if damaged is not None:
                raise ValueError(f"{damaged} in it is damaged")
            there = {member.removesuffix(".npy") for member in archive.namelist()}
            return {key: _array_or_none(archive, key) for key in keys if key in there}
    except FileNotFoundError:
        raise MissingFileError(
            f"The parameter file {file} does not exist. Write one with `cryolike-dask params {file} ...`."
        ) from None
    except InputError:
        raise
    except UNREADABLE_ARRAY as error:
        raise InputError(f"{file} is not a readable params .npz file ({error}). Write one with `cryolike-dask params`.") from error


def write_params(path: str | Path, arrays: Mapping[str, npt.NDArray[Any]], *, overwrite: bool) -> None:
    """Write a params file; `.npz` is appended to a name without it, as CryoLike does.

    Raises:
        OutputExistsError: the file exists, and `overwrite` is not set.
    """
    file = params_path(path)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        with file.open("wb" if overwrite else "xb") as stream:
            stream.write(buffer.getvalue())
    except FileExistsError:
        raise OutputExistsError(
            f"The parameter file {file} already exists. Choose another name, or replace it with overwrite=True."
        ) from None


def params_path(path: str | Path) -> Path:
    """Where a params file of this name is written: `.npz` is appended to a name without it."""
    file = input_path(path)
    return file if file.suffix == ".npz" else file.with_name(file.name + ".npz")


def _array_or_none(archive: zipfile.ZipFile, key: str) -> Any:
    """One array, or None. CryoLike stores None as a pickled object array, which is recognised here without unpickling it."""
    try:
        return read_arrays(archive, (key,))[key]
    except ObjectArrayError as error:
        if error.shape == ():
            names = [op.name for op, _, _ in pickletools.genops(error.pickle) if op.name not in ("MEMOIZE", "BINPUT", "PUT")]
            # The array's content is pickled as a list; only `[None]` is accepted.
            start = names.index("EMPTY_LIST") if "EMPTY_LIST" in names else -1
            if start >= 0 and names[start + 1 : start + 3] == ["NONE", "APPEND"]:
                return None
        raise
