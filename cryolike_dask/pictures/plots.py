"""The three pictures of a stack: physical images, Fourier images, power spectrum.

Figures are made without pyplot and its global state. Matplotlib's font and text caches are not safe between threads, so that one
picture a process is drawn at a time.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import numpy.typing as npt

from cryolike_dask.pictures.montage import Bytes, block_means, map_colours, montage_columns, polar_lookup, tile_images

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FloatArray = npt.NDArray[np.floating[Any]]
ComplexArray = npt.NDArray[np.complexfloating[Any, Any]]
Target = str | Path | BinaryIO

MAX_IMAGES = 16
TILE = 128  # largest edge of a tile in pixels
SHELLS = 64  # shells of a disc in a montage; finer grids are averaged down to about as many
DPI = 100
INK = "#222222"
ACCENT = "#1f6f8b"
QUIET = "#8a8a8a"
MARGIN, HEADING, FOOTING = 16, 34, 32  # pixels beside, above and below a montage

_draw_lock = threading.Lock()


def plot_physical_images(images: FloatArray, pixel_size: float, path: Target) -> None:
    """A montage with one grey scale for all images and a scale bar.

    Args:
        images: (k, rows, columns); the first 16 are shown.
        pixel_size: Angstrom.
        path: PNG to write, or an open binary file.
    """
    shown = np.asarray(images[:MAX_IMAGES], dtype=np.float32)
    rows, columns = shown.shape[1:]
    factor = max(1, math.ceil(max(rows, columns) / TILE))
    tiles = block_means(shown, factor)
    mean, half_range = float(tiles.mean()), 3 * float(tiles.std()) or 1.0
    picture = map_colours(tiles, (mean - half_range, mean + half_range), colour_table("gray"))
    with _montage(picture, path, f"Physical images, {rows} × {columns} pixels of {pixel_size:.4g} Å") as montage:
        montage.scale_bar(pixel_size * factor / montage.zoom, longest=columns * pixel_size / 2)


def plot_fourier_images(fourier: ComplexArray, radii: FloatArray, box_length: float, path: Target) -> None:
    """A montage of discs, coloured by the logarithm of the magnitude, zero frequency in the middle, one scale for all.

    Args:
        fourier: (k, n_shells, n_inplanes); the first 16 are shown.
        radii: (n_shells,) of the polar grid.
        box_length: edge of the images in Angstrom.
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
    low, high = (float(level) for level in np.percentile(levels, (3, 99.8)))
    picture = map_colours(tiles, (low, max(high, low + 1e-3)), colour_table("magma"))
    with _montage(picture, path, f"Fourier images, log magnitude; the rim is {finest:.3g} Å") as montage:
        montage.resolution_rings(finest)
        montage.colour_bar(colour_table("magma"))


