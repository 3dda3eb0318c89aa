"""The pictures of a stack, judged by their pixels."""

from __future__ import annotations

import io
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cryolike_dask.metadata.image_descriptor import ImageDescriptor
from cryolike_dask.pictures.montage import block_means, map_colours, polar_lookup, tile_images
from cryolike_dask.pictures.plots import (
    FOOTING,
    HEADING,
    MARGIN,
    TILE,
    plot_fourier_images,
    plot_physical_images,
    plot_power_spectrum,
    shell_resolutions,
)
from cryolike_dask.pictures.stack_plots import _common_zeros
from cryolike_dask.simulation.ctf import ctf_zero_resolutions

GREY = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)


def picture(source: io.BytesIO | Path) -> np.ndarray:
    with Image.open(source) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def tile(pixels: np.ndarray, row: int, column: int, size: int = TILE) -> np.ndarray:
    top, left = HEADING + row * (size + 4), MARGIN + column * (size + 4)
    return pixels[top : top + size, left : left + size]


def physical(images: np.ndarray, pixel_size: float = 2.0) -> np.ndarray:
    buffer = io.BytesIO()
    plot_physical_images(images, pixel_size, buffer)
    return picture(buffer)


def test_physical_images_share_one_grey_scale() -> None:
    images = np.zeros((4, 64, 64), dtype=np.float32)
    images[1] += 1.0
    images[2] += 1.0
    images[2, :32] = 2.0
    pixels = physical(images)
    dark, bright = tile(pixels, 0, 0), tile(pixels, 0, 1)
    assert np.ptp(dark) == 0
    assert bright.min() > dark.max()
    upper, lower = tile(pixels, 1, 0)[:64], tile(pixels, 1, 0)[64:]
    assert (lower == bright[0, 0]).all()  # rows run downwards
    assert upper.min() > lower.max()


