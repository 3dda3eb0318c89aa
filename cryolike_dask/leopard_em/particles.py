"""Particles of Leopard-EM: reads match-template and refined tables as boxes of micrographs."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd

from cryolike_dask.errors import InputError
from cryolike_dask.filesystem.paths import input_path
from cryolike_dask.formatting import in_both
from cryolike_dask.leopard_em.columns import OPTICS_COLUMNS
from cryolike_dask.leopard_em.refined import choose_columns
from cryolike_dask.leopard_em.tables import and_more_rows, check_columns, integers, numbers, read_csv_table
from cryolike_dask.metadata.optics import check_optics
from cryolike_dask.mrc.boxes import BoxCut, EdgeMode
from cryolike_dask.options import described_by
from cryolike_dask.particles.image_paths import resolve_image_paths
from cryolike_dask.particles.inputs import LeopardEMInput
from cryolike_dask.particles.table import ParticleTable, Source, new_rows

_REQUIRED = (
    "pos_x",
    "pos_y",
    "phi",
    "theta",
    "psi",
    "relative_defocus",
    "defocus_u",
    "defocus_v",
    "astigmatism_angle",
    "pixel_size",
    "voltage",
    "spherical_aberration",
    "amplitude_contrast_ratio",
    "phase_shift",
    "ctf_B_factor",
    "micrograph_path",
)
_OPTIONAL = ("particle_index", "pos_x_img", "pos_y_img")
_ABERRATIONS = ("even_zernikes", "odd_zernikes", "mag_matrix")
_UNREFINED_ADVICE = "Correct the table, or use the positions and angles before refinement (use_refined=False, --unrefined)."

# Larger than any micrograph, and small enough that adding a box size cannot overflow.
_MAX_POSITION = 2**31
_LARGEST_BOX = 65535  # pixels along an edge, as in image headers


@described_by(LeopardEMInput)
def particles_from_leopard_em(
    dataframe_files: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    box_size: int,
    *,
    template_size: int | None = None,
    edge: EdgeMode = "constant",
    invert: bool = False,
    use_refined: bool = True,
    folder_micrographs: str | Path = "",
) -> ParticleTable:
    """Read match-template or refined tables. The image of each particle (row) is a box of the micrograph. No micrograph is opened.

    Refined values are preferred: each position if its column exists, the angles if all three columns exist, relative defocus and
    pixel size if they are finite in every row (otherwise the values before refinement, with a warning). Boxes are centred on the
    template, as Leopard-EM cuts them.

    Returns:
        Rows in the order of the tables. `index` is particle_index (or the row); `top` and `left` are the first row and column of the
        box, possibly negative; `files` are the micrographs.

    Raises:
        InputError: an option is out of range, a table is missing, lacks columns or holds no particle, or a cell does not fit its
            column, in which case the message names file and row.

    Example:
        >>> len(particles_from_leopard_em("results.csv", box_size=16, invert=True))
        3
    """
    cut = BoxCut(_box_size(box_size), edge, bool(invert))
    if edge not in get_args(EdgeMode):
        raise InputError(f"edge is {edge!r}: choose one of {', '.join(map(repr, get_args(EdgeMode)))}.")
    if template_size is not None and not (_is_whole(template_size) and 0 < template_size <= _LARGEST_BOX):
        raise InputError(
            f"{in_both('template_size')} is {template_size!r}: give the template's edge length in pixels, a whole number up to "
            f"{_LARGEST_BOX:,}."
        )
    tables = [_read(path) for path in _paths(dataframe_files)]
    recorded = list(dict.fromkeys(name for table in tables for name in table.micrographs))
    paths, found = resolve_image_paths(recorded, folder_micrographs, *(table.path for table in tables))
    resolved = dict(zip(recorded, paths, strict=True))
    parts = [_particles(table, cut, template_size, bool(use_refined), resolved, found) for table in tables]
    return ParticleTable.concatenate(parts)


@dataclass(frozen=True)
class _Table:
    """One table as it was read.

    Args:
        path: path of the table.
        df: its columns.
        micrograph: (n,) position of each row's micrograph in `micrographs`.
        micrographs: distinct recorded paths.
    """

    path: str
    df: pd.DataFrame
    micrograph: npt.NDArray[np.intp]
    micrographs: tuple[str, ...]

    def numbers(self, name: str) -> npt.NDArray[np.float64]:
        return numbers(self.df, name, self.path, advice=_advice(name))

    def positions(self, name: str) -> npt.NDArray[np.int64]:
        values = integers(self.df, name, self.path, advice=_advice(name))
        bad = np.flatnonzero(np.abs(values) > _MAX_POSITION)
        if len(bad):
            raise InputError(
                f"{self.path}, row {bad[0] + 1}: {name} is {values[bad[0]]}, not a pixel of a micrograph. {_advice(name)}"
            )
        return values

    def where(self, name: str, bad: npt.NDArray[np.intp]) -> str:
        return f"{self.path}, row {bad[0] + 1}{and_more_rows(bad)}: {name}"

    def positive(self, name: str) -> npt.NDArray[np.float64]:
        values = self.numbers(name)
        bad = np.flatnonzero(values <= 0)
        if len(bad):
            raise InputError(f"{self.path}, row {bad[0] + 1}: {name} is {values[bad[0]]:g}; it must be above 0. {_advice(name)}")
        return values


def _read(path: str) -> _Table:
    df = read_csv_table(path, {*_REQUIRED, *_OPTIONAL, *_ABERRATIONS, *(f"refined_{name}" for name in _REQUIRED)})
    if any(name not in df for name in _REQUIRED):
        # All columns are read, so that the message can name similar ones.
        check_columns(read_csv_table(path), _REQUIRED, path)
    if not len(df):
        raise InputError(f"{path} holds no particle. Leave it out, or pick with a lower cutoff.")
    empty = np.flatnonzero(df["micrograph_path"].fillna("").str.strip() == "")
    if len(empty):
        raise InputError(f"{path}, row {empty[0] + 1}: micrograph_path is empty. Name the micrograph of this particle.")
    codes, names = pd.factorize(df["micrograph_path"].str.strip())
    return _Table(path, df, codes, tuple(map(str, names)))


def _particles(
    table: _Table, cut: BoxCut, template_size: int | None, use_refined: bool, resolved: dict[str, str], found: tuple[str, ...]
) -> ParticleTable:
    df = table.df
    column, notes = choose_columns(df, table.path, use_refined=use_refined)
    rows = new_rows(len(df))
    files: dict[str, int] = {}
    file_index = np.array([files.setdefault(resolved[name], len(files)) for name in table.micrographs], dtype=np.int32)
    rows["file"] = file_index[table.micrograph]
    rows["row"] = np.arange(len(df))
    rows["index"] = table.positions("particle_index") if "particle_index" in df else rows["row"]
    # The box has the same centre as the template, so its corner is shifted by half of the difference in size.
    shift = (cut.size - _template_sizes(table, template_size, notes)) // 2
    rows["left"] = table.positions(column["pos_x"]) - shift
    rows["top"] = table.positions(column["pos_y"]) - shift

    relative = table.numbers(column["relative_defocus"])
    rows["defocus_u"] = table.numbers("defocus_u") + relative
    rows["defocus_v"] = table.numbers("defocus_v") + relative
    rows["defocus_angle"] = np.radians(table.numbers("astigmatism_angle"))
    rows["phase_shift"] = np.radians(table.numbers("phase_shift"))
    rows["spherical_aberration"] = table.numbers("spherical_aberration")
    rows["voltage"] = table.numbers("voltage")
    rows["amplitude_contrast"] = table.numbers("amplitude_contrast_ratio")
    rows["b_factor"] = table.numbers("ctf_B_factor")
    check_optics({key: table.numbers(name) for key, name in OPTICS_COLUMNS.items()}, OPTICS_COLUMNS, table.where)
    sums = {key: f"{OPTICS_COLUMNS[key]} + {column['relative_defocus']}" for key in ("defocus_u", "defocus_v")}
    check_optics({key: rows[key] for key in sums}, sums, table.where)
    rows["pixel_size"] = table.positive(column["pixel_size"])
    rows["angle_rotation"] = np.radians(table.numbers(column["phi"]))
    rows["angle_tilt"] = np.radians(table.numbers(column["theta"]))
    rows["angle_psi"] = np.radians(table.numbers(column["psi"]))

    groups = _number_optics_groups(rows)
    notes += _differing_pixel_sizes(table, rows) + _unused_aberrations(table)
    options = {"template_size": template_size, "use_refined": use_refined}
    source = Source("leopard-em", table.path, boxes=cut, notes=found, options=options)
    return ParticleTable(rows, tuple(files), (source,), optics_groups=groups, warnings=tuple(notes))


def _template_sizes(table: _Table, given: int | None, notes: list[str]) -> Any:
    """The edge length of the template: one number, or (n,) from the distances between corner and centre."""
    distances = {}
    for axis in ("y", "x"):
        if f"pos_{axis}_img" in table.df:
            distances[axis] = table.positions(f"pos_{axis}_img") - table.positions(f"pos_{axis}")
    if given is not None:
        # Leopard-EM has an option to record the corner as the position in the image, too; then the distance is 0.
        differing = [k for d in distances.values() for k in np.flatnonzero((d != given // 2) & (d != 0))[:1]]
        if differing:
            row = min(differing)
            notes.append(
                f"{table.path}, row {row + 1}: the positions in the image imply a template of another size than "
                f"template_size={given} (--template-size), which is used."
            )
        return given
    if "y" not in distances:
        raise InputError(
            f"{table.path} lacks the column pos_y_img, which gives the size of the template. Give {in_both('template_size')}."
        )
    half_size = distances["y"]
    bad = np.flatnonzero((half_size <= 0) | (distances.get("x", half_size) != half_size))
    if len(bad):
        row = int(bad[0])
        distances_text = ", ".join(
            f"pos_{axis}_img - pos_{axis} is {distance[row]}" for axis, distance in sorted(distances.items())
        )
        raise InputError(
            f"{table.path}, row {row + 1}: {distances_text}, but both must be half the template's edge length. Give "
            f"{in_both('template_size')}, or correct the table."
        )
    return 2 * half_size


def _number_optics_groups(rows: npt.NDArray[np.void]) -> tuple[str, ...]:
    """Number the distinct (voltage, Cs, amplitude contrast, pixel size) in `rows['optics_group']`, in order of appearance.

    Names say only where a group first appears, because messages about mixed optics give the values themselves.
    """
    names = ("voltage", "spherical_aberration", "amplitude_contrast", "pixel_size")
    _, first, group = np.unique(np.stack([rows[name] for name in names], axis=1), axis=0, return_index=True, return_inverse=True)
    in_order_of_appearance = np.argsort(first)
    rows["optics_group"] = np.argsort(in_order_of_appearance)[group.reshape(-1)]
    return tuple(
        f"group {number}, first in row {row + 1}" for number, row in enumerate(first[in_order_of_appearance].tolist(), start=1)
    )


def _differing_pixel_sizes(table: _Table, rows: npt.NDArray[np.void]) -> list[str]:
    sizes = rows["pixel_size"]
    differing = np.flatnonzero(sizes != sizes[0])
    if not len(differing):
        return []
    row = differing[0]
    return [f"{table.path}: the pixel size is {sizes[0]:g} Å in row 1 and {sizes[row]:g} Å in row {row + 1}."]


def _unused_aberrations(table: _Table) -> list[str]:
    notes = []
    for name in _ABERRATIONS:
        if name in table.df and len(stated := np.flatnonzero(table.df[name].notna())):
            notes.append(f"{table.path}, row {stated[0] + 1}: {name} is recorded, but CryoLike's CTF does not use it.")
    return notes


def _advice(name: str) -> str:
    return _UNREFINED_ADVICE if name.startswith("refined_") else "Correct the table, or remove the row."


def _paths(dataframe_files: Any) -> list[str]:
    are_several = isinstance(dataframe_files, Iterable) and not isinstance(dataframe_files, (str, bytes, os.PathLike, pd.DataFrame))
    given = list(dataframe_files) if are_several else [dataframe_files]
    if not given:
        raise InputError("No Leopard-EM table was given. Give the path of at least one CSV table.")
    if any(isinstance(path, pd.DataFrame) for path in given):
        raise InputError(
            "dataframe_files holds a data frame, but the tables of a conversion are read from files. Write it with "
            "cryolike_dask.leopard_em.write_match_template_dataframe(df, 'picks.csv'), and give the path."
        )
    paths = [str(input_path(path)) for path in given]
    repeated = sorted({path for path in paths if paths.count(path) > 1})
    if repeated:
        raise InputError(f"{', '.join(repeated)} was given more than once: its particles would be converted twice.")
    return paths


def _box_size(value: int) -> int:
    if not (_is_whole(value) and 2 <= value <= _LARGEST_BOX):
        raise InputError(
            f"{in_both('box_size')} is {'not given' if value is None else repr(value)}: give the edge length of the boxes in pixels, a "
            f"whole number between 2 and {_LARGEST_BOX:,}."
        )
    return int(value)


def _is_whole(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)
