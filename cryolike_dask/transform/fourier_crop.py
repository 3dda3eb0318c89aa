"""Downsampling by cropping the Fourier transform. Frequencies within the new band, and the centre of the image, are unchanged."""

from __future__ import annotations

import math

import torch

_FLAT = 1e-14  # relative to the brightest pixel: the rounding error in an image that has nothing within the band


def crop_spectra(images: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
    """Images on a coarser grid, minus their mean.

    The middle pixel n // 2 of an axis becomes the middle pixel m // 2, and pixels become n / m times larger. For an even m, the highest
    frequency gets the mean of the positive and the negative one, because it stands for both.

    Args:
        images: (k, n_x, n_y) float64.
        shape: (m_x, m_y), at most (n_x, n_y).

    Returns:
        (k, m_x, m_y) float64. An image with nothing within the band becomes zeros; one with a pixel that is not finite becomes NaN.
    """
    (n_x, n_y), (m_x, m_y) = images.shape[1:], shape
    # With the mean, its rounding error would appear at all frequencies.
    spectra = torch.fft.rfft2(images - images.mean(dim=(1, 2), keepdim=True))[:, :, : m_y // 2 + 1]  # (k, n_x, m_y // 2 + 1)
    spectra = spectra * _shift(torch.arange(m_y // 2 + 1, device=images.device), n_y, m_y)
    frequency = torch.cat([torch.arange((m_x + 1) // 2), torch.arange(-(m_x // 2), 0)]).to(images.device)  # (m_x,)
    rows = spectra[:, frequency % n_x] * _shift(frequency, n_x, m_x)[:, None]
    if m_x % 2 == 0:
        highest = torch.tensor([m_x // 2], device=images.device)
        positive = spectra[:, m_x // 2] * _shift(highest, n_x, m_x)
        rows[:, m_x // 2] = (rows[:, m_x // 2] + positive) / 2
    cropped = torch.fft.irfft2(rows, s=shape) * (m_x * m_y / (n_x * n_y))
    flat = cropped.abs().amax(dim=(1, 2)) <= _FLAT * images.abs().amax(dim=(1, 2))
    return torch.where(flat[:, None, None], 0.0, cropped)


def _shift(frequency: torch.Tensor, n: int, m: int) -> torch.Tensor:
    """The phase that moves pixel n // 2 of n to pixel m // 2 of m, for frequencies in cycles per image."""
    return torch.exp(2j * math.pi * frequency.to(torch.float64) * (n // 2 / n - m // 2 / m))
