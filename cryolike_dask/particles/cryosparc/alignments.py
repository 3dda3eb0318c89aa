"""Where cryoSPARC found the particle in each image, and from where it is seen, in RELION's terms.

cryoSPARC's shift has RELION's sign (pyem and cryoDRGN take both alike): the image moved by it has its particle in the centre. It is in
pixels of the images that were aligned, `alignments3D/psize_A`, which may be coarser than those on disk. (Old tables have no such column:
there it is in pixels of `blob/psize_A`.) The pose is a rotation vector;
its rotation leads from the image's frame to the structure's, as Rz(rot) Ry(tilt) Rz(psi) of RELION's angles does.
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
    """Write origins, and the angles of the pose, where the table states them, into rows of PARTICLE_DTYPE. Returns warnings.

    Raises:
        InputError: a column is not of the shape that cryoSPARC writes.
    """
    told: list[str] = []
    kind = next((kind for kind in _KINDS if f"{kind}/shift" in table), None)
    if kind is not None:
        shift, size = _numbers(table, f"{kind}/shift", 2, told), np.full(len(table), np.nan)
        for name in (_PIXEL_SIZE, f"{kind}/psize_A"):
            if name in table:
                stated = _numbers(table, name, 1, [])[:, 0]  # an impossible one is reported with the pixel sizes
                size = np.where(stated > 0, stated, size)
        rows["origin_x"], rows["origin_y"] = (shift * size[:, None]).T
    if _POSE in table:
        pose = _numbers(table, _POSE, 3, told)
        with warnings.catch_warnings():
            # Seen along z, rot and psi turn alike: any split of their sum is right.
            warnings.filterwarnings("ignore", "Gimbal lock")
            angles = Rotation.from_rotvec(np.nan_to_num(pose)).as_euler("ZYZ")
        angles[np.isnan(pose[:, 0])] = np.nan
        rows["pose_rotation"], rows["pose_tilt"], rows["pose_psi"] = angles.T
    return told


def _numbers(table: CsTable, name: str, n_values: int, told: list[str]) -> npt.NDArray[np.float64]:
    """(n, n_values), NaN throughout a row with a value that is not finite, of which there is then a line in `told`."""
    column = table[name]
    if column.dtype.kind not in "fiu" or column.shape not in ((len(table), n_values), (len(table),) if n_values == 1 else ()):
        raise InputError(
            f"The column {name} of {table.path} is of type {column.dtype} with {column.shape[1:] or 'one'} values per particle: "
            f"{n_values} numbers are needed. Export the particles again."
        )
    values = column.astype(np.float64).reshape(len(table), n_values)
    wrong = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(wrong):
        told.append(f"{table.where_all(name, wrong)} is {column[wrong[0]]}, not finite: no origin or pose is taken from there.")
        values[wrong] = np.nan
    return values
