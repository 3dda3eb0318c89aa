"""Reads cryoSPARC's shifts and poses, and converts them to RELION's origins and angles.

cryoSPARC's shift has the same sign as RELION's (pyem and cryoDRGN use both in the same way): moved by it, the image has its particle in the
centre. The unit is the pixel of the images that were aligned, `alignments3D/psize_A`, which may be coarser than those on disk. Old tables
do not have this column; their unit is the pixel of `blob/psize_A`. The pose is a rotation vector. Its rotation leads from the image's
frame to the structure's, as Rz(rot) Ry(tilt) Rz(psi) does for RELION's angles.
"""

from __future__ import annotations

import warnings

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation

from cryolike_dask.errors import InputError
from cryolike_dask.particles.cryosparc.table import CsTable

_KINDS = ("alignments3D", "alignments2D")  # the first one that a table has is used
_POSE = "alignments3D/pose"
_PIXEL_SIZE = "blob/psize_A"

ALIGNMENTS = (_POSE, *(f"{kind}/{column}" for kind in _KINDS for column in ("shift", "psize_A")))


def fill_alignments(rows: npt.NDArray[np.void], table: CsTable) -> list[str]:
    """Write the origins and angles that the table states into rows of PARTICLE_DTYPE. Returns warnings.

    Raises:
        InputError: a column does not have the shape that cryoSPARC writes.
    """
    problems: list[str] = []
    kind = next((kind for kind in _KINDS if f"{kind}/shift" in table), None)
    if kind is not None:
        shift, size = _numbers(table, f"{kind}/shift", 2, problems), np.full(len(table), np.nan)
        for name in (_PIXEL_SIZE, f"{kind}/psize_A"):
            if name in table:
                stated = _numbers(table, name, 1, [])[:, 0]  # impossible values are reported with the pixel sizes
                size = np.where(stated > 0, stated, size)
        rows["origin_x"], rows["origin_y"] = (shift * size[:, None]).T
    if _POSE in table:
        pose = _numbers(table, _POSE, 3, problems)
        with warnings.catch_warnings():
            # In a view along z, rot and psi rotate about the same axis, so any split of their sum is right.
            warnings.filterwarnings("ignore", "Gimbal lock")
            angles = Rotation.from_rotvec(np.nan_to_num(pose)).as_euler("ZYZ")
        angles[np.isnan(pose[:, 0])] = np.nan
        rows["pose_rotation"], rows["pose_tilt"], rows["pose_psi"] = angles.T
    return problems


def _numbers(table: CsTable, name: str, n_values: int, problems: list[str]) -> npt.NDArray[np.float64]:
    """(n, n_values) numbers of a column. A row with a value that is not finite becomes NaN, and `problems` gets a warning."""
    column = table[name]
    if column.dtype.kind not in "fiu" or column.shape not in ((len(table), n_values), (len(table),) if n_values == 1 else ()):
        raise InputError(
            f"The column {name} of {table.path} is of type {column.dtype} with {column.shape[1:] or 'one'} values per particle: "
            f"{n_values} numbers are needed. Export the particles again."
        )
    values = column.astype(np.float64).reshape(len(table), n_values)
    wrong = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(wrong):
        problems.append(f"{table.where_all(name, wrong)} is {column[wrong[0]]}, not finite: no origin or pose is read there.")
        values[wrong] = np.nan
    return values