def test_scale_bar_has_the_length_it_states() -> None:
    pixels = physical(np.random.default_rng(0).normal(size=(9, 64, 64)).astype(np.float32), pixel_size=2.0)
    footing = pixels[-FOOTING:, : MARGIN + 3 * TILE]
    bar = (footing[FOOTING // 2] < 80).all(axis=1)
    first = int(np.argmax(bar))
    length = int(np.argmin(bar[first:]))
    # 50 Å are 25 pixels of the image, and each is drawn as 2.
    assert first == pytest.approx(MARGIN, abs=1)
    assert length == pytest.approx(50, abs=2)


@pytest.mark.parametrize("k", [1, 2, 5, 16, 40])
def test_a_montage_has_room_for_up_to_sixteen_images(k: int) -> None:
    images = np.random.default_rng(k).normal(size=(k, 20, 20)).astype(np.float32)
    columns, rows = {1: (1, 1), 2: (2, 1), 5: (3, 2), 16: (4, 4), 40: (4, 4)}[k]
    edge = 120  # 20 pixels, each drawn as 6
    height, width, _ = physical(images).shape
    assert height == HEADING + rows * edge + (rows - 1) * 4 + FOOTING
    assert width == max(400, columns * edge + (columns - 1) * 4 + 2 * MARGIN)


@pytest.mark.parametrize("shape", [(256, 256), (33, 33), (300, 200), (24, 16)])
def test_any_shape_of_image_is_drawn(shape: tuple[int, int]) -> None:
    assert physical(np.random.default_rng(0).normal(size=(3, *shape)).astype(np.float32)).std() > 0


def test_constant_images_are_drawn_without_warnings() -> None:
    assert (tile(physical(np.zeros((1, 64, 64), dtype=np.float32)), 0, 0) == 127).all()


@pytest.mark.parametrize(("angle", "direction"), [(0, (1, 0)), (90, (0, 1)), (180, (-1, 0)), (270, (0, -1))])
def test_fourier_montage_shows_the_transform_of_the_image_as_displayed(angle: int, direction: tuple[int, int]) -> None:
    grid = ImageDescriptor.from_individual_values(n_pixels=48, pixel_size=2.0).polar_grid
    fourier = np.full((1, grid.n_shells, grid.n_inplanes), 1e-3, dtype=np.complex64)
    shell, spoke = int(np.argmin(abs(grid.radii - 8.0))), round(angle / 360 * grid.n_inplanes)
    near = (np.arange(spoke - 2, spoke + 3)) % grid.n_inplanes
    fourier[0, shell - 1 : shell + 2, near[:, None]] = 1.0
    buffer = io.BytesIO()
    plot_fourier_images(fourier, grid.radii, 96.0, buffer)
    middle = (TILE - 1) / 2
    reach = middle * grid.radii[shell] / grid.radii[-1]
    row, column = round(middle + direction[0] * reach), round(middle + direction[1] * reach)
    disc = tile(picture(buffer), 0, 0).astype(int).sum(axis=2)
    assert disc[row, column] > 500
    assert disc[round(middle - direction[0] * reach * 0.8), round(middle - direction[1] * reach * 0.8)] < 100


@pytest.mark.parametrize(("n_pixels", "n_inplanes"), [(16, 1), (48, 61), (256, 512), (100, 33)])
def test_any_polar_grid_is_drawn(n_pixels: int, n_inplanes: int, tmp_path: Path) -> None:
    grid = ImageDescriptor.from_individual_values(n_pixels=n_pixels, pixel_size=2.0, n_inplanes=n_inplanes).polar_grid
    rng = np.random.default_rng(0)
    fourier = rng.normal(size=(2, grid.n_shells, n_inplanes)) + 1j * rng.normal(size=(2, grid.n_shells, n_inplanes))
    plot_fourier_images(fourier, grid.radii, n_pixels * 2.0, tmp_path / "fourier.png")
    plot_fourier_images(np.zeros_like(fourier), grid.radii, n_pixels * 2.0, tmp_path / "zero.png")
    assert picture(tmp_path / "fourier.png").std() > 0


def test_polar_lookup_finds_the_nearest_shell_and_angle() -> None:
    radii = (0.5, 1.5, 3.0, 4.0)
    lookup, inside = polar_lookup(radii, 12, 41)
    for row, column in ((20, 25), (33, 20), (8, 9), (20, 20)):
        k1, k2 = (row - 20) / 20 * 4.0, (column - 20) / 20 * 4.0
        shell = int(np.argmin([abs(np.hypot(k1, k2) - radius) for radius in radii]))
        spoke = int(np.argmax([k1 * np.cos(2 * np.pi * j / 12) + k2 * np.sin(2 * np.pi * j / 12) for j in range(12)]))
        assert lookup[row, column] == shell * 12 + spoke
    assert inside[20, 40]
    assert not inside[0, 0]


def spectrum(power: np.ndarray, resolution: np.ndarray, **options: object) -> np.ndarray:
    buffer = io.BytesIO()
    plot_power_spectrum(power, resolution, buffer, **options)  # type: ignore[arg-type]
    return picture(buffer)


def test_power_spectrum_runs_from_coarse_to_fine() -> None:
    resolution = np.geomspace(100.0, 4.0, 60)
    pixels = spectrum(np.where(resolution > 20, 1e-2, 1e-4), resolution)
    curve = (abs(pixels.astype(int) - (0x1F, 0x6F, 0x8B)).sum(axis=2) < 20).nonzero()
    left, right = curve[0][curve[1] < 300], curve[0][curve[1] > 500]
    assert left.max() < right.min()  # strong power is high in the picture, on the left


def test_ctf_zeros_are_marked_where_they_are() -> None:
    resolution = np.geomspace(100.0, 4.0, 60)
    plain = spectrum(np.full(60, 1e-3), resolution)
    marked = spectrum(np.full(60, 1e-3), resolution, ctf_zeros=[20.0, 1.0, 500.0])
    changed = np.flatnonzero((plain[60:300] != marked[60:300]).any(axis=(0, 2)))
    left, width = 0.125 * 680, 0.845 * 680
    assert changed.mean() == pytest.approx(left + width * np.log(100 / 20) / np.log(100 / 4), abs=2)
    assert np.ptp(changed) <= 3


@pytest.mark.parametrize("power", [np.zeros(5), np.full(5, np.nan), np.ones(5), np.array([1e-30, 1, 2, 3, 1e30])])
def test_any_power_spectrum_is_drawn(power: np.ndarray) -> None:
    assert spectrum(power, np.array([100.0, 50.0, 20.0, 10.0, 5.0]), box_length=80.0).std() > 0


def test_resolution_of_a_shell_is_box_over_twice_its_radius() -> None:
    np.testing.assert_allclose(shell_resolutions(np.array([0.5, 16.0]), 128.0), [128.0, 4.0])


def test_pictures_drawn_in_threads_equal_those_drawn_one_by_one() -> None:
    stacks = [np.random.default_rng(seed).normal(size=(4, 32, 32)).astype(np.float32) for seed in range(6)]
    alone = [physical(images) for images in stacks]
    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(physical, stacks))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)


