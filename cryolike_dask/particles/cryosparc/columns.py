"""Interprets the columns of a cryoSPARC table: CTF, optics groups, pixel size and images."""

from __future__ import annotations

import os
from difflib import get_close_matches
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cryolike_dask.errors import InputError
from cryolike_dask.filesystem.paths import input_path
from cryolike_dask.formatting import plural
from cryolike_dask.metadata.optics import check_optics
from cryolike_dask.particles.cryosparc.alignments import ALIGNMENTS
from cryolike_dask.particles.cryosparc.table import CsTable, join_columns_by_uid
from cryolike_dask.particles.image_paths import has_control_characters, resolve_image_paths

BLOB_REQUIRED = ("blob/path", "blob/idx")
BLOB = (*BLOB_REQUIRED, "blob/psize_A", "blob/shape", "blob/sign")

_CTF = {
    "defocus_u": "ctf/df1_A",
    "defocus_v": "ctf/df2_A",
    "defocus_angle": "ctf/df_angle_rad",
    "spherical_aberration": "ctf/cs_mm",
    "voltage": "ctf/accel_kv",
}
_CONTRAST = (
    "ctf/amp_contrast",
    "ctf/ac",
    "ctf/amp_constrast",
)  # the current name, the name in old versions, and the name on CryoLike's format page
_PHASE_SHIFT, _GROUP = "ctf/phase_shift_rad", "ctf/exp_group_id"
CTF = (*_CTF.values(), *_CONTRAST, _PHASE_SHIFT, _GROUP)

COLUMNS = ("uid", *BLOB, *CTF, *ALIGNMENTS)
_OPTIONAL = ("uid", "blob/psize_A", "blob/shape", "blob/sign", _PHASE_SHIFT, _GROUP)


def with_ctf(table: CsTable) -> CsTable:
    """The table with CTF columns. If it has none, they are looked up by uid in a table beside it."""
    if any(name in table for name in (*_CTF.values(), *_CONTRAST)):
        return table
    return join_columns_by_uid(table, CTF, _CTF.values(), "the CTF columns")


def fill_ctf(rows: npt.NDArray[np.void], table: CsTable) -> tuple[tuple[str, ...], list[str]]:
    """Write the CTF, optics group and uid of each particle into rows of PARTICLE_DTYPE.

    Returns:
        The names of the optics groups, and warnings.

    Raises:
        InputError: a column is missing or probably misspelt, or a value is not a finite number, or not possible for a microscope.
    """
    contrast = next((name for name in _CONTRAST if name in table), _CONTRAST[0])
    _check_columns(table, (*_CTF.values(), contrast))
    _check_spelling(table)
    for field, name in {**_CTF, "amplitude_contrast": contrast}.items():
        rows[field] = finite_floats(table, name)
    warnings = [f"{table.path} has no {what}: they were looked up by uid in {origin}." for what, origin in _joined_columns(table)]
    if _PHASE_SHIFT in table:
        rows["phase_shift"] = finite_floats(table, _PHASE_SHIFT)
    else:
        warnings.append(f"{table.path} has no column {_PHASE_SHIFT}: phase shifts are taken to be 0 (no phase plate).")
    names = {**_CTF, "amplitude_contrast": contrast} | ({"phase_shift": _PHASE_SHIFT} if _PHASE_SHIFT in table else {})
    check_optics({field: rows[field] for field in names}, names, table.where_all)
    if "uid" in table:
        rows["uid"] = table["uid"]
    if _GROUP not in table:
        return ("",), warnings
    groups, rows["optics_group"] = np.unique(integers(table, _GROUP), return_inverse=True)
    return tuple(f"exposure group {group}" for group in groups), warnings


def fill_pixel_size(rows: npt.NDArray[np.void], table: CsTable) -> list[str]:
    """Write the pixel sizes that the table states. Returns warnings."""
    if "blob/psize_A" not in table:
        return []
    stated = _numbers(table, "blob/psize_A")
    wrong = np.flatnonzero(np.isinf(stated) | (stated < 0))
    if len(wrong):
        row = int(wrong[0])
        raise InputError(f"{table.where(row, 'blob/psize_A')} is {stated[row]}: the pixel size must be a positive number, in Å.")
    rows["pixel_size"] = np.where(stated > 0, stated, np.nan)
    unstated = np.flatnonzero(~(stated > 0))
    if not len(unstated):
        return []
    row = int(unstated[0])
    where = table.where(row, "blob/psize_A")
    return [f"{where} is {stated[row]:g}: the table states no pixel size for {plural(len(unstated), 'particle')}."]


def fill_image_size(rows: npt.NDArray[np.void], table: CsTable) -> None:
    """Write the rows and columns of the images, if the table states them.

    Raises:
        InputError: the column does not hold two whole numbers for each particle.
    """
    if "blob/shape" not in table:
        return
    shape = table["blob/shape"]
    if shape.dtype.kind not in "iu" or shape.shape != (len(table), 2):
        raise InputError(
            f"The column blob/shape of {table.path} holds {shape.shape[1:] or 'one'} values of type {shape.dtype}: two whole numbers are "
            "needed, the rows and columns of the image."
        )
    rows["box_rows"], rows["box_columns"] = np.clip(shape, 0, np.iinfo(np.int32).max).T


