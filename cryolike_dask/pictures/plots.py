"""The three pictures of a stack: physical images, Fourier images, power spectrum.

Several threads draw them at the same time, for every stack of a run, so nothing here is shared or takes long to set up.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cryolike_dask.pictures.axes import Axes, power_of_ten, round_numbers
from cryolike_dask.pictures.canvas import INK, QUIET, Canvas, Target
from cryolike_dask.pictures.montage import (
    GREYS,
    MAGMA,
    Bytes,
    block_means,
    map_colours,
    montage_columns,
    polar_lookup,
    tile_images,
)

FloatArray = npt.NDArray[np.floating[Any]]
ComplexArray = npt.NDArray[np.complexfloating[Any, Any]]

MAX_IMAGES = 16
TILE = 128  # largest edge of a tile in pixels
SHELLS = 64  # shells of a disc in a montage; finer grids are averaged down to about as many
_SAMPLED = 7  # every seventh value is used to find the range of the colours
MARGIN, HEADING, FOOTING = 16, 34, 32  # pixels beside, above and below a montage


def plot_physical_images(images: FloatArray, pixel_size: float, path: Target) -> None:
    """A montage with one grey scale for all images and a scale bar.

    Args:
        images: (k, rows, columns); the first 16 are shown.
        pixel_size: Å.
        path: PNG to write, or an open binary file.
    """
    shown = np.asarray(images[:MAX_IMAGES], dtype=np.float32)
    rows, columns = shown.shape[1:]
    factor = max(1, math.ceil(max(rows, columns) / TILE))
    tiles = block_means(shown, factor)
    mean, half_range = float(tiles.mean()), 3 * float(tiles.std()) or 1.0
    picture = map_colours(tiles, (mean - half_range, mean + half_range), GREYS)
    montage = _Montage(picture, f"Physical images, {rows} × {columns} pixels of {pixel_size:.4g} Å")
    montage.scale_bar(pixel_size * factor / montage.zoom, longest=columns * pixel_size / 2)
    montage.canvas.save(path)


def plot_fourier_images(fourier: ComplexArray, radii: FloatArray, box_length: float, path: Target) -> None:
    """A montage of discs with zero frequency in the middle. Colours show the logarithm of the magnitude, on one scale for all.

    Args:
        fourier: (k, n_shells, n_inplanes); the first 16 are shown.
        radii: (n_shells,) of the polar grid.
        box_length: edge of the images in Å.
        path: PNG to write, or an open binary file.
    """
    shown = fourier[:MAX_IMAGES]
    radii = np.asarray(radii, dtype=np.float64)
    finest = box_length / (2 * float(radii[-1]))
    averaging = min(max(1, len(radii) // SHELLS), shown.shape[2])
    power = block_means((shown.real**2 + shown.imag**2).astype(np.float32), averaging)  # (k, shells, angles)
    shells = radii[: power.shape[1] * averaging].reshape(-1, averaging).mean(axis=1)
    lookup, inside = polar_lookup(tuple(shells.tolist()), power.shape[2], TILE)
    levels = np.log10(np.maximum(power, float(power.max(initial=0.0)) * 1e-12 or 1e-30)).reshape(len(power), -1)
    tiles = np.full((len(shown), TILE, TILE), np.nan, dtype=np.float32)
    tiles[:, inside] = levels[:, lookup[inside]]
    low, high = (float(level) for level in np.percentile(levels[:, ::_SAMPLED], (3, 99.8)))
    picture = map_colours(tiles, (low, max(high, low + 1e-3)), MAGMA)
    montage = _Montage(picture, f"Fourier images, log magnitude; the rim is {finest:.3g} Å")
    montage.resolution_rings(finest)
    montage.colour_bar(MAGMA)
    montage.canvas.save(path)


def plot_power_spectrum(
    power: FloatArray,
    resolution: FloatArray,
    path: Target,
    ctf_zeros: Sequence[float] | FloatArray | None = None,
    box_length: float | None = None,
) -> None:
    """Mean power against resolution, both on logarithmic scales, with fine detail on the right.

    Args:
        power: (n_shells,) mean over images and in-plane angles of |F|^2.
        resolution: (n_shells,) Å, as `shell_resolutions` gives.
        path: PNG to write, or an open binary file.
        ctf_zeros: Å; zeros of the CTF that most images have in common. They are marked as long as they can be distinguished.
        box_length: edge of the images in Å. If given, shells coarser than twice the box are left out, because they would only show
            the mean, which was removed.
    """
    power, resolution = np.asarray(power, dtype=np.float64), np.asarray(resolution, dtype=np.float64)
    drawn = np.isfinite(power) & (power > 0) & np.isfinite(resolution) & (resolution <= 2 * (box_length or math.inf))
    coarsest, finest = _limits(resolution[drawn])
    lowest, highest = _limits(power[drawn])[::-1]
    room = 0.06 * math.log10(highest / lowest)
    canvas = Canvas(680, 400)
    axes = Axes(
        canvas,
        *(85, 46, 575, 298),
        x_limits=(math.log10(coarsest), math.log10(finest)),
        y_limits=(math.log10(lowest) - room, math.log10(highest) + room),
    )
    levels = round_numbers(lowest, highest, (1,)) if highest / lowest > 30 else round_numbers(lowest, highest)
    axes.y_ticks(np.log10(levels), [power_of_ten(level) for level in levels])
    ticks = round_numbers(finest, coarsest)
    axes.x_ticks(np.log10(ticks), [f"{tick:g}" for tick in ticks])
    zeros = _distinct_zeros(ctf_zeros, coarsest, finest)
    if zeros:
        axes.dashes(np.log10(zeros))
        canvas.text(660, 24, "- - -  zeros that the CTFs have in common", colour=QUIET, anchor="rm")
    axes.curve(np.log10(resolution[drawn]), np.log10(power[drawn]))
    axes.frame("Resolution (Å)", "Mean power |F|²")
    canvas.text(85, 24, "Power spectrum", 11)
    canvas.save(path)


def shell_resolutions(radii: FloatArray, box_length: float) -> npt.NDArray[np.float64]:
    """Resolution in Å of each shell: box_length / (2 r).

    Args:
        radii: (n_shells,)
        box_length: edge of the images in Å.
    """
    return np.asarray(box_length / (2 * np.asarray(radii, dtype=np.float64)))


class _Montage:
    """A canvas with tiles, a heading above and room for a legend below.

    Args:
        tiles: (k, rows, columns, 3).
        heading: one line of text.
    """

    def __init__(self, tiles: Bytes, heading: str) -> None:
        self.zoom = max(1, TILE // max(tiles.shape[1:3]))  # pixels of the picture per pixel of a tile
        self.tile = tiles.shape[1] * self.zoom  # edge of a tile in the picture
        picture = tile_images(tiles, montage_columns(len(tiles)), self.zoom)
        height, width = picture.shape[:2]
        self.canvas = Canvas(max(width + 2 * MARGIN, 400), height + HEADING + FOOTING)
        self.canvas.pixels(picture, MARGIN, HEADING)
        self.canvas.text(MARGIN, HEADING / 2, heading, 10)
        self._foot = HEADING + height + FOOTING / 2

    def scale_bar(self, angstrom_per_pixel: float, longest: float) -> None:
        """Draw a bar of a round length below the montage."""
        length = max(round_numbers(longest / 10, longest), default=longest)
        right = MARGIN + length / angstrom_per_pixel
        self.canvas.rectangle(MARGIN, self._foot - 2, right, self._foot + 2, INK)
        self.canvas.text(right + 8, self._foot, f"{length:g} Å")

    def colour_bar(self, colours: Bytes) -> None:
        """Draw a strip of the colours below the montage."""
        self.canvas.text(MARGIN, self._foot, "weak")
        self.canvas.pixels(np.tile(colours[::2], (10, 1, 1)), MARGIN + 40, round(self._foot) - 5)
        self.canvas.text(MARGIN + 176, self._foot, "strong")

    def resolution_rings(self, finest: float) -> None:
        """Draw circles at round resolutions on the first tile, as many as fit."""
        rim = self.tile / 2
        x, y = MARGIN + rim, HEADING + rim
        angles = np.linspace(0, 2 * np.pi, 73)
        previous = 8.0
        for resolution in sorted(round_numbers(finest * 1.2, finest * 6), reverse=True):
            radius = rim * finest / resolution
            if radius < previous + 14:
                continue
            previous = radius
            self.canvas.curve(x + radius * np.cos(angles), y + radius * np.sin(angles), "white", 1.25)
            self.canvas.label(x, y + radius, f"{resolution:g} Å", 7)


def _limits(values: FloatArray) -> tuple[float, float]:
    """(largest, smallest) value, made to differ; (10, 1) if there are no values."""
    if not len(values):
        return 10.0, 1.0
    largest, smallest = float(values.max()), float(values.min())
    return (largest, smallest) if largest > smallest else (largest * 1.1, smallest / 1.1)


def _distinct_zeros(zeros: Sequence[float] | FloatArray | None, coarsest: float, finest: float) -> list[float]:
    """Zeros within the limits, coarsest first, up to the first one that is too close to the one before it on the axis."""
    min_gap = 0.012 * math.log(coarsest / finest)
    kept: list[float] = []
    for zero in sorted((float(z) for z in ([] if zeros is None else zeros) if finest <= z <= coarsest), reverse=True):
        if kept and math.log(kept[-1] / zero) < min_gap:
            break
        kept.append(zero)
    return kept
