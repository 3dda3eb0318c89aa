"""Compiled loops over spectra, from the first FFT to normalised polar images. They work on one image at a time, which stays in cache.

The interpolation loop uses LLVM's vector types, because LLVM does not vectorise a plain loop, which is twenty times slower. One polar
point takes w loads of w complex numbers, each row scaled by its weight and added up in registers. LLVM maps the vectors to the
instructions of the processor (SSE, AVX2, AVX-512, NEON).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit
from numba.core import types
from numba.extending import intrinsic

from cryolike_dask.transform.compilation import NJIT_OPTIONS, REORDER_SUMS
from cryolike_dask.transform.interface import OK
from cryolike_dask.transform.interpolation import WIDTH


@njit(**NJIT_OPTIONS)
def lay_out_rows(spectra: Any, rows: Any, margin: int) -> None:
    """Turn the row FFTs of images into the rows of their half spectra, ready for the second FFT.

    Args:
        spectra: (k, n_x, fine_y / 2 + 1) complex, the real FFTs of the padded rows.
        margin: rows below ky = 0.
        rows: (k, n_spectrum_rows, fine_x) complex; row r receives ky = r - margin, with the middle row of the image at column 0
            (wrapping). Rows below 0 and above the highest frequency are conjugates, because along x the data are still in real space.
            Columns without an image row are not written, and must be zero.
    """
    for k in range(spectra.shape[0]):
        _lay_out_rows(spectra[k], rows[k], margin)


@njit(**NJIT_OPTIONS)
def _lay_out_rows(spectrum: Any, rows: Any, margin: int) -> None:
    n_x, n_y = spectrum.shape
    highest = n_y - 1
    half = n_x // 2
    shift = rows.shape[1] - half
    block = 16
    for first in range(0, n_x, block):
        last = min(first + block, n_x)
        for r in range(rows.shape[0]):
            ky = r - margin
            mirrored = ky < 0 or ky > highest
            if ky < 0:
                ky = -ky
            elif ky > highest:
                ky = 2 * highest - ky
            for x in range(first, last):
                value = spectrum[x, ky]
                target = x - half if x >= half else x + shift
                rows[r, target] = np.conj(value) if mirrored else value


@intrinsic
def _interpolate_point(typing: Any, grid: Any, start: Any, stride: Any, weights: Any, point: Any, values: Any) -> tuple[Any, Any]:
    """values[point] = sum over rows r, columns c of weights_y[r] weights_x[c] grid[start + r stride + c], complex as pairs."""
    w = WIDTH["single" if grid.dtype == types.float32 else "double"]
    signature = types.void(grid, start, stride, weights, point, values)

    def generate(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
        grid_data, weight_data, value_data = (
            context.make_array(kind)(context, builder, arguments[i]).data for i, kind in ((0, grid), (3, weights), (5, values))
        )
        number = ir.FloatType() if grid.dtype == types.float32 else ir.DoubleType()
        align = 4 if grid.dtype == types.float32 else 8
        int32, int64 = ir.IntType(32), ir.IntType(64)
        row_type, weight_type = ir.VectorType(number, 2 * w), ir.VectorType(number, w)

        def load(pointer: Any, kind: Any) -> Any:
            loaded = builder.load(builder.bitcast(pointer, kind.as_pointer()))
            loaded.align = align
            return loaded

        def shuffle(vector: Any, lanes: list[int]) -> Any:
            return builder.shuffle_vector(
                vector, ir.Constant(vector.type, ir.Undefined), ir.Constant(ir.VectorType(int32, len(lanes)), lanes)
            )

        # The weights of a point are adjacent, y before x: one or two cache lines.
        first_weight = builder.gep(weight_data, [builder.mul(arguments[4], int64(2 * w))])
        weights_y = load(first_weight, weight_type)
        weights_x = load(builder.gep(first_weight, [int64(w)]), weight_type)
        row = builder.gep(grid_data, [arguments[1]])
        total = None
        for r in range(w):
            scaled = builder.fmul(shuffle(weights_y, [r] * (2 * w)), load(row, row_type), flags=("contract",))
            total = scaled if total is None else builder.fadd(scaled, total, flags=("contract",))
            row = builder.gep(row, [arguments[2]])
        total = builder.fmul(total, shuffle(weights_x, [lane // 2 for lane in range(2 * w)]))
        lanes = 2 * w
        while lanes > 2:
            lanes //= 2
            total = builder.fadd(shuffle(total, list(range(lanes))), shuffle(total, list(range(lanes, 2 * lanes))))
        target = builder.gep(value_data, [builder.mul(arguments[4], int64(2))])
        stored = builder.store(total, builder.bitcast(target, ir.VectorType(number, 2).as_pointer()))
        stored.align = align
        return context.get_dummy_value()

    return signature, generate


@njit(**NJIT_OPTIONS)
def _interpolate(grid: Any, start: Any, stride: int, weights: Any, values: Any) -> None:
    for point in range(start.shape[0]):
        _interpolate_point(grid, np.int64(start[point]), stride, weights, np.int64(point), values)


@njit(**NJIT_OPTIONS)
def polar_images(
    grids: Any,
    start: Any,
    weights: Any,
    wrapped: Any,
    wrapped_start: Any,
    wrapped_weights: Any,
    shell_weights: Any,
    conjugate: Any,
    status: Any,
    strip: Any,
    wrapped_values: Any,
    half: Any,
    fourier: Any,
    power: Any,
) -> None:
    """Interpolate half spectra at the polar points and normalise. Complex values are pairs of numbers, of one type throughout.

    Args:
        grids: (k, n_spectrum_rows, 2 fine_x) half spectra.
        start: (n_points,) int32 place of the first number of each footprint in a flat half spectrum.
        weights: (n_points, 2 w) weights along y, then along x.
        wrapped: (m,) points whose footprint crosses kx = +-fine_x / 2, where the half spectrum is periodic. They are interpolated
            again, on a strip that joins its last w columns to its first w.
        wrapped_start, wrapped_weights: as `start` and `weights`, for the wrapped points and the strip.
        shell_weights: (n_shells,) float64 integration weight of one point on a shell.
        conjugate: (n_angles,) whether the value is stored conjugated.
        status: (k,) status of the images; the results of those that are not OK become zero.
        strip: (n_spectrum_rows, 4 w) work space.
        wrapped_values: (2 m,) work space.
        half: (n_shells, 2 n_angles) work space.
        fourier: (k, n_shells, 2 n_inplanes), receives images of unit norm; n_inplanes is n_angles or twice that.
        power: (k, n_shells) float64, receives the mean of |F|^2 over the in-plane angles.
    """
    width = strip.shape[1] // 2
    values = half.reshape(-1)
    for k in range(grids.shape[0]):
        if status[k] != OK:
            fourier[k] = 0
            power[k] = 0
            continue
        grid = grids[k]
        _interpolate(grid.reshape(-1), start, grid.shape[1], weights, values)
        strip[:, :width] = grid[:, grid.shape[1] - width :]
        strip[:, width:] = grid[:, :width]
        _interpolate(strip.reshape(-1), wrapped_start, 2 * width, wrapped_weights, wrapped_values)
        for i in range(wrapped.shape[0]):
            values[2 * wrapped[i]] = wrapped_values[2 * i]
            values[2 * wrapped[i] + 1] = wrapped_values[2 * i + 1]
        _normalise(half, shell_weights, conjugate, fourier[k], power[k])


@njit(fastmath=REORDER_SUMS, **NJIT_OPTIONS)
def _normalise(half: Any, shell_weights: Any, conjugate: Any, fourier: Any, power: Any) -> None:
    n_shells, n_numbers = half.shape
    n_angles = n_numbers // 2
    n_copies = fourier.shape[1] // n_numbers
    norm = 0.0
    for s in range(n_shells):
        total = 0.0
        for j in range(n_numbers):
            total += np.float64(half[s, j]) ** 2
        power[s] = total / n_angles
        norm += shell_weights[s] * total * n_copies
    factor = half.dtype.type(1.0 / np.sqrt(norm))
    for s in range(n_shells):
        power[s] /= norm
        for j in range(n_angles):
            real = half[s, 2 * j] * factor
            imaginary = half[s, 2 * j + 1] * factor
            if n_copies == 2:
                fourier[s, 2 * j] = real
                fourier[s, 2 * j + 1] = imaginary
                fourier[s, n_numbers + 2 * j] = real
                fourier[s, n_numbers + 2 * j + 1] = -imaginary
            else:
                fourier[s, 2 * j] = real
                fourier[s, 2 * j + 1] = -imaginary if conjugate[j] else imaginary
