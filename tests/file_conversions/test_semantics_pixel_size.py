"""Semantics of the contract: the pixel size in force, and what conflicts with it."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from cryolike_dask import (
    ImageDescriptor,
)
from tests.support.conversions import convert, pixel_size_of, plan_of, refused, set_without_pixel_size
from tests.support.independent_reader import read_arrays
from tests.support.particle_sets import (
    PIXEL_SIZE,
    optics_table,
    params,
    write_images,
    write_particle_set,
)
from tests.support.star_files import without_column


def test_pixel_size_argument_comes_first_and_replaces_the_descriptors(tmp_path: Path) -> None:
    particles, descriptor = set_without_pixel_size(tmp_path, header=3.0), params(pixel_size=4.0)
    stacks = convert(particles, descriptor, pixel_size=2.5)
    assert pixel_size_of(stacks) == 2.5
    assert descriptor.pixel_size == (4.0, 4.0)
    assert read_arrays(particles.folder / "out" / "params.npz")["pixel_size"].tolist() == [2.5, 2.5]
    assert plan_of(particles, pixel_size=2.5).pixel_size_from == "argument"


def test_pixel_size_of_the_table_comes_before_the_header(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    particles = write_particle_set(tmp_path, {"a.mrcs": 3}, pixel_size=3.0)
    with caplog.at_level(logging.INFO, "cryolike_dask"):
        plan = plan_of(particles)
    assert plan.pixel_size_from == "table"
    assert any("says 3 Å per pixel; the table says 2 Å" in line for line in plan.warnings)
    assert "Pixel size 2 Å, taken from the table" in caplog.text


def test_pixel_size_of_the_header_counts_where_it_is_believable(tmp_path: Path) -> None:
    assert plan_of(set_without_pixel_size(tmp_path / "two", header=2.0)).pixel_size_from == "image headers"
    for header in (0.0, 1.0):
        plan = plan_of(set_without_pixel_size(tmp_path / str(header), header=header))
        assert plan.pixel_size_from == "descriptor"
        assert plan.descriptor.pixel_size == (PIXEL_SIZE, PIXEL_SIZE)


def test_headers_count_file_by_file(tmp_path: Path) -> None:
    optics = without_column(optics_table(), "rlnImagePixelSize")
    particles = write_particle_set(tmp_path, {"a.mrcs": 2, "b.mrcs": 2}, optics=optics)
    write_images(particles.mrc, {"b.mrcs": 2}, pixel_size=3.0)
    # a.mrcs states no pixel size, and that of b.mrcs contradicts the descriptor, which must be noticed.
    message = refused(particles, "b.mrcs", "descriptor says 2 Å")
    assert "image headers" in message


def test_argument_that_conflicts_with_the_table_is_refused(tmp_path: Path) -> None:
    particles = write_particle_set(tmp_path, {"a.mrcs": 3})
    refused(particles, "2.001 Å given as an argument", "2 Å in", "particle 1", pixel_size=2.001)
    # Within 1e-4 they are the same.
    assert pixel_size_of(convert(particles, pixel_size=2.0001)) == 2.0001


def test_table_wins_over_the_argument_on_request(tmp_path: Path) -> None:
    particles = write_particle_set(tmp_path, {"a.mrcs": 3})
    plan = plan_of(particles, pixel_size=5.0, ignore_manual_pixel_size=True)
    assert (plan.pixel_size_from, plan.descriptor.pixel_size) == ("table", (2.0, 2.0))
    assert any("5 Å given as an argument is ignored: the table says 2 Å" in line for line in plan.warnings)
    silent = set_without_pixel_size(tmp_path / "silent")
    assert plan_of(silent, pixel_size=5.0, ignore_manual_pixel_size=True).descriptor.pixel_size == (5.0, 5.0)


def test_header_that_conflicts_with_the_argument_only_warns(tmp_path: Path) -> None:
    plan = plan_of(set_without_pixel_size(tmp_path, header=3.0), pixel_size=2.0)
    assert any("says 3 Å per pixel; the argument says 2 Å" in line for line in plan.warnings)


@pytest.mark.parametrize(("origin", "says"), [("table", "says"), ("image headers", "say")])
def test_a_conflicting_descriptor_is_refused_naming_both_sides(tmp_path: Path, origin: str, says: str) -> None:
    particles = write_particle_set(tmp_path, {"a.mrcs": 3}) if origin == "table" else set_without_pixel_size(tmp_path, header=2.0)
    refused(particles, "The descriptor says 2.1 Å", f"the {origin} {says} 2 Å", descriptor=params(pixel_size=2.1))


def test_rounding_in_a_table_does_not_change_the_descriptors_float(tmp_path: Path) -> None:
    optics = optics_table(rlnImagePixelSize=["1.33333"])
    particles = write_particle_set(tmp_path, {"a.mrcs": 3}, optics=optics)
    assert pixel_size_of(convert(particles, params(pixel_size=4 / 3))) == 4 / 3


@pytest.mark.parametrize("factor", [3, 5, 7])
def test_product_of_argument_and_factor_does_not_change_the_descriptors_float(tmp_path: Path, factor: int) -> None:
    particles = set_without_pixel_size(tmp_path)
    particles = write_particle_set(tmp_path, {"a.mrcs": 2}, box=8 * factor, optics=optics_table(rlnImagePixelSize=["1.1"]))
    descriptor = ImageDescriptor.from_individual_values(8, float(f"{1.1 * factor:.1f}"))
    for options in ({"pixel_size": 1.1}, {}):
        plan = plan_of(particles, descriptor, downsample_factor=factor, **options)
        assert plan.descriptor == descriptor
        assert plan.stack(0).descriptor == descriptor


def test_descriptors_pixel_size_alone_survives_a_factor(tmp_path: Path) -> None:
    optics = without_column(optics_table(), "rlnImagePixelSize")
    particles = write_particle_set(tmp_path, {"a.mrcs": 2}, box=30, optics=optics)
    assert 1.7 / 5 * 5 != 1.7, "a size that does not survive going there and back"
    for pixel_size, factor in ((1.7, 5), (5.3, 5), (0.83, 3), (3.3, 2)):
        descriptor = ImageDescriptor.from_individual_values(30 // factor, pixel_size)
        assert plan_of(particles, descriptor, downsample_factor=factor).stack(0).descriptor == descriptor


def test_override_lets_the_argument_win_over_table_header_and_descriptor(tmp_path: Path) -> None:
    particles = write_particle_set(tmp_path, {"a.mrcs": 3}, pixel_size=3.0)  # the table says 2 Å
    message = refused(particles, "--override-pixel-size", pixel_size=14.56)
    assert "--ignore-manual-pixel-size" in message
    stacks = convert(particles, pixel_size=14.56, override_pixel_size=True)
    assert pixel_size_of(stacks) == 14.56
    plan = plan_of(particles, pixel_size=14.56, override_pixel_size=True)
    assert plan.pixel_size_from == "argument"
    text = "\n".join(plan.warnings)
    assert "14.56 Å given as an argument overrides the table: the table says 2 Å for 3 of 3 particles" in text
    assert "a.mrcs says 3 Å per pixel; the argument says 14.56 Å" in text
    assert "replaces the descriptor's, 2 Å" in text


def test_override_needs_a_pixel_size_and_excludes_its_opposite(tmp_path: Path) -> None:
    particles = write_particle_set(tmp_path, {"a.mrcs": 1})
    refused(particles, "give pixel_size", override_pixel_size=True)
    refused(particles, "contradict", pixel_size=2.0, override_pixel_size=True, ignore_manual_pixel_size=True)


def test_a_wrong_table_is_overruled_as_the_message_says(tmp_path: Path) -> None:
    particles = write_particle_set(tmp_path, {"a.mrcs": 3})
    message = refused(particles, "descriptor says 3 Å", "the table says 2 Å", descriptor=params(pixel_size=3.0))
    assert "override_pixel_size=True (--override-pixel-size)" in message
    stacks = convert(particles, params(pixel_size=3.0), pixel_size=3.0, override_pixel_size=True)
    assert pixel_size_of(stacks) == 3.0


def test_a_pixel_size_that_replaces_the_descriptors_is_warned_about(tmp_path: Path) -> None:
    particles = set_without_pixel_size(tmp_path)
    (warning,) = plan_of(particles, params(pixel_size=2.0), pixel_size=4.0).warnings
    assert "4 Å given as an argument, that of the source images, replaces the descriptor's, 2 Å." in warning
    assert "The stacks have 4 Å" in warning
    (warning,) = plan_of(particles, params(6, 4.0), pixel_size=4.0, downsample_factor=2).warnings
    assert "replaces the descriptor's, 4 Å, which is 2 Å before downsampling" in warning
    assert "The stacks have 8 Å" in warning
    assert plan_of(particles, params(pixel_size=2.0), pixel_size=2.0).warnings == ()
