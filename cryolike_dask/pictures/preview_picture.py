"""The picture of a preview: each particle as it is on disk, low-passed, and back from the polar grid."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cryolike_dask.ctf_check.verdict import CtfCheck
from cryolike_dask.pictures.axes import round_numbers
from cryolike_dask.pictures.canvas import INK, QUIET, Canvas, Target
from cryolike_dask.pictures.ctf_plots import HEIGHT, WIDTH, draw_ctf_check
from cryolike_dask.pictures.montage import GAP, GREYS, Bytes, block_means, map_colours

_TILE = 128  # approximate edge of a tile in pixels
_MARGIN, _HEADING, _LABEL, _FOOTING = 16, 84, 20, 30
_BETWEEN = 22  # pixels between the triples of two particles
_LETTER = 7.1  # width of a wide letter of 8 points, in pixels


def draw_preview(
    path: Target,
    images: Mapping[str, npt.NDArray[np.floating[Any]]],
    labels: Sequence[str],
    pixel_size: float,
    heading: tuple[str, str],
    ctf: CtfCheck,
) -> None:
    """Draw three tiles per particle, with one grey scale for each of the three kinds, and the check of the CTF below.

    Args:
        path: PNG to write, or an open binary file.
        images: three kinds of images, (k, n_x, n_y) each, by the names of their columns.
        labels: (k,) names of the particles; a file name that is too long loses its beginning.
        pixel_size: Å.
        heading: two lines for the top of the picture.
        ctf: the check.
    """
    (first, *_) = images.values()
    longest = max(first.shape[1:])
    factor, zoom = max(1, round(longest / _TILE)), max(1, round(_TILE / longest))
    kinds = [_tiles(kind, factor, zoom) for kind in images.values()]
    n, height, width, _ = kinds[0].shape
    triple = 3 * (width + GAP) - GAP
    columns = 1 if n < 3 else 2
    below = _HEADING + -(-n // columns) * (height + _LABEL + GAP)
    reason = textwrap.wrap(ctf.reason, 105)
    check = below + _FOOTING + 17 * len(reason) + 8
    canvas = Canvas(
        max(columns * (triple + _BETWEEN) - _BETWEEN + 2 * _MARGIN, WIDTH + _MARGIN),
        check + (HEIGHT if len(ctf.scores) else 0) + _MARGIN,
    )
    canvas.text(_MARGIN, 16, heading[0], 10)
    canvas.text(_MARGIN, 36, heading[1], 9)
    for number in range(n):
        left = _MARGIN + number % columns * (triple + _BETWEEN)
        top = _HEADING + number // columns * (height + _LABEL + GAP)
        canvas.text(left, top + _LABEL / 2, _shortened(labels[number], int(triple / _LETTER)), 8)
        for place, (kind, name) in enumerate(zip(kinds, images, strict=True)):
            canvas.pixels(kind[number], left + place * (width + GAP), top + _LABEL)
            if number < columns:
                for line, text in enumerate(reversed(name.split("\n"))):
                    canvas.text(left + place * (width + GAP), top - 5 - 13 * line, text, 8, colour=QUIET)
    _draw_scale_bar(canvas, _MARGIN, below + _FOOTING / 3, pixel_size * factor / zoom, first.shape[2] * pixel_size / 2)
    for line, text in enumerate(reason):
        canvas.text(_MARGIN, below + _FOOTING + 17 * line + 8, text, 9)
    if len(ctf.scores):
        draw_ctf_check(canvas, ctf, 0, check)
    canvas.save(path)


def _tiles(images: npt.NDArray[np.floating[Any]], factor: int, zoom: int) -> Bytes:
    """(k, rows, columns, 3), means over factor x factor pixels enlarged to zoom x zoom, with one grey scale."""
    shown = block_means(images, factor).repeat(zoom, axis=1).repeat(zoom, axis=2)
    mean, half_range = float(shown.mean()), 3 * float(shown.std()) or 1.0
    return map_colours(shown, (mean - half_range, mean + half_range), GREYS)


def _draw_scale_bar(canvas: Canvas, left: float, middle: float, angstrom_per_pixel: float, longest: float) -> None:
    length = max(round_numbers(longest / 10, longest), default=longest)
    right = left + length / angstrom_per_pixel
    canvas.rectangle(left, middle - 2, right, middle + 2, INK)
    canvas.text(right + 8, middle, f"{length:g} Å", 8)


def _shortened(label: str, most: int) -> str:
    """The label in at most `most` letters; a long file name loses its beginning."""
    if len(label) <= most:
        return label
    image, _, name = label.rpartition(" of ")
    return f"{image} of …{name[len(label) - most + 1 :]}"
