"""The canvas, judged by its pixels and by Pillow, which reads its files."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from matplotlib import colormaps
from PIL import Image

from cryolike_dask.pictures.axes import Axes, even_ticks, power_of_ten, round_numbers
from cryolike_dask.pictures.canvas import Canvas, encode_png
from cryolike_dask.pictures.montage import GREYS, MAGMA


def pixels_of(canvas: Canvas) -> np.ndarray:
    buffer = io.BytesIO()
    canvas.save(buffer)
    with Image.open(buffer) as image:
        return np.asarray(image.convert("RGB")).astype(int)


@pytest.mark.parametrize(("channels", "mode"), [(3, "RGB"), (1, "L")])
def test_a_png_holds_the_pixels_it_was_made_of(channels: int, mode: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (37, 51, channels)).astype(np.uint8)
    pixels = np.broadcast_to(noise, (37, 51, 3))
    with Image.open(io.BytesIO(encode_png(pixels))) as image:
        assert image.mode == mode
        np.testing.assert_array_equal(np.asarray(image.convert("RGB")), pixels)
    Image.open(io.BytesIO(encode_png(pixels))).verify()  # checksums


def test_a_canvas_is_saved_to_a_path_as_to_a_file(tmp_path: Path) -> None:
    canvas = Canvas(20, 10)
    canvas.rectangle(2, 3, 5, 6, "#ff0000")
    canvas.save(tmp_path / "picture.png")
    buffer = io.BytesIO()
    canvas.save(buffer)
    assert (tmp_path / "picture.png").read_bytes() == buffer.getvalue()
    red = (pixels_of(canvas) == (255, 0, 0)).all(axis=2).nonzero()
    assert [(axis.min(), axis.max()) for axis in red] == [(3, 5), (2, 4)]


def test_a_curve_runs_through_its_points_and_ends_at_nan() -> None:
    canvas = Canvas(100, 60)
    canvas.curve([5, 40, np.nan, 60, 90, 1e4], [10, 45, 20, 30, 30, 30], "#000000", 2.0)
    dark = 255 - pixels_of(canvas)[..., 0]
    for column in (10, 25, 35):
        assert dark[:, column] @ np.arange(60) / dark[:, column].sum() == pytest.approx(column + 5, abs=0.15)
    assert dark[:, 48:56].max() == 0
    assert dark[:, 70].sum() / 255 == pytest.approx(2.0, abs=0.1)  # has the requested width
    assert dark[30, 99] > 100  # cut off at the edge


def test_text_upwards_is_text_turned() -> None:
    flat, upright = Canvas(120, 120), Canvas(120, 120)
    flat.text(60, 60, "power", 12, anchor="mm")
    upright.text_upwards(60, 60, "power", 12)
    rows, columns = ((pixels_of(canvas)[..., 0] < 128).nonzero() for canvas in (flat, upright))
    assert np.ptp(rows[1]) == pytest.approx(np.ptp(columns[0]), abs=1)
    assert np.ptp(rows[0]) == pytest.approx(np.ptp(columns[1]), abs=1)


def test_colours_are_those_of_matplotlib() -> None:
    for ours, name in ((GREYS, "gray"), (MAGMA, "magma")):
        theirs = np.asarray(colormaps[name](np.arange(256), bytes=True))[:, :3].astype(int)
        assert abs(ours.astype(int) - theirs).max() <= 3


def test_values_are_placed_by_the_limits() -> None:
    axes = Axes(Canvas(10, 10), 100, 20, 200, 50, x_limits=(2.0, 1.0), y_limits=(0.0, 10.0))
    assert axes.x(np.array([2.0, 1.75, 1.0])).tolist() == [100, 150, 300]
    assert axes.y(np.array([0.0, 5.0, 10.0])).tolist() == [70, 45, 20]


@pytest.mark.parametrize(
    ("limits", "labels"),
    [
        ((-180.0, 180.0), ["−100", "0", "100"]),
        ((0.87, 1.81), ["1.0", "1.2", "1.4", "1.6", "1.8"]),
        ((0.0, 65.0), ["0", "20", "40", "60"]),
        ((1e6, 1.5e6), ["1000000", "1100000", "1200000", "1300000", "1400000", "1500000"]),
    ],
)
def test_ticks_are_even_and_round(limits: tuple[float, float], labels: list[str]) -> None:
    values, written = even_ticks(*limits)
    assert written == labels
    assert values == pytest.approx([float(label.replace("−", "-")) for label in labels])


def test_round_numbers_of_logarithmic_scales() -> None:
    assert round_numbers(3.0, 300.0) == [3, 5, 10, 20, 30, 50, 100, 200, 300]
    assert [power_of_ten(level) for level in (1e-3, 2e-3, 1.0)] == ["10⁻³", "2·10⁻³", "10⁰"]
