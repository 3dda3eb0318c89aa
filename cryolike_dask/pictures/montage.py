"""Reduces images to tiles, colours them, and lays them side by side."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.floating[Any]]
Bytes = npt.NDArray[np.uint8]

GAP = 4  # pixels between tiles


def _colours(anchors: str) -> Bytes:
    """(256, 3) colours interpolated between evenly spaced ones, which are given as in #rrggbb."""
    given = np.array([list(bytes.fromhex(anchor)) for anchor in anchors.split()])
    levels, places = np.arange(256), np.linspace(0, 255, len(given))
    return np.stack([np.rint(np.interp(levels, places, channel)) for channel in given.T], axis=1).astype(np.uint8)


GREYS = _colours("000000 ffffff")
MAGMA = _colours("000003 0b0824 1f114b 3b0f6f 57147d 711f81 8c2980 a7317d c33b74 dd4968 f0605d fa7f5e fd9f6c febe83 fddd9f fbfcbf")
"""Matplotlib's colour map of that name, to within 3 of 255 levels, without loading Matplotlib."""


def montage_columns(n: int) -> int:
    """Tiles per row of a montage that is at least as wide as it is high."""
    return max(1, math.ceil(math.sqrt(n)))


def block_means(images: FloatArray, factor: int) -> FloatArray:
    """Means over blocks of factor x factor; a trailing remainder is dropped.

    Args:
        images: (k, rows, columns).

    Returns:
        (k, rows // factor, columns // factor)
    """
    if factor == 1:
        return images
    rows, columns = images.shape[1] // factor, images.shape[2] // factor
    blocks = images[:, : rows * factor, : columns * factor].reshape(len(images), rows, factor, columns * factor)
    sums = blocks.sum(axis=2)
    # Takes a quarter of the time of NumPy's sum over a short last axis.
    return np.asarray(sum(sums[..., start::factor] for start in range(factor)) / factor**2)


def map_colours(values: FloatArray, limits: tuple[float, float], colours: Bytes) -> Bytes:
    """Values as colours; NaN is white.

    Args:
        values: any shape.
        limits: the values of the first and the last colour; values outside get the nearer one.
        colours: (256, 3) red, green, blue.

    Returns:
        values.shape + (3,)
    """
    low, high = limits
    level = np.clip((values - low) * (255.0 / (high - low)), 0, 255)
    white = np.isnan(level)
    level[white] = 0
    # Takes a quarter of the time of colours[...].
    picture: Bytes = np.take(colours, level.astype(np.uint8), axis=0)
    if white.any():
        picture[white] = 255
    return picture


def tile_images(tiles: Bytes, columns: int, zoom: int) -> Bytes:
    """Tiles side by side with white gaps, each pixel enlarged to zoom x zoom.

    Args:
        tiles: (k, rows, columns of a tile, 3).

    Returns:
        (height, width, 3)
    """
    large = tiles.repeat(zoom, axis=1).repeat(zoom, axis=2) if zoom > 1 else tiles
    k, height, width, _ = large.shape
    shape = (math.ceil(k / columns) * (height + GAP) - GAP, min(k, columns) * (width + GAP) - GAP, 3)
    canvas = np.full(shape, 255, dtype=np.uint8)
    for number, tile in enumerate(large):
        top, left = (number // columns) * (height + GAP), (number % columns) * (width + GAP)
        canvas[top : top + height, left : left + width] = tile
    return canvas


@lru_cache(maxsize=8)
def polar_lookup(radii: tuple[float, ...], n_inplanes: int, size: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.bool_]]:
    """The polar sample that is nearest to each pixel of a disc.

    Angle 0 is along axis 0 of the picture, because rows are x in CryoLike. The picture is the transform of the image as displayed.

    Args:
        radii: (n_shells,) ascending.
        n_inplanes: number of equally spaced angles, starting at 0.
        size: edge of the picture; the outermost shell touches its edge.

    Returns:
        (size, size) positions in the flattened (n_shells, n_inplanes), and whether the pixel lies in the disc.
    """
    position = (np.arange(size) - (size - 1) / 2) / ((size - 1) / 2)
    k_rows, k_columns = position[:, None] * radii[-1], position[None, :] * radii[-1]
    radius = np.hypot(k_rows, k_columns)
    midpoints = (np.array(radii[1:]) + np.array(radii[:-1])) / 2
    shell = np.searchsorted(midpoints, radius)
    angle = np.rint(np.arctan2(k_columns, k_rows) * (n_inplanes / (2 * np.pi))).astype(np.intp) % n_inplanes
    return shell * n_inplanes + angle, radius <= radii[-1] * (1 + 1e-9)
