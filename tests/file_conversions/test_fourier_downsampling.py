"""`downsample_type='fourier'` and `downsample_to` in a whole conversion."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import starfile

from cryolike_dask import restack, verify_output
from tests.support.conversions import convert, pixel_size_of, plan_of, refused, set_without_pixel_size
from tests.support.particle_sets import params, write_particle_set


@pytest.mark.parametrize(("small", "pixel"), [(8, 3.0), (7, 24 / 7), (12, 2.0)])
def test_any_smaller_box_has_its_pixel_size(tmp_path: Path, small: int, pixel: float) -> None:
    particles = write_particle_set(tmp_path, {"a.mrcs": 5})
    stacks = convert(particles, params(small, pixel), downsample_to=small, downsample_type="fourier")
    assert pixel_size_of(stacks) == pixel
    assert stacks[0].physical.shape == (5, small, small)
    assert verify_output(tmp_path / "out", deep=True) == []


def test_a_factor_and_the_box_it_gives_are_the_same(tmp_path: Path) -> None:
    particles = write_particle_set(tmp_path, {"a.mrcs": 3})
    (by_factor,) = convert(particles, params(6, 4.0), "factor", downsample_factor=2, downsample_type="fourier")
    (by_box,) = convert(particles, params(6, 4.0), "box", downsample_to=6, downsample_type="fourier")
    np.testing.assert_array_equal(by_factor.fourier, by_box.fourier)


def test_a_descriptor_of_the_source_grid_is_downsampled(tmp_path: Path) -> None:
    particles = write_particle_set(tmp_path, {"a.mrcs": 3})
    plan = plan_of(particles, downsample_to=9, downsample_type="fourier")
    assert plan.descriptor.n_pixels == (9, 9)
    assert plan.descriptor.pixel_size == (2.0 * 12 / 9,) * 2
    assert plan.descriptor.radius_max == 9 / 4
    assert "downsampling by 1.33333 gives 9 × 9 pixels" in plan.warnings[0]


def test_a_remainder_is_kept_and_counted_in_the_pixel_size(tmp_path: Path) -> None:
    particles = set_without_pixel_size(tmp_path, header=2.0)
    # 12 // 5 = 2 pixels of 12 / 2 times the size, where blocks of 5 drop the remainder.
    plan = plan_of(particles, params(2, 12.0), downsample_factor=5, downsample_type="fourier")
    assert plan.descriptor.pixel_size == (12.0, 12.0)
    assert not any("left out" in line for line in plan.warnings)


@pytest.mark.parametrize("kind", ["mean", "max"])
def test_a_remainder_that_blocks_leave_out_is_reported(tmp_path: Path, kind: str) -> None:
    particles = set_without_pixel_size(tmp_path, header=2.0)
    (line,) = (
        line for line in plan_of(particles, params(2, 10.0), downsample_factor=5, downsample_type=kind).warnings if "blocks" in line
    )
    assert "Images of 12 × 12 pixels (" in line
    assert "blocks of 5 × 5 pixels: the last 2 pixels of each row and column are left out" in line
    assert "--downsample-type fourier" in line
    for factor in (1, 2, 3, 4, 6):
        plan = plan_of(particles, params(12 // factor, 2.0 * factor), downsample_factor=factor, downsample_type=kind)
        assert not any("left out" in line for line in plan.warnings), factor


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"downsample_to": 6, "downsample_type": "fourier", "downsample_factor": 2}, "give only one of them"),
        ({"downsample_to": 6}, "--downsample-type fourier"),
        ({"downsample_to": 6, "downsample_type": "max"}, "does not work with the max of blocks"),
        ({"downsample_to": 13, "downsample_type": "fourier"}, "images are 12 × 12 pixels"),
        ({"downsample_to": 1, "downsample_type": "fourier"}, "at least 2"),
        ({"downsample_to": 6.5, "downsample_type": "fourier"}, "edge of the box"),
    ],
    ids=str,
)
def test_impossible_boxes_are_refused(tmp_path: Path, options: dict[str, Any], named: str) -> None:
    refused(write_particle_set(tmp_path, {"a.mrcs": 2}), named, **options)


def test_pixels_must_stay_square(tmp_path: Path) -> None:
    particles = write_particle_set(tmp_path, {"a.mrcs": 2}, box=(12, 20))
    refused(particles, "not square", downsample_to=8, downsample_type="fourier", descriptor=params((8, 8), 3.0))
    (stack,) = convert(particles, params((6, 10), 4.0), downsample_factor=2, downsample_type="fourier")
    assert stack.physical.shape == (2, 6, 10)
    assert verify_output(tmp_path / "out", deep=True) == []


@pytest.mark.parametrize("axes", ["cryolike", "relion"])
def test_the_star_file_names_the_source_images_even_after_restacking(tmp_path: Path, axes: str) -> None:
    particles = write_particle_set(tmp_path, {"a.mrcs": 3}, box=(12, 18))
    (n_x, n_y) = (6, 9) if axes == "cryolike" else (9, 6)
    convert(particles, params((n_x, n_y), 4.0), downsample_factor=2, downsample_type="fourier", axes=axes)
    restack(tmp_path / "out", tmp_path / "again", batch_size=2)
    for folder in ("out", "again"):
        optics = starfile.read(tmp_path / folder / "particles.star", always_dict=True)["optics"]
        assert float(optics["rlnImagePixelSize"].iloc[0]) == 2.0
        assert int(optics["rlnImageSize"].iloc[0]) == 18


def test_constant_images_are_written_as_zeros_and_verified(tmp_path: Path) -> None:
    particles = write_particle_set(tmp_path, {"a.mrcs": 3})
    file = particles.mrc / "a.mrcs"
    content = bytearray(file.read_bytes())
    content[1024 : 1024 + 4 * 144] = np.full(144, 3.3, "<f4").tobytes()
    file.write_bytes(bytes(content))
    (stack,) = convert(particles, params(8, 3.0), downsample_to=8, downsample_type="fourier", on_bad_image="zero")
    assert stack.metadata["zeroed"].tolist() == [0]
    assert verify_output(tmp_path / "out", deep=True) == []
