"""Checks the name of the file that a command writes, before any work."""

from __future__ import annotations

from pathlib import Path

from cryolike_dask.errors import InputError, OutputError


def check_suffix(path: str | Path, suffixes: tuple[str, ...]) -> None:
    """Refuse a name with the suffix of another format, so that no table or image file is replaced by mistake.

    Args:
        path: as given with `out`.
        suffixes: those that the format may have, in lower case.

    Raises:
        InputError: the name has another suffix.
    """
    if Path(path).suffix.lower() not in suffixes:
        raise InputError(
            f"{path}: the suffix determines the format, so choose a name that ends with {', '.join(suffixes)} (out, --out)."
        )


def output_file(path: str | Path, suffixes: tuple[str, ...], overwrite: bool = True) -> Path:
    """The file to write to.

    Args:
        path, suffixes: see `check_suffix`.
        overwrite: whether an existing file may be replaced.

    Raises:
        InputError: the name has another suffix.
        OutputError: the file exists and may not be replaced, or is a folder, or its folder does not exist.
    """
    target = Path(path).expanduser().absolute()
    if target.is_dir():
        raise OutputError(f"{target} is a folder: choose another name (out, --out).")
    check_suffix(path, suffixes)
    if target.exists() and not overwrite:
        raise OutputError(f"{target} already exists. Choose another name, or replace it (overwrite=True, --overwrite).")
    if not target.parent.is_dir():
        raise OutputError(
            f"{target.parent} is not a folder: make it first, or choose another folder for {target.name} (out, --out)."
        )
    return target
