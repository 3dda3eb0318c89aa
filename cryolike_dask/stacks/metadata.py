"""The `.npz` beside each stack: CryoLike's keys, and those of this package."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cryolike_dask.planning.plan import StackPlan
from cryolike_dask.transform.interface import OK, TransformedImages

PER_IMAGE = {
    "defocusU": "defocus_u",
    "defocusV": "defocus_v",
    "defocusAngle": "defocus_angle",
    "phaseShift": "phase_shift",
    "angleRotation": "angle_rotation",
    "angleTilt": "angle_tilt",
    "anglePsi": "angle_psi",
    "ctfBfactor": "b_factor",
    "ctfScalefactor": "scale_factor",
}
ORIGINS = {
    "originX": "origin_x",
    "originY": "origin_y",
    "poseRotation": "pose_rotation",
    "poseTilt": "pose_tilt",
    "posePsi": "pose_psi",
}
"""Keys of this package, (n,) each: origins in Å with RELION's signs, as in the table, and the angles of cryoSPARC's pose in radians.
They are absent if no particle of the stack has them."""
EXCHANGED = "defocusExchanged"
"""Key of this package for the images whose U and V were exchanged; absent if there are none."""
SCALARS = {"sphericalAberration": "spherical_aberration", "voltage": "voltage", "amplitudeContrast": "amplitude_contrast"}


def defocus_for_ctf(rows: npt.NDArray[np.void]) -> dict[str, npt.NDArray[Any]]:
    """defocusU, defocusV and defocusAngle with U >= V. CryoLike's CTF needs this order, because it uses |U - V|.

    Where a table has U < V, the two are exchanged and 90 degrees are added to the angle, which gives the same CTF.

    Args:
        rows: (n,) of PARTICLE_DTYPE, as read.

    Returns:
        (n,) each; and EXCHANGED, (n,) bool, if there is any such row.
    """
    u, v, angle = rows["defocus_u"], rows["defocus_v"], rows["defocus_angle"]
    exchanged = u < v
    values = {
        "defocusU": np.where(exchanged, v, u),
        "defocusV": np.where(exchanged, u, v),
        "defocusAngle": np.where(exchanged, angle + np.pi / 2, angle),
    }
    return values | ({EXCHANGED: exchanged} if exchanged.any() else {})


def restore_defocus(rows: npt.NDArray[np.void], exchanged: npt.NDArray[np.bool_]) -> None:
    """Undo `defocus_for_ctf` in rows that were read from metadata.

    Args:
        rows: (n,) of PARTICLE_DTYPE, changed in place.
        exchanged: (n,) whether U and V were exchanged.
    """
    u = rows["defocus_u"][exchanged]
    rows["defocus_u"][exchanged] = rows["defocus_v"][exchanged]
    rows["defocus_v"][exchanged] = u
    rows["defocus_angle"][exchanged] -= np.pi / 2


def stack_metadata(
    stack: StackPlan, power_spectrum: npt.NDArray[np.float64], power: npt.NDArray[np.float32], zeroed: Sequence[int]
) -> dict[str, Any]:
    """The metadata of a stack, as arrays that load without pickle.

    Args:
        stack: its plan.
        power_spectrum: (n_shells,) mean of |F|^2 over images and in-plane angles.
        power: (n, n_shells) the same of each image.
        zeroed: positions of the bad images that were written as zeros.

    Returns:
        CryoLike's keys (see its file format; an absent value is a size-0 array), and those of this package: axes, contrast,
        apply_origins, those of ORIGINS, sign, uid, row, source, source_table, top, left (where boxes were cut), zeroed, power_spectrum,
        power, stack, fingerprint, EXCHANGED.
    """
    rows = stack.rows
    values: dict[str, Any] = dict(stack.descriptor.to_arrays())
    for key, column in PER_IMAGE.items():
        values[key] = np.empty(0) if np.isnan(rows[column]).all() else rows[column].copy()
    values |= defocus_for_ctf(rows)
    for key, column in SCALARS.items():
        values[key] = np.float64(rows[column][0])
    paths = {position: file.path for position, file in stack.files.items()}
    # The pixel size in the table, which is that of the images before any downsampling.
    recorded = rows["pixel_size"][0]
    values["ref_pixel_size"] = np.empty(0) if np.isnan(recorded) else np.array([recorded, recorded])
    values["files"] = np.array([paths[position] for position in rows["file"].tolist()], dtype=np.str_)
    values["idxs"] = rows["index"].copy()
    values["n_images"] = np.int64(len(rows))
    if stack.file_offset is not None:
        values["stack_start"] = np.int64(stack.file_offset)
        values["stack_end"] = np.int64(stack.file_offset + len(rows))
    values["axes"] = np.str_(stack.settings.axes)
    values["contrast"] = np.str_(_contrast(stack))
    values["apply_origins"] = np.bool_(stack.settings.apply_origins)
    for key, column in ORIGINS.items():
        if not np.isnan(rows[column]).all():
            values[key] = rows[column].copy()
    if rows["sign"].any():
        values["sign"] = rows["sign"].copy()
    used = np.unique(rows["source"])
    values["source"] = np.searchsorted(used, rows["source"]).astype(np.int64)
    values["source_table"] = np.array([stack.sources[position].table for position in used.tolist()], dtype=np.str_)
    values["row"] = rows["row"].copy()
    if rows["uid"].any():
        values["uid"] = rows["uid"].copy()
    if any(stack.sources[position].boxes for position in used.tolist()):
        values["top"], values["left"] = rows["top"].copy(), rows["left"].copy()
    values["zeroed"] = np.array(sorted(zeroed), dtype=np.int64)
    values["power_spectrum"] = power_spectrum
    values["power"] = power
    values["stack"] = np.int64(stack.counter)
    values["fingerprint"] = np.str_(stack.fingerprint)
    return values


def _contrast(stack: StackPlan) -> str:
    """The option of the run; or 'invert' if all images are inverted as boxes, and 'mixed' if only some of them are."""
    cuts = [stack.sources[position].boxes for position in np.unique(stack.rows["source"]).tolist()]
    inverted = [cut is not None and cut.invert for cut in cuts]
    if not any(inverted):
        return stack.settings.contrast
    return "invert" if all(inverted) else "mixed"


class StackSums:
    """Sums over the images of a stack, which arrive in parts, in any order and from several threads.

    The parts are added in the order of their numbers, so that the sums are bitwise the same for every order of arrival.
    """

    def __init__(self, stack: StackPlan) -> None:
        self.stack = stack
        self._sums: dict[int, npt.NDArray[np.float64]] = {}
        self._power = np.zeros((len(stack), stack.descriptor.polar_grid.n_shells), dtype=np.float32)
        self._zeroed: list[int] = []

    def add(self, number: int, positions: npt.NDArray[np.int64], images: TransformedImages) -> None:
        """Add the images at these positions, which are part `number` of the stack."""
        self._sums[number] = images.power.sum(axis=0)
        self._power[positions] = images.power
        self._zeroed += positions[images.status != OK].tolist()

    def metadata(self) -> dict[str, Any]:
        """The arrays of the stack's `.npz`, without those that describe its files; see `stack_metadata`."""
        total = np.zeros(self._power.shape[1])
        for _, part in sorted(self._sums.items()):
            total += part
        return stack_metadata(self.stack, total / len(self.stack), self._power, self._zeroed)
