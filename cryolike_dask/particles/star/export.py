"""Writes the converted particles as a STAR file, for RELION and other programs.

This module formats the text itself, because `starfile` formats each value on its own, which takes as long as some conversions for two
million particles.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cryolike_dask.errors import InputError, OutputError
from cryolike_dask.filesystem.pinned import temporary_folder
from cryolike_dask.particles.display import as_typed
from cryolike_dask.particles.source_columns import SourceColumns, read_source_columns
from cryolike_dask.particles.star.quoting import quoted_values
from cryolike_dask.particles.table import ParticleTable

STACK_COLUMN, POSITION_COLUMN = "cryolikeStack", "cryolikeStackPosition"
"""Our own columns: the counter of the stack that holds the image, and the position of the image in it, both from 0."""

_FORMATS = {"i": "%d", "u": "%d", "f": "%.15g", "O": "%s"}
"""Format of each kind of column. Angles in degrees can be read back to better than 1e-9."""
_CHUNK_ROWS = 50_000
_TAKEN_OVER = ""  # stands for all columns that are copied from the source

OPTICS = {"rlnVoltage": "voltage", "rlnSphericalAberration": "spherical_aberration", "rlnAmplitudeContrast": "amplitude_contrast"}
_LENGTHS = {"rlnDefocusU": "defocus_u", "rlnDefocusV": "defocus_v"}
_ANGLES = {"rlnDefocusAngle": "defocus_angle", "rlnPhaseShift": "phase_shift"}
_OPTIONAL_ANGLES = {
    "rlnAngleRot": ("angle_rotation", "pose_rotation"),
    "rlnAngleTilt": ("angle_tilt", "pose_tilt"),
    "rlnAnglePsi": ("angle_psi", "pose_psi"),
}
_ORIGINS = {"rlnOriginXAngst": "origin_x", "rlnOriginYAngst": "origin_y"}
_PRIORS = {f"rlnOrigin{axis}Prior{unit}" for axis in "XY" for unit in ("", "Angst")}
APPLIED_ORIGINS = {"rlnOriginXAngst": "cryolikeAppliedOriginXAngst", "rlnOriginYAngst": "cryolikeAppliedOriginYAngst"}
"""Our columns for the origins that were applied to the images of the stacks, by RELION's column."""
_OPTIONAL = {"rlnCtfBfactor": "b_factor", "rlnCtfScalefactor": "scale_factor"}
_GROUP_NAME = "rlnOpticsGroupName"
_PIXEL_SIZES = ("rlnImagePixelSize", "rlnPixelSize", "rlnDetectorPixelSize", "rlnMagnification")
_OF_OPTICS = ("rlnOpticsGroup", _GROUP_NAME, *OPTICS, *_PIXEL_SIZES, "rlnImageSize", "rlnImageDimensionality")
"""Columns that are written for each optics group, with the values that the conversion used."""


