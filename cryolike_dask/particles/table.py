"""The particle table: one row per image, the same for every kind of input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import numpy.typing as npt

from cryolike_dask.errors import InputError, PositionError, not_particles_error
from cryolike_dask.formatting import plural
from cryolike_dask.html import render
from cryolike_dask.mrc.boxes import BoxCut
from cryolike_dask.particles.display import describe, facts, readable_column, stated_columns
from cryolike_dask.settings.values import is_whole

if TYPE_CHECKING:
    import pandas as pd

    from cryolike_dask.particles.image_grid import ImageGrid
    from cryolike_dask.settings import ConversionSettings

PARTICLE_DTYPE = np.dtype(
    [
        ("file", np.int32),  # position in ParticleTable.files
        ("index", np.int64),  # image within the file, counted from 0
        ("top", np.int64),  # first micrograph row of the box; 0 unless the source cuts boxes
        ("left", np.int64),  # first micrograph column of the box; 0 unless the source cuts boxes
        ("defocus_u", np.float64),  # Å
        ("defocus_v", np.float64),  # Å
        ("defocus_angle", np.float64),  # radians
        ("phase_shift", np.float64),  # radians
        ("spherical_aberration", np.float64),  # mm
        ("voltage", np.float64),  # kV
        ("amplitude_contrast", np.float64),
        ("b_factor", np.float64),  # Å²; NaN: not stated
        ("scale_factor", np.float64),  # NaN: not stated
        ("angle_rotation", np.float64),  # radians; NaN: not stated
        ("angle_tilt", np.float64),  # radians; NaN: not stated
        ("angle_psi", np.float64),  # radians; NaN: not stated
        ("origin_x", np.float64),  # Å along columns, what RELION shifts the image by to centre the particle; NaN: not stated
        ("origin_y", np.float64),  # Å along rows, likewise
        ("origin_in_pixels", np.bool_),  # whether the origins are in pixels of the image on disk, which planning converts
        ("pose_rotation", np.float64),  # radians, RELION's angles of cryoSPARC's pose; NaN: not stated
        ("pose_tilt", np.float64),  # radians; NaN: not stated
        ("pose_psi", np.float64),  # radians; NaN: not stated
        ("pixel_size", np.float64),  # Å, of the images as they are on disk; NaN: not stated
        ("box_rows", np.int32),  # of the images as they are on disk, pixels; 0: not stated
        ("box_columns", np.int32),  # of the images as they are on disk, pixels; 0: not stated
        ("sign", np.int8),  # cryoSPARC's blob/sign: -1 where particles are dark; 0: not stated
        ("uid", np.uint64),  # cryoSPARC's identity; 0: none
        ("optics_group", np.int32),  # position in ParticleTable.optics_groups
        ("source", np.int32),  # position in ParticleTable.sources
        ("row", np.int64),  # row in the source's table, counted from 0
    ]
)
"""One particle. The comment on each field gives its unit, and the value that means 'not stated'."""

_COLUMN_NAMES: tuple[str, ...] = PARTICLE_DTYPE.names or ()
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
        boxes: set if rows are boxes of micrographs instead of complete images of a stack.
        notes: facts for the record, such as 'order not verified' or 'blob/sign is -1'.
        options: how the table was read, for the record, by the names of the arguments. What they change is in the rows.
    """

    kind: str
    table: str
    boxes: BoxCut | None = None
    notes: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, repr=False)
