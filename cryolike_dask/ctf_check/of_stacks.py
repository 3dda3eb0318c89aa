"""Checks a conversion with particles from all of its stacks, using the metadata of the stacks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cryolike_dask.ctf_check.check import check_ctf
from cryolike_dask.ctf_check.model import Optics
from cryolike_dask.ctf_check.verdict import CtfCheck, unknown
from cryolike_dask.metadata.image_descriptor import ImageDescriptor

_MAX_STACKS = 8
_MAX_VALUES = 2**16
_MAX_PARTICLES = 512
_ONE_PER_STACK = {"spherical_aberration": "sphericalAberration", "voltage": "voltage", "amplitude_contrast": "amplitudeContrast"}
_ONE_PER_IMAGE = {
    "defocus_u": "defocusU",
    "defocus_v": "defocusV",
    "defocus_angle": "defocusAngle",
    "phase_shift": "phaseShift",
}


def sample_size(descriptor: ImageDescriptor) -> int:
    """How many particles a check compares: enough for a verdict, but few enough to take 0.05 s."""
    return min(_MAX_PARTICLES, max(64, _MAX_VALUES // descriptor.polar_grid.n_shells))


def evenly(n: int, most: int) -> npt.NDArray[np.int64]:
    """At most `most` of the numbers from 0 to n - 1, evenly spaced."""
    return np.arange(n) if n <= most else (np.arange(most) * n) // most


def sampled_stacks(counters: Sequence[int]) -> list[int]:
    """Which stacks of a run are checked."""
    return [counters[position] for position in evenly(len(counters), _MAX_STACKS).tolist()]


def check_stacks(stacks: Iterable[Mapping[str, npt.NDArray[Any]]]) -> CtfCheck | None:
    """Compare the power of the images in stacks with the CTFs that their metadata state.

    Args:
        stacks: the arrays of the `.npz` of each stack. Stacks with another pixel size than the first one are left out.

    Returns:
        The check; None if no metadata contain the power of each image, which earlier versions did not store.
    """
    kept = [metadata for metadata in stacks if "power" in metadata]
    if not kept:
        return None
    descriptor = ImageDescriptor.from_dict(kept[0])
    kept = [metadata for metadata in kept if (metadata["pixel_size"] == kept[0]["pixel_size"]).all()]
    most = -(-sample_size(descriptor) // len(kept))
    chosen = [evenly(int(metadata["n_images"]), most) for metadata in kept]
    optics = [stack_optics(metadata, images) for metadata, images in zip(kept, chosen, strict=True)]
    power = [metadata["power"][images] for metadata, images in zip(kept, chosen, strict=True)]
    return check_particles(np.concatenate(power), Optics.concatenate(optics), descriptor)


def stack_optics(metadata: Mapping[str, npt.NDArray[Any]], images: npt.NDArray[np.int64]) -> Optics:
    """The optics of these images of a stack, from its metadata."""
    each = {name: metadata[key][images] for name, key in _ONE_PER_IMAGE.items()}
    return Optics.from_rows(each | {name: np.full(len(images), metadata[key]) for name, key in _ONE_PER_STACK.items()})


def check_particles(
    power: npt.NDArray[np.floating[Any]],
    optics: Optics,
    descriptor: ImageDescriptor,
    quadrupoles: npt.NDArray[np.complexfloating[Any, Any]] | None = None,
) -> CtfCheck:
    """`check_ctf` for particles on the grids of a descriptor."""
    box_length = descriptor.n_pixels[0] * descriptor.pixel_size[0]
    if descriptor.n_pixels[0] != descriptor.n_pixels[1]:
        unchecked = CtfCheck("cannot tell", "", len(power), 0, descriptor.pixel_size[0])
        return unknown(unchecked, "the images are not square, so their shells are not circles")
    frequencies = 2 * descriptor.polar_grid.radii / box_length
    return check_ctf(power, optics, frequencies, box_length, descriptor.pixel_size[0], quadrupoles)