def plot_power_spectrum(
    power: FloatArray,
    resolution: FloatArray,
    path: Target,
    ctf_zeros: Sequence[float] | FloatArray | None = None,
    box_length: float | None = None,
) -> None:
    """Mean power against resolution, both logarithmic, fine detail to the right.

    Args:
        power: (n_shells,) mean over images and in-plane angles of |F|^2.
        resolution: (n_shells,) Angstrom, as `shell_resolutions` gives.
        path: PNG to write, or an open binary file.
        ctf_zeros: Angstrom; zeros of the mean CTF, marked as far as they can be told apart.
        box_length: edge of the images in Angstrom. If given, shells coarser than twice the box, where nothing but the removed mean
            would be, are left out.
    """
    power, resolution = np.asarray(power, dtype=np.float64), np.asarray(resolution, dtype=np.float64)
    drawn = np.isfinite(power) & (power > 0) & np.isfinite(resolution) & (resolution <= 2 * (box_length or math.inf))
    coarsest, finest = _limits(resolution[drawn])
    lowest, highest = _limits(power[drawn])[::-1]
    with png_figure(680, 400, path) as figure:
        axes = figure.add_axes((0.125, 0.14, 0.845, 0.745))
        # Logarithms on plain axes: Matplotlib's log scale spends longer on its ticks than on everything else.
        axes.plot(np.log10(resolution[drawn]), np.log10(power[drawn]), color=ACCENT, linewidth=1.7, zorder=3)
        axes.set_xlim(math.log10(coarsest), math.log10(finest))
        room = 0.06 * math.log10(highest / lowest)
        axes.set_ylim(math.log10(lowest) - room, math.log10(highest) + room)
        zeros = _distinct_zeros(ctf_zeros, coarsest, finest)
        if zeros:
            axes.vlines(
                np.log10(zeros), 0, 1, transform=axes.get_xaxis_transform(), color=QUIET, linewidth=0.9, linestyle=(0, (3, 3))
            )
            figure.text(0.97, 0.955, "- - -  zeros of the mean CTF", fontsize=9, color=QUIET, va="top", ha="right")
        ticks = _round_numbers(finest, coarsest)
        axes.set_xticks(np.log10(ticks), [f"{tick:g}" for tick in ticks])
        levels = _round_numbers(lowest, highest, (1,)) if highest / lowest > 30 else _round_numbers(lowest, highest)
        axes.set_yticks(np.log10(levels), [_power_of_ten(level) for level in levels])
        axes.set_xlabel("Resolution (Å)", fontsize=10, color=INK)
        axes.set_ylabel("Mean power |F|²", fontsize=10, color=INK)
        figure.text(0.125, 0.955, "Power spectrum", fontsize=11, color=INK, va="top")
        axes.tick_params(labelsize=9, color=INK, labelcolor=INK)
        axes.grid(True, axis="y", color="#e9e9e9", linewidth=0.8)
        axes.spines[["top", "right"]].set_visible(False)


def shell_resolutions(radii: FloatArray, box_length: float) -> npt.NDArray[np.float64]:
    """Resolution in Angstrom of each shell: box_length / (2 r).

    Args:
        radii: (n_shells,)
        box_length: edge of the images in Angstrom.
    """
    return np.asarray(box_length / (2 * np.asarray(radii, dtype=np.float64)))