class ParticleTable:
    """Particles in output order, with everything needed to find and interpret each image.

    `particles["defocus_u"]` is a column. `particles[particles["defocus_u"] < 15000]` and `particles.query("defocus_u < 15000")` are tables
    of the particles that satisfy the condition. A table cannot be changed: choosing particles returns a new table.

    Args:
        rows: (n,) structured array of PARTICLE_DTYPE.
        files: distinct image files, absolute paths; `rows['file']` points here.
        sources: tables the particles came from; `rows['source']` points here.
        optics_groups: names of the optics groups; `rows['optics_group']` points here.
        warnings: what the user should know about these inputs.
        skipped: one line for each row that is left out because it has no image.

    Example:
        >>> from cryolike_dask import particles_from_star
        >>> particles = particles_from_star("particles.star", "mrc")
        >>> len(particles.query("defocus_u > 0"))
        12
        >>> float(particles["voltage"][0])
        300.0
    """

    rows: npt.NDArray[np.void]
    files: tuple[str, ...]
    sources: tuple[Source, ...]
    optics_groups: tuple[str, ...] = ("",)
    warnings: tuple[str, ...] = ()
    skipped: tuple[str, ...] = field(default=())

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, key: str) -> npt.NDArray[Any]: ...

    @overload
    def __getitem__(self, key: int | slice | Sequence[int] | npt.NDArray[Any]) -> ParticleTable: ...

    def __getitem__(self, key: Any) -> npt.NDArray[Any] | ParticleTable:
        """A column by its name, or the chosen particles.

        Args:
            key: name of a column of this table or of its sources, such as rlnClassNumber; or a slice, positions, or an (n,) mask.

        Returns:
            (n,) values, or a table.

        Raises:
            InputError: there is no such column, or the mask is not of this table.
        """
        if isinstance(key, str):
            if key in self.columns:
                return self.rows[key]
            from cryolike_dask.particles.own_columns import read_column  # it needs pandas, which workers do not need

            return read_column(self, key)
        if isinstance(key, slice):
            return self.take(key)
        positions = np.atleast_1d(np.asarray(key))
        if positions.dtype == bool and positions.shape != (len(self),):
            raise InputError(
                f"The mask has the shape {positions.shape}, and the table has {plural(len(self), 'particle')}: give one True or False "
                "per particle."
            )
        if positions.dtype.kind not in "biu" and positions.size:
            raise InputError(f"Particles are chosen by a slice, whole numbers or a mask, not by {positions.dtype} values.")
        if positions.dtype != bool and positions.size and not -len(self) <= positions.min() <= positions.max() < len(self):
            wrong = positions.max() if positions.max() >= len(self) else positions.min()
            raise PositionError(f"There is no particle at position {wrong}: the table has {plural(len(self), 'particle')}.")
        return self.take(positions if positions.size else slice(0, 0))

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of all columns; `PARTICLE_DTYPE` has their units."""
        return _COLUMN_NAMES

    def head(self, n: int = 5) -> ParticleTable:
        """The first n particles.

        Raises:
            InputError: n is not a whole number.
        """
        if not is_whole(n):
            raise InputError(f"n is {n!r}: give a whole number of particles.")
        return self.take(slice(0, int(n)))

    def query(self, condition: str) -> ParticleTable:
        """The particles that satisfy a condition, in the order of the table. The result may have no rows.

        Args:
            condition: comparisons of columns with numbers or quoted text, joined by `and`, `or`, `not`, `in` and parentheses. Columns
                are those of this table, in its units, or those of the STAR file, cryoSPARC table or CSV file, in the units of the file.
                If both have a column of this name, that of this table is used. The condition is never executed as code.

        Returns:
            A new table.

        Raises:
            InputError: the condition cannot be read, names a column that does not exist, or compares text with a number.

        Example: `particles.query("defocus_u < 15000 and optics_group == 'g1'")`, `particles.query("rlnClassNumber in [1, 3]")`
        """
        # Imported here, because it needs pandas, which workers do not need.
        from cryolike_dask.particles.query import meets_condition

        return self.take(meets_condition(self, condition))

    def to_dataframe(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """A pandas data frame, one row per particle, with the names of image files, tables and optics groups.

        Args:
            columns: names of columns of this table or of its sources, such as rlnClassNumber; None for all of this table.
        """
        import pandas as pd  # imported here, because workers do not need it

        names = self.columns if columns is None else columns
        return pd.DataFrame({name: readable_column(self, name) if name in self.columns else self[name] for name in names})

    def _image_grid(self, settings: ConversionSettings) -> ImageGrid:
        # For `ImageDescriptor.from_particles`, which is in a lower layer and cannot import `image_grid`.
        from cryolike_dask.particles.image_grid import find_image_grid

        return find_image_grid(self, settings, takes_params=False)

    def take(self, selection: Any) -> ParticleTable:
        """The rows at these positions, in this order (an index array, mask or slice)."""
        return replace(self, rows=self.rows[selection])

    def where(self, position: int) -> str:
        """How to name the row at this position in a message."""
        row = self.rows[position]
        return particle_label(row, self.sources[row["source"]], self.files[row["file"]])

    @staticmethod
    def concatenate(tables: Sequence[ParticleTable]) -> ParticleTable:
        """All tables joined in this order; a file that occurs in several tables is listed once."""
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

    def __repr__(self) -> str:
        return describe(self)

    def _repr_html_(self) -> str:
        views, others = stated_columns(self)
        return render(
            "particles",
            caption=f"ParticleTable: {plural(len(self), 'particle')}",
            rows=facts(self),
            columns=views,
            others=", ".join(others),
            warnings=self.warnings,
        )


def check_particles(given: Any) -> ParticleTable:
    """What was given as `particles`, which must be a table.

    Raises:
        InputError: it is not one; the message says how to read one.
    """
    if not isinstance(given, ParticleTable):
        raise not_particles_error(given)
    return given


def particle_label(row: Any, source: Source, file: str) -> str:
    """How to name a particle in a message: table, row counted from 1, and the image, counted as in the table."""
    index = int(row["index"])
    image = f"image {index}, counted from 0," if source.kind.startswith("cryosparc") else f"image {index + 1}"
    return f"{source.table}, particle {int(row['row']) + 1} ({'a box' if source.boxes else image} of {file})"


def image_label(row: Any, source: Source, file: str) -> str:
    """Which image a particle is, counted as in its table, and the file's name without its folder."""
    index = int(row["index"])
    image = f"image {index} (from 0)" if source.kind.startswith("cryosparc") else f"image {index + 1}"
    return f"{'a box' if source.boxes else image} of {Path(file).name}"


def new_rows(n: int) -> npt.NDArray[np.void]:
    """n rows with every optional value marked as not stated."""
    rows = np.zeros(n, dtype=PARTICLE_DTYPE)
    for name in _NAN_IF_NOT_STATED:
        rows[name] = np.nan
    return rows
