"""The picture of a check of the CTF: the fit over pixel sizes, and the rings of all particles together."""

from __future__ import annotations

import io

import numpy as np

from cryolike_dask.ctf_check.verdict import CtfCheck
from cryolike_dask.pictures.axes import Axes, even_ticks, round_numbers
from cryolike_dask.pictures.canvas import ACCENT, INK, QUIET, Canvas

WIDTH, HEIGHT = 800, 270
_BAND = "#d9e8ed"
"""Colour of the range of pixel sizes that count as a fit."""


def plot_ctf_check(check: CtfCheck) -> bytes:
    """Draw a check that compared something, as PNG."""
    canvas = Canvas(WIDTH, HEIGHT)
    draw_ctf_check(canvas, check, 0, 0)
    buffer = io.BytesIO()
    canvas.save(buffer)
    return buffer.getvalue()


def draw_ctf_check(canvas: Canvas, check: CtfCheck, left: int, top: int) -> None:
    """Draw the curve over pixel sizes and, beside it, the rings, if there are any.

    Args:
        canvas: canvas with room for WIDTH x HEIGHT pixels.
        check: a check that compared something.
        left, top: upper left corner of the picture on the canvas.
    """
    _draw_scan(canvas, check, left, top)
    if check.rings is not None:
        _draw_rings(canvas, check, left + 400, top)


def _draw_scan(canvas: Canvas, check: CtfCheck, left: int, top: int) -> None:
    sizes, scores = check.pixel_sizes, check.scores
    lowest, highest = float(min(scores.min(), 0.0)), float(scores.max())
    room = 0.08 * (highest - lowest) or 1.0  # If nothing fits at all, every score is 0.
    axes = Axes(
        canvas,
        *(left + 30, top + 40, 335, 172),
        x_limits=(float(np.log(sizes[0])), float(np.log(sizes[-1]))),
        y_limits=(lowest - room, highest + room),
        size=8,
    )
    canvas.text(left + 30, top + 14, "How well the CTF fits at other pixel sizes", 10)
    if check.best_pixel_size is not None and check.accuracy is not None:
        edges = axes.x(np.log(check.best_pixel_size * (1 + check.accuracy * np.array([-1.0, 1.0]))))
        canvas.rectangle(max(edges[0], axes.left), axes.top, min(edges[1], axes.left + axes.width), axes.top + axes.height, _BAND)
        canvas.text(left + 365, top + 30, f"best {check.best_pixel_size:.4g} Å", 8, colour=ACCENT, anchor="rm")
    ticks = round_numbers(float(sizes[0]), float(sizes[-1]), (1, 2, 3, 4, 5, 7))
    axes.x_ticks(np.log(ticks), [f"{tick:g}" for tick in ticks])
    axes.dashes([float(np.log(check.recorded_pixel_size))])
    canvas.text(left + 30, top + 30, f"- - -  recorded {check.recorded_pixel_size:.4g} Å", 8, colour=QUIET)
    axes.curve(np.log(sizes), scores, width=1.8)
    axes.frame("Pixel size (Å)")
    canvas.text_upwards(left + 14, top + 126, "Score", 9)


def _draw_rings(canvas: Canvas, check: CtfCheck, left: int, top: int) -> None:
    rings = check.rings
    assert rings is not None
    values = np.concatenate([rings.power, rings.expected])
    lowest, highest = min(0.0, float(values.min())), max(1.0, float(values.max()))
    axes = Axes(
        canvas,
        *(left + 50, top + 40, 335, 172),
        x_limits=(float(rings.phase[0]) - 0.2, float(rings.phase[-1]) + 0.2),
        y_limits=(max(lowest, -0.6) - 0.05, min(highest, 1.6) + 0.05),
        size=8,
    )
    canvas.text(left + 50, top + 14, "Rings of all particles together", 10)
    canvas.text(left + 385, top + 30, "images", 8, colour=ACCENT, anchor="rm")
    canvas.text(left + 335, top + 30, "CTF² as recorded", 8, anchor="rm")
    axes.y_ticks(*even_ticks(*axes.y_limits, most=4))
    whole = np.arange(np.ceil(axes.x_limits[0]), axes.x_limits[1])
    axes.dashes(whole)
    step = max(1, -(-len(whole) // 12))  # With few rings, there may be no zero to label.
    axes.x_ticks(whole[::step], [f"{number:.0f}".replace("-", "−") for number in (whole + 0.0)[::step]])
    axes.curve(rings.phase, rings.expected, INK, 1.2)
    axes.curve(rings.phase, np.clip(rings.power, *axes.y_limits), width=2.2)
    axes.frame("Phase of the CTF / π: it is zero at whole numbers", "CTF²")
