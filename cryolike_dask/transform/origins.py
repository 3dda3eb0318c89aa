"""Moves images by fractions of a pixel, to centre their particles.

On the polar grid this is exact: each value gets the phase of its own frequency, as if zeros continued the image beyond its border. In real
space it is periodic: what leaves the image on one side comes back on the other. For frequencies of the box, both are the same.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch

from cryolike_dask.metadata.image_descriptor import ImageDescriptor


def shift_fourier(fourier: torch.Tensor, shifts: torch.Tensor, descriptor: ImageDescriptor) -> torch.Tensor:
    """Fourier-polar images of moved images: F(k) exp(-i k s).

    Args:
        fourier: (k, n_shells, n_inplanes) complex.
        shifts: (k, 2) float64, pixels along x and y, on the same device.
        descriptor: image descriptor of the images.

    Returns:
        (k, n_shells, n_inplanes), of the same type.
    """
    waves = _wave_numbers(descriptor, str(fourier.device))
    angles = shifts[:, 0, None, None] * waves[0] + shifts[:, 1, None, None] * waves[1]  # (k, n_shells, half or all of n_inplanes)
    phases = _phases(-angles).to(fourier.dtype)
    if waves.shape[2] == fourier.shape[2]:
        return fourier * phases
    half, opposite = fourier.split(waves.shape[2], dim=2)
    return torch.cat([half * phases, opposite * phases.conj()], dim=2)


def shift_physical(images: torch.Tensor, shifts: torch.Tensor) -> torch.Tensor:
    """Images moved periodically, with phases of their Fourier transform.

    Args:
        images: (k, n_x, n_y) real.
        shifts: (k, 2) float64, pixels along x and y, on the same device.

    Returns:
        (k, n_x, n_y), of the same type.
    """
    n_x, n_y = images.shape[1:]
    spectra = torch.fft.rfft2(images.to(torch.float64))  # (k, n_x, n_y // 2 + 1)
    spectra *= _phases_along(torch.fft.fftfreq(n_x, 1 / n_x), n_x, shifts[:, 0])[:, :, None]
    spectra *= _phases_along(torch.fft.rfftfreq(n_y, 1 / n_y), n_y, shifts[:, 1])[:, None, :]
    moved: torch.Tensor = torch.fft.irfft2(spectra, s=(n_x, n_y))
    return moved.to(images.dtype)


@lru_cache(maxsize=4)
def _wave_numbers(descriptor: ImageDescriptor, device: str) -> torch.Tensor:
    """(2, n_shells, n_angles) radians per pixel along x and y; only half of an even number of angles, as the rest are opposite."""
    grid = descriptor.polar_grid
    n_angles = grid.n_inplanes // 2 if grid.n_inplanes % 2 == 0 else grid.n_inplanes
    radii, angles = torch.from_numpy(grid.radii), torch.from_numpy(grid.angles)[:n_angles]
    direction = torch.stack([torch.cos(angles), torch.sin(angles)])  # (2, n_angles)
    per_pixel = 4 * math.pi / torch.tensor(descriptor.n_pixels, dtype=torch.float64)
    return (per_pixel[:, None, None] * radii[:, None] * direction[:, None, :]).to(device)


def _phases_along(frequency: torch.Tensor, n: int, shift: torch.Tensor) -> torch.Tensor:
    """(k, len(frequency)) the phases of a shift by (k,) pixels, for frequencies in cycles per image of n pixels."""
    frequency = frequency.to(shift.device, torch.float64)
    phases = _phases(-2 * math.pi / n * frequency * shift[:, None])
    # For an even n, the highest frequency stands for both signs.
    return torch.where(2 * frequency.abs() == n, phases.real.to(phases.dtype), phases)


def _phases(angles: torch.Tensor) -> torch.Tensor:
    """exp(i angle), computed several times as fast as by `torch.polar`."""
    return torch.complex(torch.cos(angles), torch.sin(angles))
