"""Semantics of the contract: boxes, downsampling, and the descriptor that belongs to them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cryolike_dask import (
    Conversion,
    ImageDescriptor,
    InputError,
    particles_from_star,
)
from tests.support.conversions import convert, pixel_size_of, plan_of, refused
from tests.support.particle_sets import (
    ParticleSet,
    assert_holds,
    in_sequence,
    optics_table,
    params,
    write_images,
    write_particle_set,
    write_star,
)
from tests.support.star_files import without_column


def test_box_that_is_not_the_descriptors_is_refused_naming_both(abc: ParticleSet, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"images of 16 × 16 pixels, but the images are 12 × 12"):
        Conversion(particles_from_star(abc.star, abc.mrc), params(16))


def test_rectangular_images_keep_their_axes(tmp_path: Path) -> None:
    images = write_images(tmp_path / "mrc", {"a.mrcs": 3}, box=(10, 16))
    write_star(tmp_path / "particles.star", in_sequence({"a.mrcs": 3}))
    particles = ParticleSet(tmp_path, images, tuple(in_sequence({"a.mrcs": 3})))
    stacks = convert(particles, ImageDescriptor.from_individual_values((10, 16), 2.0))
    assert stacks[0].metadata["n_pixels"].tolist() == [10, 16]
    assert_holds(stacks, images, particles.listed)
    refused(particles, "16 × 10", "10 × 16", descriptor=ImageDescriptor.from_individual_values((16, 10), 2.0))


@pytest.mark.parametrize("never_combine", [False, True])
def test_different_boxes_are_refused_naming_them(tmp_path: Path, never_combine: bool) -> None:
    particles = write_particle_set(tmp_path, {"a.mrcs": 2, "b.mrcs": 2})
    write_images(particles.mrc, {"b.mrcs": 2}, box=14)
    refused(particles, "12 × 12", "14 × 14", "a.mrcs", "b.mrcs", never_combine_input_files=never_combine)


def test_boxes_that_agree_only_after_downsampling_share_no_stack(tmp_path: Path) -> None:
    particles = write_particle_set(tmp_path, {"a.mrcs": 2, "b.mrcs": 2})
    images = dict(particles.images) | write_images(particles.mrc, {"b.mrcs": 2}, box=13, seed=5)
    particles = ParticleSet(particles.folder, images, particles.listed)
    descriptor = ImageDescriptor.from_individual_values(6, 4.0)
    refused(particles, "12 × 12", "13 × 13", descriptor=descriptor, downsample_factor=2)
    # Never combined, each fits the descriptor on its own.
    stacks = convert(particles, descriptor, downsample_factor=2, never_combine_input_files=True)
    assert [len(stack.fourier) for stack in stacks] == [2, 2]
    assert_holds(stacks, images, particles.listed, 2)


@pytest.mark.parametrize("kind", ["mean", "max"])
@pytest.mark.parametrize("factor", [1, 2, 3, 4, 5])
def test_descriptor_of_the_source_is_cut_to_the_new_nyquist_limit(tmp_path: Path, factor: int, kind: str) -> None:
    particles = write_particle_set(tmp_path, {"a.mrcs": 3}, box=22)
    stacks = convert(particles, params(22), downsample_factor=factor, downsample_type=kind)
    metadata, small = stacks[0].metadata, 22 // factor
    assert metadata["n_pixels"].tolist() == [small, small]
    assert metadata["pixel_size"].tolist() == [2.0 * factor] * 2
    assert metadata["radius_max"] == small / 4
    assert metadata["n_inplanes"] == 44
    assert_holds(stacks, particles.images, particles.listed, factor, kind)
    assert ImageDescriptor.load(tmp_path / "out" / "params.npz").n_pixels == (small, small)
    warned = any(
        "gives" in line and "radius_max" in line for line in plan_of(particles, params(22), downsample_factor=factor).warnings
    )
    assert warned == (factor > 1)


def test_radius_below_the_new_limit_is_kept(tmp_path: Path) -> None:
    particles = write_particle_set(tmp_path, {"a.mrcs": 2}, box=24)
    stacks = convert(particles, params(24, resolution_factor=0.25), downsample_factor=2)
    assert stacks[0].metadata["radius_max"] == 1.5


@pytest.mark.parametrize("factor", [2, 3])
def test_descriptor_of_the_downsampled_grid_is_taken_as_it_is(tmp_path: Path, factor: int) -> None:
    particles = write_particle_set(tmp_path, {"a.mrcs": 3}, box=12 * factor)
    descriptor = params(12, 2.0 * factor, n_inplanes=33)
    stacks = convert(particles, descriptor, downsample_factor=factor)
    assert_holds(stacks, particles.images, particles.listed, factor)
    assert ImageDescriptor.load(tmp_path / "out" / "params.npz") == descriptor


def test_descriptor_of_the_downsampled_grid_has_its_pixel_size(tmp_path: Path) -> None:
    particles = write_particle_set(tmp_path, {"a.mrcs": 3}, box=24)
    refused(particles, "descriptor says 2 Å", "4 Å (2 × 2 Å)", descriptor=params(12, 2.0), downsample_factor=2)
    # The argument is the pixel size of the source images.
    silent = write_particle_set(
        tmp_path / "silent", {"a.mrcs": 3}, box=24, optics=without_column(optics_table(), "rlnImagePixelSize")
    )
    assert pixel_size_of(convert(silent, params(12, 4.0), pixel_size=1.5, downsample_factor=2)) == 3.0


@pytest.mark.parametrize("factor", [0.5, -0.5, 1.5, "2x", None, True])
def test_factors_that_are_no_whole_number_are_refused(abc: ParticleSet, factor: Any) -> None:
    with pytest.raises(InputError, match=r"downsample_factor \(--downsample-factor\) is"):
        Conversion(particles_from_star(abc.star, abc.mrc), params(), downsample_factor=factor)


def test_factor_that_leaves_nothing_is_refused(abc: ParticleSet) -> None:
    with pytest.raises(InputError, match="leaves nothing"):
        Conversion(particles_from_star(abc.star, abc.mrc), params(), downsample_factor=9)


def test_shells_beyond_nyquist_are_refused(abc: ParticleSet) -> None:
    beyond = ImageDescriptor(n_pixels=(12, 12), pixel_size=(2.0, 2.0), radius_max=3.25, dist_radii=0.25, n_inplanes=24)
    with pytest.raises(InputError, match=r"radius_max 3\.25 .* beyond 3, the Nyquist limit"):
        Conversion(particles_from_star(abc.star, abc.mrc), beyond)
