"""Interprets the columns of a STAR file: joins optics groups, fills in defaults, converts units."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from cryolike_dask.errors import InputError
from cryolike_dask.filesystem.file_kind import other_kind_of_table
from cryolike_dask.metadata.optics import check_optics
from cryolike_dask.particles.star.optics_groups import (
    GROUP,
    GROUP_NAME,
    JoinedColumns,
    optics_group_names,
    optics_rows,
    similar,
    suggestion,
)
from cryolike_dask.particles.star.origins import ORIGINS, fill_origins
from cryolike_dask.particles.star.tables import StarTable
from cryolike_dask.particles.table import new_rows

_REQUIRED = {
    "DefocusU": "defocus_u",
    "DefocusV": "defocus_v",
    "DefocusAngle": "defocus_angle",
    "SphericalAberration": "spherical_aberration",
    "Voltage": "voltage",
}
_DEFAULTS = {
    "PhaseShift": ("phase_shift", 0.0),
    "AmplitudeContrast": ("amplitude_contrast", 0.1),
    "CtfBfactor": ("b_factor", 0.0),
    "CtfScalefactor": ("scale_factor", 1.0),
}
_CHECKED = {
    "voltage": "rlnVoltage",
    "spherical_aberration": "rlnSphericalAberration",
    "amplitude_contrast": "rlnAmplitudeContrast",
    "defocus_u": "rlnDefocusU",
    "defocus_v": "rlnDefocusV",
}
_ANGLES = {"defocus_angle": "rlnDefocusAngle", "phase_shift": "rlnPhaseShift"}
_VIEWING_ANGLES = {"AngleRot": "angle_rotation", "AngleTilt": "angle_tilt", "AnglePsi": "angle_psi"}
_PIXEL_SIZE = ("ImagePixelSize", "PixelSize", "DetectorPixelSize", "Magnification", "MicrographPixelSize")
_IMAGE_SIZE = "ImageSize"
_GEOMETRY = (*_VIEWING_ANGLES, "ImagePixelSize", "PixelSize", "DetectorPixelSize")
_PREMULTIPLIED = "CtfDataAreCtfPremultiplied"

COLUMNS = frozenset(
    (*_REQUIRED, *_DEFAULTS, *_VIEWING_ANGLES, *ORIGINS, *_PIXEL_SIZE, _IMAGE_SIZE, _PREMULTIPLIED, GROUP, GROUP_NAME, "ImageName")
)
"""The columns that are used, without 'rln'."""

_BELIEVABLE_PIXEL = (0.2, 50.0)  # Å: range of a pixel size computed from detector pixel size and magnification
_LARGEST_IMAGE = 65535  # pixels along an edge, as in image headers
_MISSPELT = 0.85  # likeness of names: includes rlnPhase_Shift and rlnPhaseShift, but not rlnAnglePsiFlip and rlnAnglePsi


@dataclass(frozen=True)
class StarParticles:
    """What a STAR file says about its particles, except for the images.

    Args:
        rows: (n,) of PARTICLE_DTYPE, without file and index.
        optics_groups: names that `rows['optics_group']` points to.
        notes: facts for the record.
        warnings: what the user should know.
        unused: existing columns of viewing angles and pixel sizes that were ignored because of `geometry=False`.
    """

    rows: npt.NDArray[np.void]
    optics_groups: tuple[str, ...]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    unused: tuple[str, ...] = ()


def particles_from_tables(
    particles: StarTable,
    optics: StarTable | None,
    *,
    defocus_angle_is_degree: bool = True,
    phase_shift_is_degree: bool = True,
    geometry: bool = True,
) -> StarParticles:
    """Make the particle rows of a STAR file.

    Args:
        particles: the particle table.
        optics: the optics table, if the file has one.
        defocus_angle_is_degree, phase_shift_is_degree: whether these columns are in degrees rather than in radians.
        geometry: whether to take viewing angles and pixel size from the tables; if not, they count as not stated.

    Raises:
        InputError: a required column is missing, a value is not a finite number, or the tables do not fit together.
    """
    columns = JoinedColumns(particles, optics, optics_rows(particles, optics))
    missing = [column for column in _REQUIRED if column not in columns]
    if missing:
        another_kind = other_kind_of_table(particles.path, particles.columns)
        if another_kind is not None:
            raise InputError(another_kind)
        reasons = "; ".join(suggestion(particles, optics, column) for column in missing)
        raise InputError(f"{particles.path}: {reasons}. Each particle needs these values: add or rename the columns.")
    rows = new_rows(len(particles))
    for column, name in _REQUIRED.items():
        rows[name] = columns.numbers(column)
    for column, (name, default) in _DEFAULTS.items():
        rows[name] = columns.numbers(column) if column in columns else default
    in_degrees = {"defocus_angle": defocus_angle_is_degree, "phase_shift": phase_shift_is_degree}
    checked = _CHECKED | {name: column for name, column in _ANGLES.items() if not in_degrees[name]}
    check_optics({name: rows[name] for name in checked}, checked, columns.where_optics)
    for name in (name for name, is_degree in in_degrees.items() if is_degree):
        rows[name] = np.radians(rows[name])
    optional = (*_DEFAULTS, *_VIEWING_ANGLES, "ImagePixelSize") if geometry else tuple(_DEFAULTS)
    warnings = [
        f"{particles.path}: {suggestion(particles, optics, column)}, which is not used. Rename the column if it has these values."
        for column in optional
        if column not in columns and similar(particles, optics, column, _MISSPELT)
    ]
    if geometry:
        for column, name in _VIEWING_ANGLES.items():
            if column in columns:
                rows[name] = np.radians(columns.numbers(column))
        rows["pixel_size"] = _pixel_size(columns, warnings)
    warnings += fill_origins(rows, particles)
    unused = () if geometry else tuple(f"rln{column}" for column in _GEOMETRY if column in columns)
    rows["box_rows"] = rows["box_columns"] = _image_size(columns)
    rows["row"] = np.arange(len(particles))
    rows["optics_group"], groups = (columns.group, optics_group_names(optics)) if optics is not None else _groups_by_value(rows)
    notes: tuple[str, ...] = ()
    if _PREMULTIPLIED in columns and (affected := np.flatnonzero(columns.numbers(_PREMULTIPLIED))).size:
        notes = ("images are premultiplied by their CTF",)
        warnings.append(
            f"{particles.path}: rln{_PREMULTIPLIED} is set for {len(affected):,} of {len(particles):,} particles: their images are "
            "already multiplied by the CTF, which the comparison with templates must take into account."
        )
    return StarParticles(rows, groups, notes, tuple(warnings), unused)


def _groups_by_value(rows: npt.NDArray[np.void]) -> tuple[npt.NDArray[np.int32], tuple[str, ...]]:
    """Groups of equal voltage, Cs and amplitude contrast, in order of appearance. A single group has no name.

    Names say only where a group first appears, because messages about mixed optics give the values themselves.
    """
    values = pd.DataFrame({name: rows[name] for name in ("voltage", "spherical_aberration", "amplitude_contrast")})
    group = values.groupby(list(values.columns), sort=False).ngroup().to_numpy().astype(np.int32)
    first = values.drop_duplicates().index.tolist()
    if len(first) == 1:
        return group, ("",)
    return group, tuple(f"group {number}, first in row {row + 1}" for number, row in enumerate(first, start=1))


def _pixel_size(columns: JoinedColumns, warnings: list[str]) -> npt.NDArray[np.float64]:
    """(n,) pixel size of the images, Å; NaN if the tables do not state it."""
    path = columns.particles.path
    stated = {column: _positive(columns, column) for column in ("ImagePixelSize", "PixelSize") if column in columns}
    if len(stated) == 2:
        of_images, other = stated.values()
        differing = np.flatnonzero(~np.isclose(of_images, other, rtol=1e-4, atol=0))
        if len(differing):
            warnings.append(
                f"{path}: rlnImagePixelSize {of_images[differing[0]]:g} is used, not rlnPixelSize {other[differing[0]]:g}, in "
                f"{columns.where(differing)}."
            )
    if stated:
        return next(iter(stated.values()))
    unknown = np.full(len(columns.particles), np.nan)
    if "DetectorPixelSize" in columns and "Magnification" in columns:
        detector, magnification = columns.numbers("DetectorPixelSize"), columns.numbers("Magnification")
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            size = 10000 * detector / magnification  # detector pixel size in micrometres
        low, high = _BELIEVABLE_PIXEL
        believable = (detector > 0) & (magnification > 0) & (size > low) & (size < high)
        bad = np.flatnonzero(~believable)
        if len(bad):
            row = bad[0]
            warnings.append(
                f"{path}: rlnDetectorPixelSize {detector[row]:g} and rlnMagnification {magnification[row]:g} give no believable "
                f"pixel size in {columns.where(bad)}, so the pixel size counts as not stated there."
            )
        return np.where(believable, size, unknown)
    if "MicrographPixelSize" in columns:
        warnings.append(
            f"{path}: rlnMicrographPixelSize is not used, because it is wrong for binned images; the table states no pixel "
            "size of the images (rlnImagePixelSize)."
        )
    return unknown


def _positive(columns: JoinedColumns, column: str) -> npt.NDArray[np.float64]:
    size = columns.numbers(column)
    bad = np.flatnonzero(size <= 0)
    if len(bad):
        raise InputError(
            f"{columns.particles.path}: rln{column} must be positive, but is {size[bad[0]]:g} in {columns.where(bad)}. Correct it, or "
            "remove the column and give the pixel size yourself."
        )
    return size


def _image_size(columns: JoinedColumns) -> npt.NDArray[np.int32]:
    """(n,) pixels along the edge of the images; 0 if the tables do not state them."""
    if _IMAGE_SIZE not in columns:
        return np.zeros(len(columns.particles), np.int32)
    size = columns.numbers(_IMAGE_SIZE)
    bad = np.flatnonzero((size < 1) | (size != np.floor(size)) | (size > _LARGEST_IMAGE))
    if len(bad):
        raise InputError(
            f"{columns.where_optics('rlnImageSize', bad)} is {size[bad[0]]:g}, which is not a number of pixels along the edge of an image. "
            "Correct it, or remove the column."
        )
    return size.astype(np.int32)