def write_particles_star(
    path: str | Path,
    table: ParticleTable,
    stack_of_row: npt.NDArray[np.integer[Any]],
    position_in_stack: npt.NDArray[np.integer[Any]],
    pixel_size: float | npt.NDArray[np.float64],
    box: int,
    *,
    origins_applied: bool = False,
) -> tuple[str, ...]:
    """Write particles as a RELION 3.1 STAR file, in the order of the table. An existing file is replaced when the new one is complete.

    Viewing angles, origins, B-factor and scale factor are written if every particle states them. Optics groups are those of the tables,
    or, if there are none, one per combination of voltage, Cs, amplitude contrast and pixel size. All other columns that all tables have
    are copied. Particles cut from micrographs get the micrograph and the centre of their box instead of an image name.

    Args:
        path: the file to write.
        table: the particles, in output order, with origins in Å.
        stack_of_row: (n,) counter of the stack that holds each image.
        position_in_stack: (n,) position of the image in that stack, from 0.
        pixel_size: Å, of the images that the table names; one for all, or (n,).
        box: edge length of these images in pixels.
        origins_applied: whether the images of the stacks were moved by their origins. If so, the origins are written as 0, and the ones
            that were applied are in separate columns, because the images that the table names were not moved.

    Returns:
        Warnings for the user.

    Raises:
        InputError: STAR cannot hold the path of an image file, or only some particles are cut from micrographs.
        OutputError: the file cannot be written.
    """
    particles = _particles(table)
    replaced = {*particles, *_OF_OPTICS, *_said_otherwise(particles), STACK_COLUMN, POSITION_COLUMN}
    if origins_applied:
        particles |= {applied: particles[origin] for origin, applied in APPLIED_ORIGINS.items()}
        particles |= dict.fromkeys(_ORIGINS, np.zeros(len(table), dtype=np.int64))
        replaced |= _PRIORS
    others = read_source_columns(table, replaced)
    optics, optics_rows, group = _optics(table, pixel_size, box, others)
    if others.names:
        particles[_TAKEN_OVER] = others.rows
    if others.optics_names:
        optics[_TAKEN_OVER] = optics_rows
    particles |= {"rlnOpticsGroup": group, STACK_COLUMN: stack_of_row, POSITION_COLUMN: position_in_stack}
    target = Path(path).expanduser()
    try:
        with temporary_folder(f".{target.name}.", target.parent) as folder:
            temporary = folder / target.name
            with temporary.open("w", encoding="utf-8", newline="\n") as file:
                file.writelines(_table("optics", optics, others.optics_names))
                file.writelines(_table("particles", particles, others.names))
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
    except OSError as error:
        raise OutputError(
            f"{target} cannot be written: {error}. Check that its folder exists, is writable and has room."
        ) from error
    return others.warnings + _left_out(table)


def _left_out(table: ParticleTable) -> tuple[str, ...]:
    """A warning about each column that only some particles state."""
    names = _ORIGINS | {column: pose for column, (_, pose) in _OPTIONAL_ANGLES.items()}
    some = {column: int(np.isnan(table[name]).sum()) for column, name in names.items()}
    return tuple(
        f"particles.star lacks {column}, which {n:,} of {len(table):,} particles do not state."
        for column, n in some.items()
        if 0 < n < len(table)
    )


def _optics(
    table: ParticleTable, pixel_size: float | npt.NDArray[np.float64], box: int, others: SourceColumns
) -> tuple[dict[str, npt.NDArray[Any]], npt.NDArray[np.object_], npt.NDArray[np.integer[Any]]]:
    """The optics table, the other columns of each group, and the (n,) numbers of the particles' groups, from 1."""
    values = pd.DataFrame({column: table[name] for column, name in OPTICS.items()})
    values = values.assign(rlnImagePixelSize=pixel_size, source=others.group)
    group = values.groupby(list(values), sort=False).ngroup().to_numpy() + 1
    optics = values.drop_duplicates(ignore_index=True)
    of_source = optics.pop("source").to_numpy()
    optics = pd.DataFrame({name: as_typed(column.to_numpy(dtype=np.float64)) for name, column in optics.items()})
    numbers = np.arange(1, len(optics) + 1)
    names = np.array([others.group_names[source] for source in of_source], dtype=object)
    if "" in names or len(set(names)) < len(names):
        names = np.array([f"opticsGroup{number}" for number in numbers], dtype=object)
    optics.insert(0, "rlnOpticsGroup", numbers)
    optics.insert(1, _GROUP_NAME, names)
    optics = optics.assign(rlnImageSize=box, rlnImageDimensionality=2)
    columns = {str(name): column.to_numpy() for name, column in optics.items()}
    return columns, np.array([others.optics_rows[source] for source in of_source], dtype=object), group