def fill_sign(rows: npt.NDArray[np.void], table: CsTable) -> tuple[tuple[str, ...], list[str]]:
    """Write whether particles are dark, according to `blob/sign`. Returns notes for the record, and warnings."""
    if "blob/sign" not in table:
        return (), []
    rows["sign"] = np.sign(np.nan_to_num(_numbers(table, "blob/sign"))).astype(np.int8)
    negative = int(np.count_nonzero(rows["sign"] < 0))
    if not negative:
        return (), []
    if negative == len(table):
        return ("blob/sign is -1 for all particles",), []
    mixed = (
        f"{table.path}: blob/sign is -1 (dark particles) for {negative:,} of {len(table):,} particles, and not for the others. "
        "Their images must not be compared as they are: choose contrast='auto' (--contrast auto), which multiplies each image by its sign."
    )
    return (f"blob/sign is -1 for {negative} particles",), [mixed]


def recorded_paths(table: CsTable) -> tuple[list[str], npt.NDArray[np.int64]]:
    """The distinct paths in `blob/path`, without the leading `>`, and (n,) which of them each row has.

    Raises:
        InputError: a path is empty or not text.
    """
    column = table["blob/path"]
    if column.dtype.kind not in "SU" or column.ndim != 1:
        raise InputError(f"The column blob/path of {table.path} is of type {column.dtype}, not text. Export the particles again.")
    code, distinct = pd.factorize(column.astype(object))
    code = np.asarray(code, dtype=np.int64)
    paths = []
    for i, recorded in enumerate(distinct):
        try:
            text = recorded.decode("utf-8") if isinstance(recorded, bytes) else str(recorded)
        except UnicodeDecodeError:
            text = ""
        paths.append(text.removeprefix(">"))
        if not paths[-1].strip() or has_control_characters(paths[-1]):
            row = int(np.argmax(code == i))
            raise InputError(f"{table.where(row, 'blob/path')} is {recorded!r}, which is not a path. Correct the table.")
    return paths, code


def fill_images(
    rows: npt.NDArray[np.void], table: CsTable, folder: str | os.PathLike[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Write which image each row describes, by `blob/path` and `blob/idx`. Returns the distinct image files, and notes about them.

    Raises:
        InputError: a column is missing, a path or index is impossible, or two recorded files become the same file in the folder.
    """
    _check_columns(table, BLOB_REQUIRED)
    recorded, code = recorded_paths(table)
    resolved, notes = resolve_image_paths(recorded, folder if isinstance(folder, str) else input_path(folder), table.path)
    files: dict[str, int] = {}
    position = np.array([files.setdefault(path, len(files)) for path in resolved], dtype=np.int32)
    rows["file"] = position[code]
    rows["index"] = image_indexes(table)
    return tuple(files), notes


def image_indexes(table: CsTable) -> npt.NDArray[np.int64]:
    """(n,) `blob/idx`, counted from 0, as int64, because the stored uint32 would overflow when multiplied by bytes."""
    indexes = integers(table, "blob/idx").astype(np.int64)
    wrong = np.flatnonzero(indexes < 0)
    if len(wrong):
        raise InputError(f"{table.where(int(wrong[0]), 'blob/idx')} is {indexes[wrong[0]]}: images are counted from 0.")
    return indexes


def finite_floats(table: CsTable, name: str) -> npt.NDArray[np.float64]:
    """A numeric column as float64; values that are not finite are refused."""
    values = _numbers(table, name)
    wrong = np.flatnonzero(~np.isfinite(values))
    if len(wrong):
        row = int(wrong[0])
        raise InputError(f"{table.where(row, name)} is {values[row]}, not a finite number. Correct or leave out that particle.")
    return values


def integers(table: CsTable, name: str) -> npt.NDArray[np.integer[Any]]:
    """An integer column."""
    column = table[name]
    if column.dtype.kind not in "iu" or column.ndim != 1:
        raise InputError(
            f"The column {name} of {table.path} is of type {column.dtype}: whole numbers are needed, one per particle."
        )
    return column


def _numbers(table: CsTable, name: str) -> npt.NDArray[np.float64]:
    column = table[name]
    if column.dtype.kind not in "fiu" or column.ndim != 1:
        raise InputError(f"The column {name} of {table.path} is of type {column.dtype}: numbers are needed, one per particle.")
    return column.astype(np.float64)


def _joined_columns(table: CsTable) -> list[tuple[str, str]]:
    kinds = {f"{name.partition('/')[0]}/* columns": origin for name, origin in table.joined.items()}
    return sorted(kinds.items())


def _check_columns(table: CsTable, required: tuple[str, ...]) -> None:
    missing = [name for name in required if name not in table]
    if not missing:
        return
    close = [match for name in missing for match in get_close_matches(name, set(table.names) - set(COLUMNS), n=1, cutoff=0.8)]
    hint = f" Is {', '.join(close)} a misspelling?" if close else ""
    raise InputError(f"{table.path} lacks the column {', '.join(missing)}.{hint} Export the particles from cryoSPARC again.")


def _check_spelling(table: CsTable) -> None:
    """Refuse an optional column with a slightly wrong name, which would otherwise be ignored silently."""
    unknown = [name for name in table.names if name not in COLUMNS]
    for name in _OPTIONAL:
        close = [other for other in unknown if _nearly_equal(other, name)] if name not in table else []
        if close:
            raise InputError(f"{table.path} has no column {name} but one named {close[0]}. Correct the name.")


def _nearly_equal(a: str, b: str) -> bool:
    """Whether two names differ only by case, or by one character."""
    return a.lower() == b.lower() or (len(a) == len(b) and sum(x != y for x, y in zip(a, b, strict=True)) == 1)