@contextmanager
def png_figure(width: int, height: int, path: Target) -> Iterator[Figure]:
    """A figure of this many pixels, written as PNG on leaving."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from PIL import Image

    with _draw_lock:
        figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor="white")
        canvas: Any = FigureCanvasAgg(figure)
        yield figure
        canvas.draw()
        # Without transparency and hardly compressed: noise does not compress, and trying takes longer than drawing.
        Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3]).save(path, format="PNG", compress_level=1)


@dataclass(frozen=True)
class _Montage:
    """A picture of tiles in a figure, with marks in units of the figure's pixels, counted from its lower left corner."""

    figure: Figure
    zoom: int  # pixels of the picture for one of a tile
    tile: int  # edge of a tile in the picture
    top: int  # of the picture

    def scale_bar(self, angstrom_per_pixel: float, longest: float) -> None:
        """A bar of a round length below the montage."""
        length = max(_round_numbers(longest / 10, longest), default=longest)
        right = MARGIN + length / angstrom_per_pixel
        self._line([MARGIN, right], [FOOTING / 2] * 2, color=INK, linewidth=2.5, solid_capstyle="butt")
        self._text(right + 8, FOOTING / 2, f"{length:g} Å", va="center")

    def colour_bar(self, colours: Bytes) -> None:
        """A strip of the colours below the montage."""
        strip = np.broadcast_to(colours[::2], (10, 128, 3))
        self._text(MARGIN, FOOTING / 2, "weak", va="center")
        self.figure.figimage(strip, MARGIN + 40, FOOTING // 2 - 5, origin="upper")
        self._text(MARGIN + 176, FOOTING / 2, "strong", va="center")

    def resolution_rings(self, finest: float) -> None:
        """Circles at round resolutions on the first tile, as many as there is room for."""
        centre_x, centre_y, rim = MARGIN + self.tile / 2, self.top - self.tile / 2, self.tile / 2
        angles = np.linspace(0, 2 * np.pi, 73)
        previous = 8.0
        for resolution in sorted(_round_numbers(finest * 1.2, finest * 6), reverse=True):
            radius = rim * finest / resolution
            if radius < previous + 14:
                continue
            previous = radius
            self._line(centre_x + radius * np.cos(angles), centre_y + radius * np.sin(angles), color="white", linewidth=0.9)
            label = {"facecolor": "black", "alpha": 0.7, "linewidth": 0, "pad": 1.2}
            self._text(centre_x, centre_y - radius, f"{resolution:g} Å", 7, color="white", ha="center", va="center", bbox=label)

    def _text(self, x: float, y: float, text: str, size: float = 9, **style: Any) -> None:
        self.figure.text(x, y, text, fontsize=size, transform=in_pixels(), **{"color": INK, **style})

    def _line(self, x: Sequence[float] | FloatArray, y: Sequence[float] | FloatArray, **style: Any) -> None:
        from matplotlib.lines import Line2D

        self.figure.add_artist(Line2D(x, y, transform=in_pixels(), **style))


@contextmanager
def _montage(tiles: Bytes, path: Target, heading: str) -> Iterator[_Montage]:
    """A figure with these (k, rows, columns, 3) tiles, each of their pixels on whole pixels of the figure."""
    zoom = max(1, TILE // max(tiles.shape[1:3]))
    picture = tile_images(tiles, montage_columns(len(tiles)), zoom)
    height, width = picture.shape[:2]
    with png_figure(max(width + 2 * MARGIN, 400), height + HEADING + FOOTING, path) as figure:
        figure.figimage(picture, MARGIN, FOOTING, origin="upper")
        figure.text(MARGIN, FOOTING + height + HEADING / 2, heading, fontsize=10, color=INK, va="center", transform=in_pixels())
        yield _Montage(figure, zoom, tiles.shape[1] * zoom, FOOTING + height)


def in_pixels() -> Any:
    """The transform of artists that are placed in pixels of the figure, counted from its lower left corner."""
    from matplotlib.transforms import IdentityTransform

    return IdentityTransform()


@lru_cache(maxsize=2)
def colour_table(name: str) -> Bytes:
    """(256, 3) red, green, blue of a colour map."""
    from matplotlib import colormaps

    return np.asarray(colormaps[name](np.arange(256), bytes=True))[:, :3]


def _limits(values: FloatArray) -> tuple[float, float]:
    """(largest, smallest), made to differ; (10, 1) of nothing."""
    if not len(values):
        return 10.0, 1.0
    largest, smallest = float(values.max()), float(values.min())
    return (largest, smallest) if largest > smallest else (largest * 1.1, smallest / 1.1)


def _round_numbers(lowest: float, highest: float, steps: Sequence[int] = (1, 2, 3, 5)) -> list[float]:
    """Round numbers within these limits, ascending: the steps times powers of ten, or fewer steps if those are very many."""
    decades = range(math.floor(math.log10(lowest)), math.ceil(math.log10(highest)) + 1)
    chosen = steps if len(decades) <= 5 else steps[:1]
    return [number for decade in decades for step in chosen if lowest <= (number := step * 10.0**decade) <= highest]


def _power_of_ten(level: float) -> str:
    """0.001 -> '10⁻³', 0.002 -> '2·10⁻³'."""
    exponent = math.floor(math.log10(level) + 1e-9)
    step = round(level / 10.0**exponent)
    superscript = str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"10{superscript}" if step == 1 else f"{step}·10{superscript}"


def _distinct_zeros(zeros: Sequence[float] | FloatArray | None, coarsest: float, finest: float) -> list[float]:
    """Zeros within the limits, coarsest first, until two come closer on the axis than a reader can tell apart."""
    min_gap = 0.012 * math.log(coarsest / finest)
    kept: list[float] = []
    for zero in sorted((float(z) for z in ([] if zeros is None else zeros) if finest <= z <= coarsest), reverse=True):
        if kept and math.log(kept[-1] / zero) < min_gap:
            break
        kept.append(zero)
    return kept
