"""Joins the columns of particles with those of their optics groups."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd

from cryolike_dask.errors import InputError
from cryolike_dask.particles.star.tables import StarTable
from cryolike_dask.particles.star.text import decode

GROUP, GROUP_NAME = "OpticsGroup", "OpticsGroupName"
_ROUNDING = 1e-6  # relative: programs write six digits


@dataclass(frozen=True)
class JoinedColumns:
    """The columns of the particles, including those of their optics groups."""

    particles: StarTable
    optics: StarTable | None
    group: npt.NDArray[np.int32] = field(repr=False)  # (n,) row of the optics table

    def __contains__(self, column: str) -> bool:
        return column in self.particles or (self.optics is not None and column in self.optics)

    def numbers(self, column: str) -> npt.NDArray[np.float64]:
        """(n,) values of a column. If both tables have the column, they must agree."""
        if self.optics is None or column not in self.optics:
            return self.particles.numbers(column)
        of_group = self.optics.numbers(column, np.unique(self.group))[self.group]
        if column not in self.particles:
            return of_group
        values = self.particles.numbers(column)
        different = np.flatnonzero(~np.isclose(values, of_group, rtol=_ROUNDING, atol=0))
        if len(different):
            row = different[0]
            raise InputError(
                f"{self.particles.path}: rln{column} is {values[row]:g} for the particle but {of_group[row]:g} for its optics "
                f"group in {self.where(different)}. Remove the column from one of the two tables."
            )
        return values

    def where_optics(self, label: str, rows: npt.NDArray[np.intp]) -> str:
        """The beginning of a message about a column. It names rows of the optics table if the column is there."""
        column = label.removeprefix("rln")
        if column in self.particles or self.optics is None:
            return f"{self.particles.path}: {label} in {self.where(rows)}"
        return f"{self.optics.path}: {label} in {self.optics.where(np.unique(self.group[rows]))} of 'data_{self.optics.block}'"

    def where(self, rows: npt.NDArray[np.intp]) -> str:
        return f"{self.particles.where(rows)} of 'data_{self.particles.block}'"


def optics_rows(particles: StarTable, optics: StarTable | None) -> npt.NDArray[np.int32]:
    """(n,) row of the optics table for each particle."""
    all_in_first_row = np.zeros(len(particles), np.int32)
    if optics is None:
        return all_in_first_row
    if GROUP not in particles:
        if len(optics) == 1:
            return all_in_first_row
        raise InputError(
            f"{particles.path}: the particles have no rln{GROUP}, and the file has {len(optics)} optics groups, so it is not "
            f"clear which particle belongs to which group. {suggestion(particles, None, GROUP)}: add the column."
        )
    if GROUP not in optics:
        raise InputError(f"{optics.path}: {suggestion(optics, None, GROUP)} in 'data_{optics.block}': add the column.")
    numbers = pd.Index(optics.numbers(GROUP))
    if numbers.has_duplicates:
        duplicated = np.flatnonzero(numbers.duplicated(keep=False))
        raise InputError(
            f"{optics.path}: the same rln{GROUP} is in {optics.where(duplicated)} of 'data_optics'. Keep one row per group."
        )
    group_numbers = particles.numbers(GROUP)
    position = numbers.get_indexer(pd.Index(group_numbers))
    unknown = np.flatnonzero(position < 0)
    if len(unknown):
        raise InputError(
            f"{particles.path}: optics group {group_numbers[unknown[0]]:g} is not in 'data_optics', which has {_listed(numbers)}; see "
            f"{particles.where(unknown)} of 'data_{particles.block}'. Add the group or correct these rows."
        )
    return position.astype(np.int32)


def optics_group_names(optics: StarTable) -> tuple[str, ...]:
    """'3 (opticsGroup1)' for each optics group."""
    numbers = [f"{number:g}" for number in optics.numbers(GROUP)] if GROUP in optics else ["1"] * len(optics)
    names = [decode(name) for name in optics.text(GROUP_NAME)] if GROUP_NAME in optics else [""] * len(optics)
    return tuple(f"{number} ({name})" if name else number for number, name in zip(numbers, names, strict=True))


def suggestion(particles: StarTable, optics: StarTable | None, column: str) -> str:
    """Says which column is missing, and which one has a similar name: 'rlnDefocusU is missing; the file has rlnDefocus_U'."""
    name = similar(particles, optics, column)
    return f"rln{column} is missing" + (f"; the file has {name}" if name else "")


def similar(particles: StarTable, optics: StarTable | None, column: str, likeness: float = 0.8) -> str | None:
    """The column of either table whose name is most similar to a missing one; None if none is similar."""
    return particles.similar(column, likeness) or (optics.similar(column, likeness) if optics is not None else None)


def _listed(numbers: pd.Index) -> str:
    return ", ".join(f"{number:g}" for number in numbers[:10]) + (", ..." if len(numbers) > 10 else "")
