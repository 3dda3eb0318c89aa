"""Compiled loops over pixels: downsample, centre, and lay out for the first FFT."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from cryolike_dask.transform.compilation import NJIT_OPTIONS, REORDER_SUMS
from cryolike_dask.transform.interface import CONSTANT, NOT_FINITE, OK


@njit(fastmath=REORDER_SUMS, **NJIT_OPTIONS)
def _sum(image: Any) -> float:
    total = 0.0
    for i in range(image.shape[0]):
        part = 0.0
        for j in range(image.shape[1]):
            part += np.float64(image[i, j])
        total += part
    return total


@njit(fastmath=REORDER_SUMS, **NJIT_OPTIONS)
def _sum_of_differences(image: Any, mean: float) -> float:
    total = 0.0
    for i in range(image.shape[0]):
        part = 0.0
        for j in range(image.shape[1]):
            part += np.float64(image[i, j]) - mean
        total += part
    return total


@njit(fastmath=True, **NJIT_OPTIONS)
def _extremes(image: Any) -> tuple[Any, Any]:
    low = image[0, 0]
    high = image[0, 0]
    for i in range(image.shape[0]):
        for j in range(image.shape[1]):
            value = image[i, j]
            low = value if value < low else low
            high = value if value > high else high
    return low, high


@njit(**NJIT_OPTIONS)
def centre(
    images: Any, factor: int, maximum: bool, downsampled: Any, scale_x: Any, scale_y: Any, physical: Any, padded: Any, status: Any
) -> None:
    """Downsample and centre images, and lay them out for the first FFT.

    Args:
        images: (k, rows, columns) pixels.
        factor: edge of the blocks that become one pixel.
        maximum: whether a block becomes its maximum instead of its mean.
        downsampled: (n_x, n_y) work space.
        scale_x, scale_y: (n_x,) and (n_y,) factors of rows and columns for the FFT.
        physical: (k, n_x, n_y) float32, receives (image - mean) / max|image - mean|, with the mean computed in float64.
        padded: (k, n_x, fine_y), receives the same times scale_x scale_y, with the middle column of the image at column 0 (wrapping).
            Columns without a pixel are not written, and must be zero.
        status: (k,) receives OK, CONSTANT or NOT_FINITE; unless it is OK, the other results of the image are not written.
    """
    for k in range(images.shape[0]):
        if factor == 1:
            status[k] = _centre(images[k], physical[k], padded[k], scale_x, scale_y)
        else:
            if maximum:
                _block_maxima(images[k], factor, downsampled)
            else:
                _block_means(images[k], factor, downsampled)
            status[k] = _centre(downsampled, physical[k], padded[k], scale_x, scale_y)


@njit(fastmath=REORDER_SUMS, **NJIT_OPTIONS)
def _centre(image: Any, physical: Any, padded: Any, scale_x: Any, scale_y: Any) -> int:
    n_x, n_y = image.shape
    mean = _sum(image) / (n_x * n_y)
    if not np.isfinite(mean):
        return NOT_FINITE
    # Removes the rounding error of a mean that is large compared with the deviations.
    mean += _sum_of_differences(image, mean) / (n_x * n_y)
    low, high = _extremes(image)
    if low == high:
        return CONSTANT
    scale = 1.0 / max(np.float64(high) - mean, mean - np.float64(low))
    half = n_y // 2
    shift = padded.shape[1] - half
    for i in range(n_x):
        row_scale = scale_x[i]
        for j in range(half):
            value = (np.float64(image[i, j]) - mean) * scale
            physical[i, j] = value
            padded[i, j + shift] = value * row_scale * scale_y[j]
        for j in range(half, n_y):
            value = (np.float64(image[i, j]) - mean) * scale
            physical[i, j] = value
            padded[i, j - half] = value * row_scale * scale_y[j]
    return OK


@njit(fastmath=REORDER_SUMS, **NJIT_OPTIONS)
def _block_means(image: Any, factor: int, downsampled: Any) -> None:
    for i in range(downsampled.shape[0]):
        for j in range(downsampled.shape[1]):
            total = 0.0
            for a in range(factor):
                for b in range(factor):
                    total += np.float64(image[i * factor + a, j * factor + b])
            downsampled[i, j] = total / (factor * factor)


@njit(**NJIT_OPTIONS)
def _block_maxima(image: Any, factor: int, downsampled: Any) -> None:
    # A pixel that is not finite makes the block NaN; a maximum would hide minus infinity and NaN.
    for i in range(downsampled.shape[0]):
        for j in range(downsampled.shape[1]):
            highest = np.float64(image[i * factor, j * factor])
            for a in range(factor):
                for b in range(factor):
                    value = np.float64(image[i * factor + a, j * factor + b])
                    if not np.isfinite(value):
                        highest = np.float64(np.nan)
                    elif value > highest:
                        highest = value
            downsampled[i, j] = highest
