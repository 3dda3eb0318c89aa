"""Boxes cut from a micrograph, with a choice of the values beyond its edges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

BoolArray = npt.NDArray[np.bool_]
IndexArray = npt.NDArray[np.int64]
EdgeMode = Literal["constant", "reflect", "replicate", "error"]


@dataclass(frozen=True)
class BoxCut:
    """How boxes are cut from micrographs.

    Args:
        size: edge length of the box in pixels.
        edge: what lies beyond the micrograph: zeros, its mirror image (edge not repeated), its last pixel, or an error.
        invert: multiply by -1 (protein is dark in micrographs).
    """

    size: int
    edge: EdgeMode = "constant"
    invert: bool = False


def boxes_outside(top: npt.ArrayLike, left: npt.ArrayLike, size: int, n_rows: int, n_columns: int) -> BoolArray:
    """Which boxes lie completely outside a micrograph. They contain none of its pixels, so no edge mode can fill them.

    Args:
        top, left: (k,) first row and column of each box.
        size: edge length of the boxes in pixels.
        n_rows, n_columns: shape of the micrograph.

    Returns:
        (k,) mask.
    """
    top, left = np.asarray(top, dtype=np.int64), np.asarray(left, dtype=np.int64)
    return (top <= -size) | (left <= -size) | (top >= n_rows) | (left >= n_columns)


def boxes_over_edge(top: npt.ArrayLike, left: npt.ArrayLike, size: int, n_rows: int, n_columns: int) -> BoolArray:
    """Which boxes reach beyond a micrograph by at least one pixel; `edge='error'` refuses them.

    Arguments and return value are those of `boxes_outside`.
    """
    top, left = np.asarray(top, dtype=np.int64), np.asarray(left, dtype=np.int64)
    return (top < 0) | (left < 0) | (top + size > n_rows) | (left + size > n_columns)


def cut_boxes(
    image: npt.NDArray[np.float32],
    top: npt.ArrayLike,
    left: npt.ArrayLike,
    cut: BoxCut,
    out: npt.NDArray[np.float32],
) -> None:
    """Copy boxes out of a micrograph as raw values; `cut.edge` says how to fill what lies beyond the edges.

    'constant' fills with zeros. 'reflect' mirrors the micrograph at its outermost pixels, which are not repeated, and mirrors again
    where a box reaches further than one mirror image. 'replicate' repeats the outermost pixels. 'error' fills nothing: all boxes must
    lie inside, which `boxes_over_edge` can check.

    Args:
        image: (n_rows, n_columns) micrograph, possibly memory-mapped: only the pixels of the boxes are read.
        top, left: (k,) first row and column of each box, possibly negative.
        cut: edge length, edge mode and sign.
        out: (k, size, size), overwritten.

    Raises:
        ValueError: with `edge='error'`, a box reaches beyond the micrograph.
    """
    tops, lefts = np.asarray(top, dtype=np.int64), np.asarray(left, dtype=np.int64)
    n_rows, n_columns = image.shape
    size = cut.size
    beyond = boxes_over_edge(tops, lefts, size, n_rows, n_columns)
    if cut.edge == "error" and beyond.any():
        raise ValueError("a box reaches beyond the micrograph")
    offsets = np.arange(size)
    for k, (row, column) in enumerate(zip(tops.tolist(), lefts.tolist(), strict=True)):
        if not beyond[k]:
            out[k] = image[row : row + size, column : column + size]
        elif cut.edge == "constant":
            _cut_with_zeros(image, row, column, out[k])
        else:
            nearest = _reflected if cut.edge == "reflect" else _clamped
            out[k] = image[np.ix_(nearest(row + offsets, n_rows), nearest(column + offsets, n_columns))]
    if cut.invert:
        # Subtracting from 0 keeps the padding at +0; multiplying by -1 would make it -0.
        np.subtract(0, out, out=out)


def _cut_with_zeros(image: npt.NDArray[np.float32], row: int, column: int, box: npt.NDArray[np.float32]) -> None:
    size = box.shape[0]
    first_row, first_column = max(row, 0), max(column, 0)
    seen = image[first_row : max(row + size, first_row), first_column : max(column + size, first_column)]
    box[...] = 0
    box[first_row - row : first_row - row + seen.shape[0], first_column - column : first_column - column + seen.shape[1]] = seen


def _reflected(positions: IndexArray, length: int) -> IndexArray:
    """Positions mirrored into [0, length) at the first and last pixel, as often as needed."""
    if length == 1:
        return np.zeros_like(positions)
    period = 2 * (length - 1)
    folded = positions % period
    return np.minimum(folded, period - folded)


def _clamped(positions: IndexArray, length: int) -> IndexArray:
    return np.clip(positions, 0, length - 1)
