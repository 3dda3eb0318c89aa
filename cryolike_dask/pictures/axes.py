"""Axes on a canvas, which place curves, bars and marks by their values."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cryolike_dask.pictures.canvas import ACCENT, FAINT, INK, QUIET, Canvas

FloatArray = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Axes:
    """A rectangle of a canvas with linear scales along x and y.

    Args:
        canvas: canvas to draw on.
        left, top, width, height: position and size of the rectangle in pixels.
        x_limits: values at the left and the right edge; the first may be the larger.
        y_limits: values at the bottom and the top.
        size: font size of the labels in points.
    """

    canvas: Canvas
    left: float
    top: float
    width: float
    height: float
    x_limits: tuple[float, float]
    y_limits: tuple[float, float]
    size: float = 9

    def x(self, values: FloatArray | float) -> npt.NDArray[np.float64]:
        """Pixel positions of values along x."""
        first, last = self.x_limits
        return np.asarray(self.left + (np.asarray(values, dtype=np.float64) - first) / (last - first) * self.width)

    def y(self, values: FloatArray | float) -> npt.NDArray[np.float64]:
        """Pixel positions of values along y."""
        lowest, highest = self.y_limits
        return np.asarray(self.top + (highest - np.asarray(values, dtype=np.float64)) / (highest - lowest) * self.height)

    def frame(self, x_label: str, y_label: str = "") -> None:
        """Draw the left and the lower edge, with labels."""
        self.canvas.rectangle(self.left - 1, self.top, self.left, self.top + self.height, INK)
        self.canvas.rectangle(self.left - 1, self.top + self.height, self.left + self.width, self.top + self.height + 1, INK)
        self.canvas.text(self.left + self.width / 2, self.top + self.height + 4 * self.size, x_label, self.size + 1, anchor="mm")
        if y_label:
            self.canvas.text_upwards(self.left - 7 * self.size, self.top + self.height / 2, y_label, self.size + 1)

    def x_ticks(self, values: FloatArray | Sequence[float], labels: Iterable[str]) -> None:
        """Draw short lines below the frame, with labels."""
        bottom = self.top + self.height
        for x, label in zip(self.x(np.asarray(values)).tolist(), labels, strict=True):
            self.canvas.rectangle(round(x), bottom + 1, round(x) + 1, bottom + 5, INK)
            self.canvas.text(x, bottom + 7, label, self.size, anchor="ma")

    def y_ticks(self, values: FloatArray | Sequence[float], labels: Iterable[str]) -> None:
        """Draw short lines beside the frame, with labels, and faint lines across it. Call this before drawing what lies over them."""
        for y, label in zip(self.y(np.asarray(values)).tolist(), labels, strict=True):
            self.canvas.rectangle(self.left, round(y), self.left + self.width, round(y) + 1, FAINT)
            self.canvas.rectangle(self.left - 5, round(y), self.left, round(y) + 1, INK)
            self.canvas.text(self.left - 8, y, label, self.size, anchor="rm")

    def curve(self, x: FloatArray, y: FloatArray, colour: str = ACCENT, width: float = 2.2) -> None:
        """Draw a line through these values."""
        self.canvas.curve(self.x(x), self.y(y), colour, width)

    def dashes(self, values: FloatArray | Sequence[float]) -> None:
        """Draw dashed vertical lines at these x."""
        for x in self.x(np.asarray(values)).tolist():
            self.canvas.dashes(x, self.top, self.top + self.height, QUIET)

    def bars(self, counts: FloatArray, edges: FloatArray) -> None:
        """Draw bars from the lower edge, without gaps.

        Args:
            counts: (n,) heights.
            edges: (n + 1,) edges between the bars, and at both ends.
        """
        corners = self.x(edges).tolist()
        for left, right, top in zip(corners, corners[1:], self.y(counts).tolist(), strict=False):
            self.canvas.rectangle(left, top, right, self.top + self.height, ACCENT)


def even_ticks(lowest: float, highest: float, most: int = 5) -> tuple[list[float], list[str]]:
    """At most `most` + 1 ticks within the limits, in steps of 1, 2 or 5 times a power of ten, and their labels."""
    reach = highest - lowest
    rough = reach / most
    decade = 10.0 ** math.floor(math.log10(rough))
    step = decade * next(factor for factor in (1, 2, 5, 10) if factor * decade >= rough * (1 - 1e-9))
    numbers = range(math.ceil(lowest / step - 1e-6), math.floor(highest / step + 1e-6) + 1)
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    return [number * step for number in numbers], [f"{number * step:.{digits}f}".replace("-", "−") for number in numbers]


def round_numbers(lowest: float, highest: float, steps: Sequence[int] = (1, 2, 3, 5)) -> list[float]:
    """Round numbers within these limits, ascending: `steps` times powers of ten; only the first step if there are many decades."""
    decades = range(math.floor(math.log10(lowest)), math.ceil(math.log10(highest)) + 1)
    chosen = steps if len(decades) <= 5 else steps[:1]
    return [number for decade in decades for step in chosen if lowest <= (number := step * 10.0**decade) <= highest]


def power_of_ten(level: float) -> str:
    """0.001 -> '10⁻³', 0.002 -> '2·10⁻³'."""
    exponent = math.floor(math.log10(level) + 1e-9)
    step = round(level / 10.0**exponent)
    superscript = str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"10{superscript}" if step == 1 else f"{step}·10{superscript}"