def _particles(table: ParticleTable) -> dict[str, npt.NDArray[Any]]:
    _check_paths(table.files)
    columns = image_columns(table) | ctf_columns(table)
    for name in columns.keys() & {"rlnImageName", "rlnMicrographName"}:
        columns[name] = quoted_values(columns[name])
    for column, names in _OPTIONAL_ANGLES.items():
        stated = next((name for name in names if _stated(table, name)), None)
        if stated is not None:
            columns[column] = np.degrees(table[stated])
    return columns | {column: table[name] for column, name in _ORIGINS.items() if _stated(table, name)}


def _said_otherwise(particles: Collection[str]) -> tuple[str, ...]:
    """Columns that have the same meaning as these, in another unit."""
    return ("rlnOriginX", "rlnOriginY", *APPLIED_ORIGINS.values()) if "rlnOriginXAngst" in particles else ()


def ctf_columns(table: ParticleTable) -> dict[str, npt.NDArray[Any]]:
    """The columns of the CTF that RELION has for each particle: (n,) each, in degrees and Å. `OPTICS` has the others."""
    columns = {column: table[name] for column, name in _LENGTHS.items()}
    columns |= {column: np.degrees(table[name]) for column, name in _ANGLES.items()}
    return columns | {column: table[name] for column, name in _OPTIONAL.items() if _stated(table, name)}


def _table(name: str, columns: dict[str, npt.NDArray[Any]], taken_over: Sequence[str]) -> Iterator[str]:
    """The lines of a table. Columns copied from the source are one text per row; `taken_over` has their names."""
    yield star_header(name, chain.from_iterable(taken_over if column == _TAKEN_OVER else (column,) for column in columns))
    yield from star_rows(columns)
    yield "\n\n"


def star_header(name: str, columns: Iterable[str]) -> str:
    """The lines of a STAR table before its rows."""
    names = "".join(f"_{column} #{number}\n" for number, column in enumerate(columns, 1))
    return f"data_{name}\n\nloop_\n{names}"


def star_rows(columns: Mapping[str, npt.NDArray[Any]]) -> Iterator[str]:
    """The rows of a STAR table, in pieces of many lines. Text is written as it is; see `quoted_values`."""
    row = "\t".join(_FORMATS[values.dtype.kind] for values in columns.values()) + "\n"
    n_rows = len(next(iter(columns.values())))
    for first in range(0, n_rows, _CHUNK_ROWS):
        part = (values[first : first + _CHUNK_ROWS].tolist() for values in columns.values())
        yield "".join([row % values for values in zip(*part, strict=True)])


def image_columns(table: ParticleTable) -> dict[str, npt.NDArray[Any]]:
    """The columns that say where an image is, (n,) each: its number and file, or its micrograph and the centre of its box.

    Raises:
        InputError: only some particles are cut from micrographs.
    """
    sizes = np.array([source.boxes.size if source.boxes else 0 for source in table.sources], np.int64)[table["source"]]
    if (sizes > 0).all():
        return {
            "rlnMicrographName": np.array(table.files, dtype=object)[table["file"]],
            "rlnCoordinateX": table["left"] + sizes // 2,
            "rlnCoordinateY": table["top"] + sizes // 2,
        }
    if (sizes > 0).any():
        raise InputError(
            "Some particles are whole images and others are boxes of micrographs, which one STAR file cannot name. Convert them "
            "into two folders."
        )
    images = zip(table["index"].tolist(), table["file"].tolist(), strict=True)
    return {"rlnImageName": np.array([f"{index + 1:06d}@{table.files[file]}" for index, file in images], dtype=object)}


def _stated(table: ParticleTable, name: str) -> bool:
    return bool(np.isfinite(table[name]).all())


def _check_paths(files: Iterable[str]) -> None:
    for file in files:
        strange = any(ord(character) < 32 or "\ud800" <= character <= "\udfff" for character in file)
        if strange or ('"' in file and (" " in file or "#" in file)):
            raise InputError(f"The path {file!r} cannot be written in a STAR file. Rename the file or its folder.")