def test_power_spectra_drawn_in_threads_equal_those_drawn_one_by_one() -> None:
    resolution = np.geomspace(100.0, 4.0, 60)
    powers = [np.random.default_rng(seed).uniform(1.0, 9.0, 60) * 10.0**-seed for seed in range(8)]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda power: spectrum(power, resolution, ctf_zeros=[20.0]), powers))
    for power, other in zip(powers, together, strict=True):
        np.testing.assert_array_equal(spectrum(power, resolution, ctf_zeros=[20.0]), other)


def test_plots_load_no_matplotlib() -> None:
    script = (
        "import io, sys, numpy as np; from cryolike_dask.pictures import plots\n"
        "plots.plot_physical_images(np.ones((1, 8, 8), dtype=np.float32), 1.0, io.BytesIO())\n"
        "plots.plot_fourier_images(np.ones((1, 4, 8), dtype=np.complex64), np.arange(1.0, 5.0), 8.0, io.BytesIO())\n"
        "plots.plot_power_spectrum(np.arange(1.0, 5.0), np.array([8.0, 4.0, 3.0, 2.0]), io.BytesIO())\n"
        "sys.exit('matplotlib' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_block_means_average_whole_blocks() -> None:
    means = block_means(np.arange(30, dtype=np.float64).reshape(1, 5, 6), 2)
    np.testing.assert_allclose(means, [[[3.5, 5.5, 7.5], [15.5, 17.5, 19.5]]])


def test_colours_are_clipped_and_nan_is_white() -> None:
    shown = map_colours(np.array([[-5.0, 0.0, 1.0, 9.0, np.nan]]), (0.0, 1.0), GREY)
    assert shown[0, :, 0].tolist() == [0, 0, 255, 255, 255]


def test_tiles_are_laid_out_row_by_row_with_white_gaps() -> None:
    tiles = np.zeros((3, 2, 2, 3), dtype=np.uint8) + np.array([10, 20, 30], dtype=np.uint8)[:, None, None, None]
    canvas = tile_images(tiles, columns=2, zoom=2)[..., 0]
    assert canvas.shape == (12, 12)
    assert (canvas[:4, :4] == 10).all()
    assert (canvas[:4, 8:] == 20).all()
    assert (canvas[8:, :4] == 30).all()
    assert (canvas[4:8] == 255).all()
    assert (canvas[8:, 4:] == 255).all()


def test_zeros_are_marked_as_far_as_the_images_have_them_in_common() -> None:
    n = 200
    metadata = {"n_images": np.int64(n), "voltage": np.float64(300), "sphericalAberration": np.float64(2.7)}
    metadata |= {"amplitudeContrast": np.float64(0.1), "defocusAngle": np.zeros(n), "phaseShift": np.zeros(n)}

    def zeros(spread: float) -> np.ndarray:
        defocus = 15_000 + spread * np.linspace(-1, 1, n)
        return _common_zeros(metadata | {"defocusU": defocus, "defocusV": defocus})

    of_one = ctf_zero_resolutions(15_000.0, 300.0, 2.7, 0.1)
    np.testing.assert_allclose(zeros(0.0), of_one[:40])
    assert 0 < len(zeros(500.0)) < 40
    np.testing.assert_allclose(zeros(500.0), of_one[: len(zeros(500.0))])
    assert len(zeros(8_000.0)) == 0
