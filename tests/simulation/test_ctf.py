"""The contrast transfer function, compared with a direct implementation of its formula."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cryolike_dask.simulation.ctf import contrast_transfer, ctf_zero_resolutions, electron_wavelength, filtered_power


def test_wavelength_is_the_textbook_one() -> None:
    assert electron_wavelength(300.0) == pytest.approx(0.019687, rel=1e-4)
    assert electron_wavelength(200.0) == pytest.approx(0.025079, rel=1e-4)


def test_ctf_takes_defocus_u_along_the_stated_azimuth() -> None:
    box, pixel_size, wavelength = 64, 2.0, electron_wavelength(300.0)
    ctf = contrast_transfer(
        box,
        pixel_size,
        np.array([15_000.0]),
        np.array([9_000.0]),
        np.radians([90.0]),
        voltage=300.0,
        spherical_aberration=2.7,
        amplitude_contrast=0.07,
        phase_shift=np.radians([30.0]),
    )[0]
    s = 11 / (box * pixel_size)
    for defocus, value in ((15_000.0, ctf[11, 0]), (9_000.0, ctf[0, 11])):
        aberration = math.pi * wavelength * defocus * s**2 - math.pi / 2 * 2.7e7 * wavelength**3 * s**4
        assert value == pytest.approx(math.sin(aberration + math.radians(30) + math.asin(0.07)), abs=1e-12)
    assert ctf[0, 0] == pytest.approx(math.sin(math.radians(30) + math.asin(0.07)))


def test_filtered_power_is_that_of_the_filtered_images() -> None:
    rng = np.random.default_rng(8)
    spectra = np.fft.rfft2(rng.normal(1.0, 1.0, size=(3, 12, 16)))
    transfer = rng.uniform(-1, 1, (1, 12, 9))
    transfer[0, 1:, (0, -1)] = transfer[0, 1:, (0, -1)] / 2 + transfer[0, :0:-1, (0, -1)] / 2  # a filter that keeps images real
    filtered = np.fft.irfft2(spectra * transfer, s=(12, 16))
    np.testing.assert_allclose(filtered_power(spectra, transfer), np.square(filtered).sum(axis=(1, 2)), rtol=1e-12)


@pytest.mark.parametrize("phase_shift", [0.0, 1.2])
@pytest.mark.parametrize("cs", [0.0, 2.7])
@pytest.mark.parametrize("defocus", [12_000.0, 700.0, -5_000.0])
def test_ctf_is_zero_at_its_zeros_and_changes_sign_nowhere_else(defocus: float, cs: float, phase_shift: float) -> None:
    zeros = ctf_zero_resolutions(defocus, 300.0, cs, 0.1, phase_shift, finest=2.0)
    s = np.linspace(1e-4, 0.5, 400_001)
    wavelength = electron_wavelength(300.0)
    values = np.sin(
        np.pi * wavelength * defocus * s**2 - np.pi / 2 * cs * 1e7 * wavelength**3 * s**4 + phase_shift + math.asin(0.1)
    )
    crossings = s[:-1][np.sign(values[:-1]) != np.sign(values[1:])]
    np.testing.assert_allclose(zeros, 1 / crossings, rtol=1e-2 if defocus == 700.0 else 1e-4)


@pytest.mark.parametrize(
    ("defocus", "voltage", "contrast"),
    [(math.nan, 300.0, 0.1), (math.inf, 300.0, 0.1), (1e300, 300.0, 0.1), (1e4, 0.0, 0.1), (1e4, -300.0, 0.1), (1e4, 300.0, 7.0)],
)
def test_ctf_zeros_of_unknown_or_impossible_values_are_none(defocus: float, voltage: float, contrast: float) -> None:
    assert len(ctf_zero_resolutions(defocus, voltage, 2.7e7, contrast)) == 0


@pytest.mark.parametrize("defocus", [1.5e4, 1e9, -1e9, 0.0])
@pytest.mark.parametrize("cs", [2.7e7, -2.7e7, 2.7, 0.0])
def test_ctf_zeros_beyond_counting_are_cut_off_behind_the_coarsest(defocus: float, cs: float) -> None:
    zeros = ctf_zero_resolutions(defocus, 300.0, cs, 0.1)
    assert len(zeros) <= 1000
    assert (np.diff(zeros) < 0).all()
    if abs(defocus) == 1e9 or abs(cs) == 2.7e7:
        assert len(zeros) == 1000
    # No zero is missing between two neighbours: the phase changes by pi from one to the next, or has an extremum between them.
    wavelength = electron_wavelength(300.0)
    s2 = 1 / zeros**2
    phase = wavelength * defocus * s2 - 0.5 * cs * 1e7 * wavelength**3 * s2**2 + math.asin(0.1) / math.pi
    np.testing.assert_allclose(phase, np.round(phase), atol=1e-6)
    assert np.isin(np.abs(np.diff(np.round(phase))), (0, 1)).all()
    if len(phase):
        assert abs(phase[0]) < 1.5
