"""CryoLike's poses in RELION's convention.

CryoLike evaluates the Fourier transform of a structure at the points R q of a plane, with q = (x, y, 0) and
R = Rz(azimuth) Ry(polar) Rz(inplane), so R leads from the image's frame to the structure's. CryoLike shifts a template before it rotates
it, so in the image's frame the particle is at Rz(-inplane) displacement. RELION's matrix for (rot, tilt, psi) leads from the structure's
frame to the image's; its inverse is Rz(rot) Ry(tilt) Rz(psi), which has the same form as R. Two things may differ between the frames:

- the axes of the image. Unless axes='relion', CryoLike's x is the row index of the array of an MRC image, which is RELION's y;
- the axes of the structure. Both programs take x, y, z of a PDB file as they are. For an MRC map, CryoLike takes the first index of the
  array as x, which is RELION's z.

Each of these swaps two axes. Because projections along z and along -z are the same, the product of swaps can be made a rotation.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from cryolike_dask.errors import InputError

FloatArray = npt.NDArray[np.float64]
TemplateSource = Literal["pdb", "map"]

_SWAP_XY = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
_SWAP_XZ = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
_POLE = 1e-7  # sine of a tilt below which rot and psi rotate about the same axis


def relion_angles(directions: FloatArray, inplane: FloatArray, axes: str, template_source: TemplateSource = "pdb") -> FloatArray:
    """Convert CryoLike's poses to RELION's Euler angles.

    Args:
        directions: (n, 2) azimuth and polar angle of the best template in radians.
        inplane: (n,) in-plane rotation in radians.
        axes: 'cryolike' or 'relion', as in the run that made the stacks.
        template_source: what CryoLike made the templates from: 'pdb' for atoms, 'map' for an MRC map.

    Returns:
        (n, 3) rot, tilt and psi in degrees; rot and psi from -180 to 180, tilt from 0 to 180.

    Raises:
        InputError: the axes or the source are none of these.
    """
    if template_source not in get_args(TemplateSource):
        raise InputError(f"template_source is {template_source!r}: choose 'pdb' or 'map', whichever the templates were made from.")
    of_image = _of_image(axes)
    of_structure = _SWAP_XZ if template_source == "map" else np.eye(3)
    # Looking along -z instead of z makes a rotation out of a reflection, and does not change any projection.
    along = np.diag([1.0, 1.0, np.linalg.det(of_image) * np.linalg.det(of_structure)])
    turn = _about_z(directions[:, 0]) @ _about_y(directions[:, 1]) @ _about_z(inplane)
    return _zyz(of_structure @ turn @ of_image @ along)


def relion_origins(displacement: FloatArray, inplane: FloatArray, axes: str, centre_offset: FloatArray) -> FloatArray:
    """Convert CryoLike's poses to RELION's origins, by which an image is shifted to centre its particle.

    Args:
        displacement: (n, 2) displacement of the best template along CryoLike's x and y, in Å.
        inplane: (n,) in-plane rotation in radians.
        axes: 'cryolike' or 'relion', as in the run that made the stacks.
        centre_offset: (n,) shift of the centre of the stacks' images from that of the source images, in Å, the same along both axes.

    Returns:
        (n, 2) rlnOriginXAngst and rlnOriginYAngst.
    """
    cos, sin = np.cos(inplane), np.sin(inplane)
    x, y = displacement.T
    place = np.stack([cos * x + sin * y, cos * y - sin * x], axis=1)  # position of the particle along CryoLike's axes of the image
    return np.asarray(0.0 - place @ _of_image(axes)[:2, :2] - centre_offset[:, None])


def _about_z(angle: FloatArray) -> FloatArray:
    """(n, 3, 3) rotations of points about z by angles in radians, from x towards y."""
    cos, sin, zero, one = _parts(angle)
    return np.asarray(np.stack([cos, -sin, zero, sin, cos, zero, zero, zero, one], axis=-1).reshape(-1, 3, 3))


def _about_y(angle: FloatArray) -> FloatArray:
    """(n, 3, 3) rotations of points about y by angles in radians, from z towards x."""
    cos, sin, zero, one = _parts(angle)
    return np.asarray(np.stack([cos, zero, sin, zero, one, zero, -sin, zero, cos], axis=-1).reshape(-1, 3, 3))


def _parts(angle: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    return np.cos(angle), np.sin(angle), np.zeros_like(angle), np.ones_like(angle)


def _of_image(axes: str) -> FloatArray:
    """The matrix that leads from RELION's frame of an image to CryoLike's."""
    if axes not in ("cryolike", "relion"):
        raise InputError(f"The run's axes are {axes!r}, which this version does not know. Collect with the version that converted.")
    return np.eye(3) if axes == "relion" else _SWAP_XY


def _zyz(rotation: FloatArray) -> FloatArray:
    """(n, 3) angles a, b, c of rotations Rz(a) Ry(b) Rz(c), in degrees."""
    sine = np.hypot(rotation[:, 2, 0], rotation[:, 2, 1])
    second = np.arctan2(sine, rotation[:, 2, 2])
    pole = sine < _POLE
    # At a pole, only the sum or the difference of the first and the third angle is defined; the third one gets it.
    first = np.where(pole, 0.0, np.arctan2(rotation[:, 1, 2], rotation[:, 0, 2]))
    third = np.where(pole, np.arctan2(rotation[:, 1, 0], rotation[:, 1, 1]), np.arctan2(rotation[:, 2, 1], -rotation[:, 2, 0]))
    return np.asarray(np.degrees(np.stack([first, second, third], axis=1)))
