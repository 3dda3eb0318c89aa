"""Projections of Gaussian blobs, compared with numerical integrals and explicit matrices."""

from __future__ import annotations

import numpy as np
import pytest

from cryolike_dask.simulation.phantom import Phantom, euler_matrices


def test_projection_is_the_integral_along_z() -> None:
    phantom = Phantom(centres=np.array([[6.0, -4.0, 9.0]]), widths=np.array([3.0]), weights=np.array([2.0]))
    image = phantom.project(np.eye(3)[None], box=32, pixel_size=1.5)[0]
    x, y = (20 - 16) * 1.5, (13 - 16) * 1.5
    z = np.linspace(-40, 60, 20001)
    density = 2.0 / (2 * np.pi * 9) ** 1.5 * np.exp(-((x - 6) ** 2 + (y + 4) ** 2 + (z - 9) ** 2) / 18)
    assert image[13, 20] == pytest.approx(np.trapezoid(density, z), rel=1e-5)
    assert image.sum() * 1.5**2 == pytest.approx(2.0, rel=1e-5)


def test_euler_matrices_are_relions() -> None:
    rot, tilt, psi = 40.0, 65.0, -110.0
    a, b, g = np.radians([rot, tilt, psi])
    ca, cb, cg, sa, sb, sg = np.cos(a), np.cos(b), np.cos(g), np.sin(a), np.sin(b), np.sin(g)
    written_out = np.array(
        [
            [cg * cb * ca - sg * sa, cg * cb * sa + sg * ca, -cg * sb],
            [-sg * cb * ca - cg * sa, -sg * cb * sa + cg * ca, sg * sb],
            [sb * ca, sb * sa, cb],
        ]
    )
    np.testing.assert_allclose(euler_matrices(np.array([[rot, tilt, psi]]))[0], written_out, atol=1e-12)
