"""The prediction of a CTF for shells, compared with sums over the points of a shell."""

from __future__ import annotations

import numpy as np
import pytest

from cryolike_dask.ctf_check.model import Optics, phases, shell_mean_parts, shell_means, shell_quadrupoles
from cryolike_dask.simulation.ctf import electron_wavelength

ANGLES = 2 * np.pi * np.arange(720) / 720
S = np.linspace(0.01, 0.4, 40)


def optics(**values: object) -> Optics:
    """Two particles: one with strong astigmatism and a phase shift, one with U below V."""
    stated = {
        "defocus_u": [16_000.0, 9_000.0],
        "defocus_v": [13_000.0, 9_400.0],
        "defocus_angle": np.radians([25.0, 140.0]),
        "phase_shift": [0.7, 0.0],
        "spherical_aberration": [2.7, 0.01],
        "voltage": [300.0, 200.0],
        "amplitude_contrast": [0.1, 0.07],
    }
    return Optics.from_rows(stated | values)


def ctf2(of: Optics, particle: int, extra_phase: float = 0.0) -> np.ndarray:
    """(k, angles) CTF² by its formula."""
    u, v, angle, shift, cs, voltage, contrast = (getattr(of, name)[particle] for name in Optics.__dataclass_fields__)
    wavelength = electron_wavelength(float(voltage))
    defocus = (u + v) / 2 + (u - v) / 2 * np.cos(2 * (ANGLES - angle))
    phase = np.pi * wavelength * defocus * S[:, None] ** 2 - np.pi / 2 * cs * 1e7 * wavelength**3 * S[:, None] ** 4
    return np.asarray(np.sin(phase + shift + np.arcsin(contrast) + extra_phase) ** 2)


@pytest.mark.parametrize("extra", [0.0, 0.4, -1.3])
@pytest.mark.parametrize("particle", [0, 1])
def test_mean_over_a_shell_is_the_mean_of_its_points(particle: int, extra: float) -> None:
    # In an infinite box, all rings are visible.
    cosine, sine = (part[:, particle] for part in shell_mean_parts(optics(), S, 1e12))
    ours = 0.5 + cosine * np.cos(2 * extra) + sine * np.sin(2 * extra)
    np.testing.assert_allclose(ours, ctf2(optics(), particle, extra).mean(axis=1), atol=3e-7)
    np.testing.assert_allclose(shell_means(optics(), S, 1e12)[:, particle], cosine, atol=1e-12)


@pytest.mark.parametrize("particle", [0, 1])
def test_quadrupole_is_the_mean_of_its_points(particle: int) -> None:
    ours = shell_quadrupoles(optics(), S)[:, particle]
    np.testing.assert_allclose(ours, (ctf2(optics(), particle) * np.exp(2j * ANGLES)).mean(axis=1), atol=3e-7)


def test_phase_is_that_of_the_mean_defocus() -> None:
    round_lens = optics(defocus_u=[12_000.0, 9_000.0], defocus_v=[12_000.0, 9_000.0])
    for particle in (0, 1):
        np.testing.assert_allclose(np.sin(phases(round_lens, S)[:, particle]) ** 2, ctf2(round_lens, particle)[:, 0], atol=1e-9)


def test_rings_finer_than_the_box_can_show_are_not_expected() -> None:
    # The power of white noise with a CTF, in a box cut out of a wide image: the amplitude of rings decreases as predicted.
    rng = np.random.default_rng(5)
    wide, box, pixel_size, n = 512, 64, 1.5, 400
    of = optics(defocus_u=[25_000.0, 0], defocus_v=[25_000.0, 0], defocus_angle=[0.0, 0], phase_shift=[0.0, 0]).take([0])
    f = np.hypot(np.fft.fftfreq(wide, pixel_size)[:, None], np.fft.rfftfreq(wide, pixel_size)[None])
    transfer = np.sin(phases(of, f.ravel())[:, 0]).reshape(f.shape)
    power, near = 0.0, np.hypot(np.fft.fftfreq(box, pixel_size)[:, None], np.fft.fftfreq(box, pixel_size)[None])
    for _ in range(n // 8):
        image = np.fft.irfft2(np.fft.rfft2(rng.normal(size=(wide, wide))) * transfer, s=(wide, wide))
        tiles = image.reshape(8, box, 8, box)[:, :, range(8), :].swapaxes(1, 2).reshape(-1, box, box)
        power = power + (np.abs(np.fft.fft2(tiles)) ** 2).mean(axis=0) / box**2 / (n // 8)
    band = (near > 0.06) & (near < 0.33)
    expected = 0.5 + shell_means(of, near[band], box * pixel_size)[:, 0]
    unlimited = 0.5 + shell_means(of, near[band], 1e12)[:, 0]
    slope = np.polyfit(expected, power[band], 1)[0]
    assert slope == pytest.approx(1.0, abs=0.12)
    assert np.polyfit(unlimited, power[band], 1)[0] < 0.75


def test_particles_of_a_micrograph_are_known_by_their_astigmatism() -> None:
    n = 6
    rng = np.random.default_rng(1)
    u = 12_000 + rng.normal(0, 100, n)
    same = {name: np.zeros(n) for name in ("phase_shift", "spherical_aberration", "amplitude_contrast")} | {
        "voltage": np.full(n, 300.0)
    }
    each = Optics.from_rows(
        same | {"defocus_u": u, "defocus_v": u - [80, 80, 80, 80, 130, 130], "defocus_angle": [1, 1, 2, 2, 2, 2.0]}
    )
    assert each.micrograph.tolist() == [0, 0, 1, 1, 2, 2]
    one = Optics.from_rows(same | {"defocus_u": u, "defocus_v": u - 80, "defocus_angle": np.ones(n)})
    assert one.micrograph.tolist() == [0] * n
    u = np.array([9e3, 9e3, 8e3, 8e3, 9e3, 7e3])
    assert Optics.from_rows(same | {"defocus_u": u, "defocus_v": u, "defocus_angle": np.zeros(n)}).micrograph.tolist() == [
        2,
        2,
        1,
        1,
        2,
        0,
    ]
