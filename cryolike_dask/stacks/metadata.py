"""The `.npz` beside each stack: CryoLike's keys, and ours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cryolike_dask.planning.plan import StackPlan

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
SCALARS = {"sphericalAberration": "spherical_aberration", "voltage": "voltage", "amplitudeContrast": "amplitude_contrast"}


def stack_metadata(stack: StackPlan, power_spectrum: np.ndarray, zeroed: Sequence[int]) -> dict[str, Any]:
    """Everything about a stack but its images, as arrays that load without pickle.

    Args:
        stack: its plan.
        power_spectrum: (n_shells,) mean of |F|^2 over images and in-plane angles.
        zeroed: positions of the bad images that were written as zeros.

    Returns:
        CryoLike's keys (see its file format; an absent value is a size-0 array), and ours: uid, row, source, source_table,
        top, left (where boxes were cut), zeroed, power_spectrum, stack, fingerprint.
    """
    rows = stack.rows
    values: dict[str, Any] = dict(stack.descriptor.to_arrays())
    for key, column in PER_IMAGE.items():
        values[key] = np.empty(0) if np.isnan(rows[column]).all() else rows[column].copy()
    for key, column in SCALARS.items():
        values[key] = np.float64(rows[column][0])
    paths = {position: file.path for position, file in stack.files.items()}
    # What the table itself recorded, of the images before any downsampling.
    recorded = rows["pixel_size"][0]
    values["ref_pixel_size"] = np.empty(0) if np.isnan(recorded) else np.array([recorded, recorded])
    values["files"] = np.array([paths[position] for position in rows["file"].tolist()], dtype=np.str_)
    values["idxs"] = rows["index"].copy()
    values["n_images"] = np.int64(len(rows))
    if stack.file_offset is not None:
        values["stack_start"] = np.int64(stack.file_offset)
        values["stack_end"] = np.int64(stack.file_offset + len(rows))
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
    values["stack"] = np.int64(stack.counter)
    values["fingerprint"] = np.str_(stack.fingerprint)
    return values
