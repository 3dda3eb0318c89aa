"""Params files: `.npz` archives of the values of an image descriptor, which CryoLike writes and reads, too."""

from __future__ import annotations

import io
import pickletools
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cryolike_dask.errors import InputError, MissingFileError, OutputExistsError


def read_params(path: str | Path, keys: Sequence[str]) -> dict[str, Any]:
    """The values of a params file under those of `keys` that it has, without unpickling anything. An absent value is None.

    Raises:
        MissingFileError: the file is missing.
        InputError: it is no params file, or damaged.
    """
    file = Path(path).expanduser()
    values: dict[str, Any] = {}
    try:
        with zipfile.ZipFile(file) as archive:
            # An optional value whose name is damaged would otherwise pass for an absent one.
            damaged = archive.testzip()
            if damaged is not None:
                raise zipfile.BadZipFile(f"{damaged} in it is damaged")
            for key in keys:
                if f"{key}.npy" in archive.namelist():
                    values[key] = _array_or_none(archive.read(f"{key}.npy"))
    except FileNotFoundError:
        raise MissingFileError(
            f"The parameter file {file} does not exist. Write one with `cryolike-dask params {file} ...`."
        ) from None
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error, RuntimeError, SyntaxError) as error:
        raise InputError(f"{file} is not a readable params .npz file ({error}). Write one with `cryolike-dask params`.") from error
    return values


def write_params(path: str | Path, arrays: Mapping[str, npt.NDArray[Any]], *, overwrite: bool) -> None:
    """Write a params file; `.npz` is appended to a name without it, as CryoLike does.

    Raises:
        OutputExistsError: the file is there, and `overwrite` is not set.
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
            f"The parameter file {file} is there already. Choose another name, or replace it with overwrite=True."
        ) from None


def params_path(path: str | Path) -> Path:
    """Where a params file of this name is written: `.npz` is appended to a name without it."""
    file = Path(path).expanduser()
    return file if file.suffix == ".npz" else file.with_name(file.name + ".npz")


def _array_or_none(npy: bytes) -> Any:
    """One array of an .npz member. CryoLike stores None as a pickled object array, which is recognised without unpickling it."""
    stream = io.BytesIO(npy)
    try:
        return np.load(stream, allow_pickle=False)
    except ValueError:
        version = np.lib.format.read_magic(_rewound(stream))
        reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = reader(stream)
        if dtype.hasobject and shape == ():
            names = [op.name for op, _, _ in pickletools.genops(stream.read()) if op.name not in ("MEMOIZE", "BINPUT", "PUT")]
            # The array's content is a list; `[None]` is the only one that is understood.
            start = names.index("EMPTY_LIST") if "EMPTY_LIST" in names else -1
            if start >= 0 and names[start + 1 : start + 3] == ["NONE", "APPEND"]:
                return None
        raise ValueError("it holds a Python object, which is never unpickled from a file") from None


def _rewound(stream: io.BytesIO) -> io.BytesIO:
    stream.seek(0)
    return stream
