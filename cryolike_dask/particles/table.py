"""The particle table: one row an image, whatever file described it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from cryolike_dask.formatting import plural
from cryolike_dask.html import render
from cryolike_dask.mrc.boxes import BoxCut

PARTICLE_DTYPE = np.dtype(
    [
        ("file", np.int32),  # position in ParticleTable.files
        ("index", np.int64),  # image within the file, counted from 0
        ("top", np.int64),  # first micrograph row of the box; 0 unless the source cuts boxes
        ("left", np.int64),  # first micrograph column of the box; 0 unless the source cuts boxes
        ("defocus_u", np.float64),  # Angstrom
        ("defocus_v", np.float64),  # Angstrom
        ("defocus_angle", np.float64),  # radians
        ("phase_shift", np.float64),  # radians
        ("spherical_aberration", np.float64),  # mm
        ("voltage", np.float64),  # kV
        ("amplitude_contrast", np.float64),
        ("b_factor", np.float64),  # square Angstrom; NaN: not stated
        ("scale_factor", np.float64),  # NaN: not stated
        ("angle_rotation", np.float64),  # radians; NaN: not stated
        ("angle_tilt", np.float64),  # radians; NaN: not stated
        ("angle_psi", np.float64),  # radians; NaN: not stated
        ("origin_x", np.float64),  # Angstrom along columns, what RELION shifts the image by to centre the particle; NaN: not stated
        ("origin_y", np.float64),  # Angstrom along rows, likewise
        ("origin_in_pixels", np.bool_),  # origins are in pixels of the image on disk instead, whose size planning will know
        ("pose_rotation", np.float64),  # radians, RELION's angles of cryoSPARC's pose; NaN: not stated
        ("pose_tilt", np.float64),  # radians; NaN: not stated
        ("pose_psi", np.float64),  # radians; NaN: not stated
        ("pixel_size", np.float64),  # Angstrom, of the images as they lie on disk; NaN: not stated
        ("box_rows", np.int32),  # of the images as they lie on disk, pixels; 0: not stated
        ("box_columns", np.int32),  # of the images as they lie on disk, pixels; 0: not stated
        ("sign", np.int8),  # cryoSPARC's blob/sign: -1 where particles are dark; 0: not stated
        ("uid", np.uint64),  # cryoSPARC's identity; 0: none
        ("optics_group", np.int32),  # position in ParticleTable.optics_groups
        ("source", np.int32),  # position in ParticleTable.sources
        ("row", np.int64),  # row in the source's table, counted from 0
    ]
)
"""One particle. Units and the stand-ins for values that a source does not state are given beside each field."""

_NAN_IF_NOT_STATED = (
    *("b_factor", "scale_factor", "angle_rotation", "angle_tilt", "angle_psi"),
    *("origin_x", "origin_y", "pose_rotation", "pose_tilt", "pose_psi", "pixel_size"),
)


@dataclass(frozen=True)
class Source:
    """One table that particles came from.

    Args:
        kind: 'star', 'paired', 'cryosparc', 'cryosparc-job' or 'leopard-em'.
        table: path of the table, for messages and provenance.
        boxes: set when rows are boxes of micrographs instead of whole images of a stack.
        notes: facts for the record, such as 'order not verified' or 'blob/sign is -1'.
    """

    kind: str
    table: str
    boxes: BoxCut | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ParticleTable:
    """Particles in output order, with what is needed to find and interpret each image.

    Args:
        rows: (n,) structured array of PARTICLE_DTYPE.
        files: distinct image files, absolute paths; `rows['file']` points here.
        sources: tables the particles came from; `rows['source']` points here.
        optics_groups: names of the optics groups; `rows['optics_group']` points here.
        warnings: what a user should know about these inputs.
        skipped: one line for each row that the user chose to leave out.
    """

    rows: npt.NDArray[np.void]
    files: tuple[str, ...]
    sources: tuple[Source, ...]
    optics_groups: tuple[str, ...] = ("",)
    warnings: tuple[str, ...] = ()
    skipped: tuple[str, ...] = field(default=(), repr=False)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, column: str) -> npt.NDArray[Any]:
        """One column, as an (n,) view."""
        return self.rows[column]

    def take(self, selection: Any) -> ParticleTable:
        """The rows at these positions, in this order (an index array, mask or slice)."""
        return replace(self, rows=self.rows[selection])

    def where(self, position: int) -> str:
        """How to name the row at this position in a message."""
        row = self.rows[position]
        return particle_label(row, self.sources[row["source"]], self.files[row["file"]])

    @staticmethod
    def concatenate(tables: Sequence[ParticleTable]) -> ParticleTable:
        """All tables one after the other; files that occur in several are listed once."""
        if len(tables) == 1:
            return tables[0]
        files: dict[str, int] = {}
        sources: list[Source] = []
        groups: list[str] = []
        parts = []
        for table in tables:
            part = table.rows.copy()
            position = np.array([files.setdefault(name, len(files)) for name in table.files], dtype=np.int32)
            part["file"] = position[part["file"]]
            part["source"] += len(sources)
            part["optics_group"] += len(groups)
            sources.extend(table.sources)
            groups.extend(table.optics_groups)
            parts.append(part)
        return ParticleTable(
            rows=np.concatenate(parts),
            files=tuple(files),
            sources=tuple(sources),
            optics_groups=tuple(groups),
            warnings=tuple(line for table in tables for line in table.warnings),
            skipped=tuple(line for table in tables for line in table.skipped),
        )

    def _repr_html_(self) -> str:
        defocus = self.rows["defocus_u"]
        rows = {
            "image files": f"{len(self.files):,}",
            "from": [source.table for source in self.sources],
            "defocus U": f"{defocus.min():,.0f} to {defocus.max():,.0f} Å" if len(self) else "none",
        }
        return render("table", caption=f"ParticleTable: {plural(len(self), 'particle')}", rows=rows, warnings=self.warnings)


def particle_label(row: Any, source: Source, file: str) -> str:
    """How to name a particle in a message: table, row counted from 1, and the image, counted as in the table."""
    index = int(row["index"])
    image = f"image {index}, counted from 0," if source.kind.startswith("cryosparc") else f"image {index + 1}"
    return f"{source.table}, particle {int(row['row']) + 1} ({'a box' if source.boxes else image} of {file})"


def new_rows(n: int) -> npt.NDArray[np.void]:
    """n rows with every optional value marked as not stated."""
    rows = np.zeros(n, dtype=PARTICLE_DTYPE)
    for name in _NAN_IF_NOT_STATED:
        rows[name] = np.nan
    return rows
