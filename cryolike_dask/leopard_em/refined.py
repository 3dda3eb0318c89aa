"""Chooses between refined columns of a table and those before refinement."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

_POSITIONS = ("pos_x", "pos_y", "pos_x_img", "pos_y_img")
_ANGLES = ("phi", "theta", "psi")
_WHERE_FINITE = ("relative_defocus", "pixel_size")


def choose_columns(df: pd.DataFrame, path: str | Path, *, use_refined: bool = True) -> tuple[dict[str, str], list[str]]:
    """The column to read for each quantity that a refinement can change.

    A refined position is used if its column exists, the refined angles if all three columns exist, and the refined relative defocus and
    pixel size if they are finite in every row.

    Args:
        df: table of particles.
        path: name of the table in messages.
        use_refined: False for the columns before refinement.

    Returns:
        Column by quantity, such as {'pos_x': 'refined_pos_x', ...}, and what the user should know.
    """
    columns = {name: name for name in (*_POSITIONS, *_ANGLES, *_WHERE_FINITE)}
    notes: list[str] = []
    if not use_refined:
        return columns, notes
    columns |= {name: f"refined_{name}" for name in _POSITIONS if f"refined_{name}" in df}
    if all(f"refined_{name}" in df for name in _ANGLES):
        columns |= {name: f"refined_{name}" for name in _ANGLES}
    for name in _WHERE_FINITE:
        refined = f"refined_{name}"
        if refined not in df:
            continue
        values = pd.to_numeric(df[refined], errors="coerce").to_numpy(dtype=np.float64)
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            notes.append(f"{path}, row {bad[0] + 1}: {refined} is not a finite number, so {name} is used for the whole table.")
        else:
            columns[name] = refined
    return columns, notes
