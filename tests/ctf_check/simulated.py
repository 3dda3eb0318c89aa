"""Particle sets with known CTFs, and the verdicts of the check for right and wrong tables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cryolike_dask.ctf_check.model import Optics
from cryolike_dask.ctf_check.of_stacks import check_particles
from cryolike_dask.ctf_check.verdict import CtfCheck
from cryolike_dask.metadata.image_descriptor import ImageDescriptor
from cryolike_dask.simulation.ctf import contrast_transfer, filtered_power
from cryolike_dask.simulation.phantom import Phantom, euler_matrices, random_orientations, random_phantom
from cryolike_dask.transform.cpu import CompiledTransform
from cryolike_dask.transform.interface import TransformedImages

ABERRATION, CONTRAST = 2.7, 0.1  # mm, fraction


@dataclass(frozen=True)
class Kind:
    """How a set is made.

    Args:
        n, n_micrographs: number of particles, and of their micrographs.
        box, pixel_size: edge of the images in pixels, and Å per pixel.
        signal_to_noise: smallest and largest, over whole images.
        defocus: smallest and largest of a micrograph, Å.
        astigmatism: smallest and largest U - V, Å.
        is_fine: whether the molecule consists of fine grains of both signs, which have the same signal in all shells.
        blob_scale: factor on the widths of the molecule's blobs.
        phase_shift: radians.
        voltage: kV.
        uneven: how much the ice and the background differ between micrographs.
    """

    n: int = 256
    n_micrographs: int = 24
    box: int = 96
    pixel_size: float = 1.5
    signal_to_noise: tuple[float, float] = (0.05, 0.1)
    defocus: tuple[float, float] = (8_000.0, 18_000.0)
    astigmatism: tuple[float, float] = (40.0, 180.0)
    is_fine: bool = False
    blob_scale: float = 1.0
    phase_shift: float = 0.0
    voltage: float = 300.0
    uneven: float = 0.25


@dataclass(frozen=True)
class Simulated:
    """A simulated set: what a conversion knows about its images, and its true optics."""

    power: np.ndarray
    quadrupoles: np.ndarray
    optics: Optics
    descriptor: ImageDescriptor

    def check(self, scale: float = 1.0, **stated: float | Callable[[np.ndarray], np.ndarray]) -> CtfCheck:
        """The verdict for a table that states these optics, and a pixel size of `scale` times the true one."""
        values: dict[str, Any] = {
            name: value(getattr(self.optics, name)) if callable(value) else np.full(len(self.optics), value)
            for name, value in stated.items()
        }
        size = self.descriptor.pixel_size[0] * scale
        descriptor = replace(self.descriptor, pixel_size=(size, size))
        return check_particles(self.power, replace(self.optics, **values), descriptor, self.quadrupoles)


def simulate(seed: int, kind: Kind) -> Simulated:
    """Simulate a set of this kind; another seed gives another molecule, other defocus and other noise."""
    rng = np.random.default_rng(seed)
    n, box, wide = kind.n, kind.box, 2 * kind.box
    phantom = random_phantom(0.35 * box * kind.pixel_size, rng)
    phantom = replace(phantom, widths=kind.blob_scale * phantom.widths)
    if kind.is_fine:
        phantom = Phantom(phantom.centres, 0.3 * phantom.widths, phantom.weights * rng.choice([-1, 1], len(phantom.weights)))
    micrograph = np.sort(rng.integers(0, kind.n_micrographs, n))

    def of_micrograph(values: np.ndarray) -> np.ndarray:
        return np.asarray(values[micrograph])

    mean = of_micrograph(rng.uniform(*kind.defocus, kind.n_micrographs)) + rng.normal(0, 150, n)
    half = of_micrograph(rng.uniform(*kind.astigmatism, kind.n_micrographs)) / 2
    optics = Optics.from_rows(
        {
            "defocus_u": mean + half,
            "defocus_v": mean - half,
            "defocus_angle": of_micrograph(rng.uniform(0, np.pi, kind.n_micrographs)),
            "phase_shift": np.full(n, kind.phase_shift),
            "spherical_aberration": np.full(n, ABERRATION),
            "voltage": np.full(n, kind.voltage),
            "amplitude_contrast": np.full(n, CONTRAST),
        }
    )
    signal_to_noise = rng.uniform(*kind.signal_to_noise, n) * of_micrograph(rng.lognormal(0, kind.uneven, kind.n_micrographs))
    slope = of_micrograph(rng.normal(0, kind.uneven, kind.n_micrographs))
    frequency = np.hypot(np.fft.fftfreq(wide)[:, None], np.fft.rfftfreq(wide)[None, :]) / 0.5
    inner = slice(box - box // 2, 2 * box - box // 2)
    descriptor = ImageDescriptor.from_individual_values(n_pixels=box, pixel_size=kind.pixel_size)
    results = TransformedImages.allocate(n, descriptor)
    transform = CompiledTransform(descriptor)
    for first in range(0, n, 64):
        part = slice(first, first + 64)
        some = optics.take(part)
        projections = np.zeros((len(some), wide, wide), dtype=np.float32)
        projections[:, inner, inner] = phantom.project(euler_matrices(random_orientations(len(some), rng)), box, kind.pixel_size)
        spectra = np.fft.rfft2(projections)

        def transfer(defocus_u: np.ndarray, defocus_v: np.ndarray, defocus_angle: np.ndarray) -> np.ndarray:
            return contrast_transfer(
                wide,
                kind.pixel_size,
                defocus_u,
                defocus_v,
                defocus_angle,
                voltage=kind.voltage,
                spherical_aberration=ABERRATION,
                amplitude_contrast=CONTRAST,
                phase_shift=kind.phase_shift,
            )

        signal = np.fft.irfft2(spectra * transfer(some.defocus_u, some.defocus_v, some.defocus_angle), s=(wide, wide))[
            :, inner, inner
        ]
        # Scaled as at a typical defocus: that the signal has less power at a low defocus is what the check uses.
        typical = transfer(np.array([np.mean(kind.defocus)]), np.array([np.mean(kind.defocus)]), np.zeros(1))
        signal /= np.sqrt(filtered_power(spectra, typical) / box**2 / signal_to_noise[part])[:, None, None]
        # Each micrograph has a background with another spectrum.
        coloured = np.fft.rfft2(rng.normal(size=projections.shape)) * np.exp(0.5 * slope[part, None, None] * frequency)
        noise = np.fft.irfft2(coloured, s=(wide, wide))[:, inner, inner]
        transform(np.asarray(signal + noise, dtype=np.float32), TransformedImages(*(array[part] for array in results.arrays)))
    # Rows are x here, but the angle in the table is measured from the columns.
    wave = np.exp(2j * (np.pi / 2 - descriptor.polar_grid.angles)) / descriptor.polar_grid.n_inplanes
    return Simulated(results.power, np.abs(results.fourier) ** 2 @ wave, optics, descriptor)


@dataclass(frozen=True)
class Case:
    """The values that a table states for a set, and the right verdicts.

    Args:
        name: name in a table of results.
        kind: kind of the set.
        stated: arguments of `Simulated.check`.
        right: the right verdicts.
        suspect: beginning of one of the suspects if the CTF does not fit.
    """

    name: str
    kind: Kind
    stated: dict[str, Any]
    right: tuple[str, ...] = ("does not fit",)
    suspect: str = "the pixel size"


USUAL = Kind()
FINE = Kind(n=160, voltage=200.0, defocus=(5_000.0, 9_000.0), box=192, pixel_size=1.1, is_fine=True, signal_to_noise=(0.3, 0.6))
ASTIGMATIC = Kind(n=512, astigmatism=(1_500.0, 3_000.0), signal_to_noise=(0.1, 0.2))
LARGE = Kind(n=160, box=192)
COARSE = Kind(box=128, pixel_size=2.0, blob_scale=2.0)
DOWNSAMPLED = Kind(n=512, box=32, pixel_size=8.0, signal_to_noise=(0.3, 1.0))
FITS = ("fits",)
UNSURE = ("cannot tell", "fits")
CASES = (
    Case("right", USUAL, {}, FITS),
    Case("pixel size 1% too large", USUAL, {"scale": 1.01}, FITS),
    Case("pixel size 1% too small", USUAL, {"scale": 0.99}, FITS),
    Case("pixel size 3% too large", USUAL, {"scale": 1.03}),
    Case("pixel size 3% too small", USUAL, {"scale": 0.97}),
    Case("pixel size 10% too large", USUAL, {"scale": 1.10}),
    Case("pixel size 10% too small", USUAL, {"scale": 0.90}),
    Case("pixel size half the true one", USUAL, {"scale": 0.5}),
    Case("defocus 10% too large", USUAL, {"defocus_u": lambda u: 1.1 * u, "defocus_v": lambda v: 1.1 * v}),
    Case("200 for 300 kV", USUAL, {"voltage": 200.0}),
    Case("phase shift of 90° too much", USUAL, {"phase_shift": np.pi / 2}, suspect="the phase shift"),
    Case("Cs 0.01 for 2.7 mm, where it moves no ring", USUAL, {"spherical_aberration": 0.01}, FITS),
    Case("Cs 0.01 for 2.7 mm, fine signal at 200 kV", FINE, {"spherical_aberration": 0.01}, suspect="the spherical aberration"),
    Case("fine signal at 200 kV, right", FINE, {}, FITS),
    Case("strong astigmatism, right", ASTIGMATIC, {}, FITS),
    Case("its axis at 90° − the true angle", ASTIGMATIC, {"defocus_angle": lambda a: np.pi / 2 - a}, suspect="the axis"),
    Case("defocus in nm", USUAL, {"defocus_u": lambda u: u / 10, "defocus_v": lambda v: v / 10}, suspect="the unit"),
    Case("large molecule, right", LARGE, {}, FITS),
    Case("signal only to about 25 Å, right", COARSE, {}, UNSURE),
    Case("downsampled to 8 Å per pixel, right", DOWNSAMPLED, {}, UNSURE),
    Case("no signal", replace(USUAL, signal_to_noise=(1e-6, 2e-6)), {}, ("cannot tell",)),
    Case("20 particles", replace(USUAL, n=20), {}, UNSURE),
    Case("3 micrographs, right", replace(USUAL, n_micrographs=3), {}, UNSURE),
)
