"""The contract's "Semantics that must hold", line by line."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cryolike_dask import (
    Conversion,
    ConversionError,
    ImageDescriptor,
    InputError,
    OutputError,
    ParticleStackConverter,
    convert_particle_stacks_from_cryosparc_job_directory,
    convert_particle_stacks_from_indexed_cryosparc_file,
    convert_particle_stacks_from_indexed_star_file,
    convert_particle_stacks_from_paired_star_and_mrc_files,
    particles_from_paired_star_and_mrc_files,
    particles_from_star,
    verify_output,
)
from cryolike_dask.settings import ConversionSettings
from tests.pipeline.conftest import ABC, files_of
from tests.support.cs_files import ctf_columns, particle_columns, uids, write_cs
from tests.support.independent_reader import WrittenStack, read_arrays, read_stacks
from tests.support.particle_sets import (
    BOX,
    NO_PLOTS,
    PIXEL_SIZE,
    ParticleSet,
    assert_holds,
    in_sequence,
    optics_table,
    params,
    traced,
    write_images,
    write_particle_set,
    write_star,
)
from tests.support.star_files import without_column


def convert(particles: ParticleSet, descriptor: Any = None, out: str = "out", **options: Any) -> list[WrittenStack]:
    folder = particles.folder / out
    convert_particle_stacks_from_indexed_star_file(
        descriptor or params(), particles.star, particles.mrc, folder_output=folder, **(NO_PLOTS | options)
    )
    return read_stacks(folder)


def refused(particles: ParticleSet, *named: str, descriptor: Any = None, **options: Any) -> str:
    """The conversion is an InputError that names these things, found before anything was written."""
    with pytest.raises(InputError) as caught:
        convert(particles, descriptor, "refused", **options)
    assert not (particles.folder / "refused").exists()
    message = str(caught.value)
    for text in named:
        assert text in message
    return message


# Order, files and stacks


def test_stacks_are_filled_across_files_in_the_order_of_the_table(scattered: ParticleSet, tmp_path: Path) -> None:
    convert_particle_stacks_from_indexed_star_file(
        params(), scattered.star, scattered.mrc, folder_output=tmp_path, batch_size=8, **NO_PLOTS
    )
    stacks = read_stacks(tmp_path)
    assert [len(stack.fourier) for stack in stacks] == [8, 8, 8, 7]
    assert_holds(stacks, scattered.images, scattered.listed)


def test_order_file_is_cryolikes(scattered: ParticleSet, tmp_path: Path) -> None:
    convert_particle_stacks_from_indexed_star_file(
        params(), scattered.star, scattered.mrc, folder_output=tmp_path, batch_size=8, order="file", **NO_PLOTS
    )
    # Sorted by path; within a file, the order of the table.
    assert_holds(read_stacks(tmp_path), scattered.images, sorted(scattered.listed, key=lambda entry: entry[0]))


@pytest.mark.parametrize(("n_stacks_max", "n_images"), [(1, 8), (3, 24), (4, 31), (9, 31), (-1, 31)])
def test_no_more_stacks_than_asked_for(scattered: ParticleSet, tmp_path: Path, n_stacks_max: int, n_images: int) -> None:
    convert_particle_stacks_from_indexed_star_file(
        params(), scattered.star, scattered.mrc, folder_output=tmp_path, batch_size=8, n_stacks_max=n_stacks_max, **NO_PLOTS
    )
    assert_holds(read_stacks(tmp_path), scattered.images, scattered.listed[:n_images])


def test_files_beyond_the_last_stack_need_not_exist(tmp_path: Path) -> None:
    particles = write_particle_set(tmp_path, ABC)
    (particles.mrc / "C.mrcs").unlink()
    stacks = convert(particles, batch_size=9, n_stacks_max=1)
    assert_holds(stacks, particles.images, particles.listed[:9])


def test_an_image_that_is_listed_twice_is_written_twice(tmp_path: Path) -> None:
    images = write_images(tmp_path / "mrc", {"a.mrcs": 4, "b.mrcs": 1})
    listed = [("a.mrcs", 2), ("a.mrcs", 0), ("b.mrcs", 0), ("a.mrcs", 2), ("a.mrcs", 3), ("a.mrcs", 2), ("b.mrcs", 0)]
    write_star(tmp_path / "particles.star", listed)
    stacks = convert(ParticleSet(tmp_path, images, tuple(listed)), batch_size=5)
    assert_holds(stacks, images, listed)
    defocus = np.concatenate([stack.metadata["defocusU"] for stack in stacks])
    assert len(set(defocus.tolist())) == 7, "each row keeps its own metadata"


def test_paired_files_are_never_combined_and_split_beyond_the_batch_size(tmp_path: Path) -> None:
    counts = {"b.mrcs": 5, "a.mrcs": 1, "c.mrcs": 4}
    images = write_images(tmp_path, counts)
    for name, n in counts.items():
        write_star(tmp_path / f"{name}.star", [(name, i) for i in range(n)])
    convert_particle_stacks_from_paired_star_and_mrc_files(
        params(),
        [tmp_path / name for name in counts],
        [tmp_path / f"{name}.star" for name in counts],
        folder_output=tmp_path / "out",
        batch_size=3,
        **NO_PLOTS,
    )
    stacks = read_stacks(tmp_path / "out")
    assert [len(stack.fourier) for stack in stacks] == [3, 2, 1, 3, 1]
    assert_holds(stacks, images, in_sequence(counts))


def test_a_table_of_pairs_is_never_combined_unless_asked(tmp_path: Path) -> None:
    counts = {"a.mrcs": 3, "b.mrcs": 2}
    write_images(tmp_path, counts)
    for name, n in counts.items():
        write_star(tmp_path / f"{name}.star", [(name, i) for i in range(n)])
    pairs = particles_from_paired_star_and_mrc_files(
        [tmp_path / name for name in counts], [tmp_path / f"{name}.star" for name in counts]
    )
    assert Conversion(pairs, params()).plan.stack_sizes().tolist() == [3, 2]
    assert Conversion(pairs, params(), never_combine_input_files=False).plan.stack_sizes().tolist() == [5]


def test_one_file_in_two_pairs_counts_its_images_twice(tmp_path: Path) -> None:
    images = write_images(tmp_path, {"a.mrcs": 4})
    for name, u in (("first", "1000"), ("second", "2000")):
        write_star(tmp_path / f"{name}.star", [("a.mrcs", i) for i in range(4)], rlnDefocusU=u)
    convert_particle_stacks_from_paired_star_and_mrc_files(
        params(),
        [tmp_path / "a.mrcs"] * 2,
        [tmp_path / "first.star", tmp_path / "second.star"],
        folder_output=tmp_path / "out",
        batch_size=3,
        **NO_PLOTS,
    )
    stacks = read_stacks(tmp_path / "out")
    assert_holds(stacks, images, in_sequence({"a.mrcs": 4}) * 2)
    assert [stack.metadata["defocusU"].tolist() for stack in stacks] == [[1000] * 3, [1000], [2000] * 3, [2000]]
    assert [(int(s.metadata["stack_start"]), int(s.metadata["stack_end"])) for s in stacks] == [(0, 3), (3, 4), (0, 3), (3, 4)]


def test_a_folder_replaces_what_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = write_images(tmp_path / "moved", {"a.mrcs": 2})
    write_images(tmp_path / "recorded", {"a.mrcs": 2}, seed=9)
    star = write_star(tmp_path / "p.star", in_sequence({"a.mrcs": 2}), "recorded/")
    monkeypatch.chdir(tmp_path)
    convert_particle_stacks_from_indexed_star_file(params(), star, "moved", folder_output="out", **NO_PLOTS)
    assert_holds(read_stacks(Path("out")), images, in_sequence({"a.mrcs": 2}))


def test_absolute_recorded_paths_are_taken_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = write_images(tmp_path / "far", {"a.mrcs": 2})
    star = write_star(tmp_path / "p.star", in_sequence({"a.mrcs": 2}), f"{tmp_path}/far/")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    convert_particle_stacks_from_indexed_star_file(params(), star, folder_output=tmp_path / "out", **NO_PLOTS)
    assert_holds(read_stacks(tmp_path / "out"), images, in_sequence({"a.mrcs": 2}))


def test_index_out_of_range_names_file_row_and_index(tmp_path: Path) -> None:
    write_images(tmp_path / "mrc", {"a.mrcs": 3})
    listed = [("a.mrcs", 0), ("a.mrcs", 2), ("a.mrcs", 3)]
    write_star(tmp_path / "particles.star", listed)
    refused(ParticleSet(tmp_path, {}, ()), "particle 3", "a.mrcs", "holds 3 images")


def test_cryosparc_counts_from_zero(tmp_path: Path) -> None:
    images = write_images(tmp_path, {"a.mrcs": 3})
    write_cs(tmp_path / "good.cs", particle_columns(["a.mrcs"] * 3, [0, 2, 1]))
    options: dict[str, Any] = {"folder_output": tmp_path / "out", **NO_PLOTS}
    convert_particle_stacks_from_indexed_cryosparc_file(params(pixel_size=1.5), tmp_path / "good.cs", tmp_path, **options)
    assert_holds(read_stacks(tmp_path / "out"), images, [("a.mrcs", 0), ("a.mrcs", 2), ("a.mrcs", 1)])
    write_cs(tmp_path / "bad.cs", particle_columns(["a.mrcs"] * 2, [1, 3]))
    with pytest.raises(InputError, match=r"bad\.cs, particle 2 .*holds 3 images"):
        convert_particle_stacks_from_indexed_cryosparc_file(params(pixel_size=1.5), tmp_path / "bad.cs", tmp_path)


# Pixel size


def set_without_pixel_size(folder: Path, header: float = 0.0) -> ParticleSet:
    optics = without_column(optics_table(), "rlnImagePixelSize")
    return write_particle_set(folder, {"a.mrcs": 3}, optics=optics, pixel_size=header)


def pixel_size_of(stacks: list[WrittenStack]) -> float:
    (x, y) = stacks[0].metadata["pixel_size"].tolist()
    assert x == y
    return float(x)


def plan_of(particles: ParticleSet, descriptor: ImageDescriptor | None = None, **options: Any) -> Any:
    return Conversion(particles_from_star(particles.star, particles.mrc), descriptor or params(), **options).plan


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
    assert any("says 3 A a pixel; the table says 2 A" in line for line in plan.warnings)
    assert "Pixel size 2 A, taken from the table" in caplog.text


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
    # a.mrcs does not tell; that b.mrcs contradicts the descriptor must not pass unseen.
    message = refused(particles, "b.mrcs", "descriptor says 2 A")
    assert "image headers" in message


def test_argument_that_conflicts_with_the_table_is_refused(tmp_path: Path) -> None:
    particles = write_particle_set(tmp_path, {"a.mrcs": 3})
    refused(particles, "2.001 A given as an argument", "2 A in", "particle 1", pixel_size=2.001)
    # Within 1e-4 they are the same.
    assert pixel_size_of(convert(particles, pixel_size=2.0001)) == 2.0001


def test_table_wins_over_the_argument_on_request(tmp_path: Path) -> None:
    particles = write_particle_set(tmp_path, {"a.mrcs": 3})
    plan = plan_of(particles, pixel_size=5.0, ignore_manual_pixel_size=True)
    assert (plan.pixel_size_from, plan.descriptor.pixel_size) == ("table", (2.0, 2.0))
    assert any("5 A given as an argument is ignored: the table says 2 A" in line for line in plan.warnings)
    silent = set_without_pixel_size(tmp_path / "silent")
    assert plan_of(silent, pixel_size=5.0, ignore_manual_pixel_size=True).descriptor.pixel_size == (5.0, 5.0)


def test_header_that_conflicts_with_the_argument_only_warns(tmp_path: Path) -> None:
    plan = plan_of(set_without_pixel_size(tmp_path, header=3.0), pixel_size=2.0)
    assert any("says 3 A a pixel; the argument says 2 A" in line for line in plan.warnings)


@pytest.mark.parametrize("origin", ["table", "image headers"])
def test_descriptor_that_conflicts_is_refused_saying_which_says_what(tmp_path: Path, origin: str) -> None:
    particles = write_particle_set(tmp_path, {"a.mrcs": 3}) if origin == "table" else set_without_pixel_size(tmp_path, header=2.0)
    refused(particles, "The descriptor says 2.1 A", f"the {origin} says 2 A", descriptor=params(pixel_size=2.1))


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
    particles = write_particle_set(tmp_path, {"a.mrcs": 2}, box=24, optics=optics)
    for pixel_size in (3.3, 0.7, 1.9, 1 / 3):
        for factor in (2, 3):
            descriptor = ImageDescriptor.from_individual_values(24 // factor, pixel_size)
            assert plan_of(particles, descriptor, downsample_factor=factor).stack(0).descriptor == descriptor


# Boxes and downsampling


def test_box_that_is_not_the_descriptors_is_refused_naming_both(abc: ParticleSet, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"images of 16 x 16 pixels, but the images are 12 x 12"):
        Conversion(particles_from_star(abc.star, abc.mrc), params(16))


def test_rectangular_images_keep_their_axes(tmp_path: Path) -> None:
    images = write_images(tmp_path / "mrc", {"a.mrcs": 3}, box=(10, 16))
    write_star(tmp_path / "particles.star", in_sequence({"a.mrcs": 3}))
    particles = ParticleSet(tmp_path, images, tuple(in_sequence({"a.mrcs": 3})))
    stacks = convert(particles, ImageDescriptor.from_individual_values((10, 16), 2.0))
    assert stacks[0].metadata["n_pixels"].tolist() == [10, 16]
    assert_holds(stacks, images, particles.listed)
    refused(particles, "16 x 10", "10 x 16", descriptor=ImageDescriptor.from_individual_values((16, 10), 2.0))


@pytest.mark.parametrize("never_combine", [False, True])
def test_different_boxes_are_refused_naming_them(tmp_path: Path, never_combine: bool) -> None:
    particles = write_particle_set(tmp_path, {"a.mrcs": 2, "b.mrcs": 2})
    write_images(particles.mrc, {"b.mrcs": 2}, box=14)
    refused(particles, "12 x 12", "14 x 14", "a.mrcs", "b.mrcs", never_combine_input_files=never_combine)


def test_boxes_that_agree_only_after_downsampling_share_no_stack(tmp_path: Path) -> None:
    particles = write_particle_set(tmp_path, {"a.mrcs": 2, "b.mrcs": 2})
    images = dict(particles.images) | write_images(particles.mrc, {"b.mrcs": 2}, box=13, seed=5)
    particles = ParticleSet(particles.folder, images, particles.listed)
    descriptor = ImageDescriptor.from_individual_values(6, 4.0)
    refused(particles, "12 x 12", "13 x 13", descriptor=descriptor, downsample_factor=2)
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
    refused(particles, "descriptor says 2 A", "4 A (2 x 2 A)", descriptor=params(12, 2.0), downsample_factor=2)
    # The argument is of the source images.
    silent = write_particle_set(
        tmp_path / "silent", {"a.mrcs": 3}, box=24, optics=without_column(optics_table(), "rlnImagePixelSize")
    )
    assert pixel_size_of(convert(silent, params(12, 4.0), pixel_size=1.5, downsample_factor=2)) == 3.0


@pytest.mark.parametrize("factor", [0, -1, 0.5, 1.5, "2x", None, True])
def test_factors_that_are_no_whole_number_are_refused(abc: ParticleSet, factor: Any) -> None:
    with pytest.raises(InputError, match="downsample_factor is"):
        Conversion(particles_from_star(abc.star, abc.mrc), params(), downsample_factor=factor)


def test_factor_that_leaves_nothing_is_refused(abc: ParticleSet) -> None:
    with pytest.raises(InputError, match="leaves nothing"):
        Conversion(particles_from_star(abc.star, abc.mrc), params(), downsample_factor=9)


def test_shells_beyond_nyquist_are_refused(abc: ParticleSet) -> None:
    beyond = ImageDescriptor(n_pixels=(12, 12), pixel_size=(2.0, 2.0), radius_max=3.25, dist_radii=0.25, n_inplanes=24)
    with pytest.raises(InputError, match=r"radius_max 3\.25 .* beyond 3, the Nyquist limit"):
        Conversion(particles_from_star(abc.star, abc.mrc), beyond)


# Optics


def mixed_set(folder: Path) -> ParticleSet:
    optics = optics_table(3, rlnVoltage=["300", "200", "300"], rlnSphericalAberration=["2.7", "2.7", "2.7"])
    return write_particle_set(folder, {"a.mrcs": 8}, optics=optics, groups=[1, 1, 3, 2, 2, 1, 1, 1])


def test_mixed_optics_are_refused_naming_the_groups(tmp_path: Path) -> None:
    message = refused(mixed_set(tmp_path), "mixed_optics='split'", "(6 images)", "(2 images)")
    assert "1 (group1), 3 (group3): 300 kV" in message
    assert "2 (group2): 200 kV" in message


def test_mixed_optics_are_split_where_they_change(tmp_path: Path) -> None:
    particles = mixed_set(tmp_path)
    stacks = convert(particles, mixed_optics="split", batch_size=2)
    assert_holds(stacks, particles.images, particles.listed)
    # Groups 1 and 3 have the same optics: no need to end a stack between them.
    assert [(len(s.fourier), float(s.metadata["voltage"])) for s in stacks] == [(2, 300), (1, 300), (2, 200), (2, 300), (1, 300)]


def test_rounding_of_pixel_sizes_is_no_difference_of_optics(tmp_path: Path) -> None:
    optics = optics_table(2, rlnImagePixelSize=["2.0", "2.00001"])
    particles = write_particle_set(tmp_path, {"a.mrcs": 6}, optics=optics, groups=[1, 2, 1, 2, 1, 2])
    (stack,) = convert(particles)
    assert stack.metadata["pixel_size"].tolist() == [2.0, 2.0]
    others = optics_table(3, rlnImagePixelSize=["2.0", "3.0", "3.00001"])
    particles = write_particle_set(tmp_path / "split", {"a.mrcs": 6}, optics=others, groups=[1, 1, 2, 3, 2, 3])
    stacks = convert(particles, mixed_optics="split")
    assert [len(stack.fourier) for stack in stacks] == [2, 4]
    assert [stack.metadata["pixel_size"][0] for stack in stacks] == [2.0, 3.0]


def test_groups_that_none_fits_the_descriptor_are_refused(tmp_path: Path) -> None:
    optics = optics_table(2, rlnImagePixelSize=["3.0", "4.0"])
    particles = write_particle_set(tmp_path, {"a.mrcs": 2}, optics=optics, groups=[1, 2])
    refused(particles, "descriptor says 2 A", "3, 4 A", mixed_optics="split")


# Missing files and bad images


def test_missing_files_are_all_listed(tmp_path: Path) -> None:
    particles = write_particle_set(tmp_path, ABC)
    for name in ("A.mrcs", "C.mrcs"):
        (particles.mrc / name).unlink()
    message = refused(particles, "2 image files", "particle 1", "A.mrcs", "C.mrcs", "on_missing='skip'")
    assert "B.mrcs" not in message


def test_missing_files_are_skipped_and_reported_on_request(tmp_path: Path) -> None:
    particles = write_particle_set(tmp_path, ABC)
    (particles.mrc / "B.mrcs").unlink()
    report = convert_particle_stacks_from_indexed_star_file(
        params(), particles.star, particles.mrc, folder_output=tmp_path / "out", on_missing="skip", batch_size=10, **NO_PLOTS
    )
    stacks = read_stacks(tmp_path / "out")
    left = [entry for entry in particles.listed if entry[0] != "B.mrcs"]
    assert_holds(stacks, particles.images, left)
    assert [len(stack.fourier) for stack in stacks] == [10, 3]
    assert [line.split("particle ")[1].split()[0] for line in report.skipped] == ["8", "9"]
    assert all("B.mrcs" in line for line in report.skipped)
    assert any("2 of 15 particles are left out" in line for line in report.warnings)
    for name in ABC:
        (particles.mrc / name).unlink(missing_ok=True)
    refused(particles, "none of the 3 image files", on_missing="skip")


@pytest.mark.parametrize("value", [3.5, np.nan, np.inf], ids=["constant", "nan", "infinite"])
def test_bad_image_is_an_error_that_names_it(tmp_path: Path, value: float) -> None:
    particles = spoiled_set(tmp_path, value)
    with pytest.raises(ConversionError, match=r"particle 5 \(image 5 of") as caught:
        convert(particles)
    assert str(particles.mrc / "a.mrcs") in str(caught.value)
    assert ("constant" if value == 3.5 else "not finite") in str(caught.value)
    assert not list((tmp_path / "out").rglob("*stack*"))


def spoiled_set(folder: Path, value: float) -> ParticleSet:
    particles = write_particle_set(folder, {"a.mrcs": 6})
    path = particles.mrc / "a.mrcs"
    content = bytearray(path.read_bytes())
    n_bytes = 4 * BOX * BOX
    n_bad = BOX * BOX if value == 3.5 else 1
    content[1024 + 4 * n_bytes : 1024 + 4 * n_bytes + 4 * n_bad] = np.full(n_bad, value, "<f4").tobytes()
    path.write_bytes(content)
    return particles


@pytest.mark.parametrize("value", [3.5, np.nan, np.inf], ids=["constant", "nan", "infinite"])
def test_bad_image_becomes_zeros_and_is_reported_on_request(tmp_path: Path, value: float) -> None:
    particles = spoiled_set(tmp_path, value)
    report = convert_particle_stacks_from_indexed_star_file(
        params(), particles.star, particles.mrc, folder_output=tmp_path / "out", on_bad_image="zero", **NO_PLOTS
    )
    (stack,) = read_stacks(tmp_path / "out")
    assert stack.physical is not None
    assert not stack.fourier[4].any()
    assert not stack.physical[4].any()
    assert all(stack.fourier[i].any() for i in (0, 1, 2, 3, 5))
    assert traced([stack]) == list(particles.listed)
    (line,) = (line for line in report.warnings if "written as zeros" in line)
    assert "particle 5" in line
    assert verify_output(tmp_path / "out") == []


def test_stacks_before_a_bad_image_are_kept_and_resumed(tmp_path: Path) -> None:
    particles = spoiled_set(tmp_path, np.nan)
    with pytest.raises(ConversionError, match="stack 000002"):
        convert(particles, batch_size=2)
    assert len(read_stacks(tmp_path / "out")) == 2
    before = files_of(tmp_path / "out" / "fft")
    stacks = convert(particles, batch_size=2, on_bad_image="zero", skip_exist=True)
    assert len(stacks) == 3
    after = files_of(tmp_path / "out" / "fft")
    assert {name: after[name] for name in before} == before


# Existing output


def test_existing_output_is_refused_before_any_work(tmp_path: Path) -> None:
    particles = write_particle_set(tmp_path, ABC)
    convert(particles, batch_size=4)
    before = files_of(tmp_path / "out")
    for changes in ({}, {"batch_size": 5}):
        with pytest.raises(OutputError, match="already holds"):
            convert(particles, **{"batch_size": 4, **changes})
    assert files_of(tmp_path / "out") == before


def test_a_stray_stack_counts_as_output(tmp_path: Path) -> None:
    particles = write_particle_set(tmp_path, {"a.mrcs": 2})
    (tmp_path / "out" / "fft").mkdir(parents=True)
    (tmp_path / "out" / "fft" / "particles_fourier_stack_000007.pt").write_bytes(b"of CryoLike")
    with pytest.raises(OutputError, match="already holds"):
        convert(particles)
    with pytest.raises(OutputError, match=r"without a manifest\.json"):
        convert(particles, skip_exist=True)
    assert len(convert(particles, overwrite=True)) == 1


def test_resuming_keeps_what_is_complete_and_makes_the_rest(tmp_path: Path) -> None:
    particles = write_particle_set(tmp_path, ABC)
    convert(particles, batch_size=4)
    whole = files_of(tmp_path / "out")
    fft = tmp_path / "out" / "fft"
    kept_time = (fft / "particles_fourier_stack_000000.pt").stat().st_mtime_ns
    for name in ("particles_fourier_stack_000003.npz", "particles_fourier_stack_000002.npz", "particles_fourier_stack_000002.pt"):
        (fft / name).unlink()
    report = convert_particle_stacks_from_indexed_star_file(
        params(), particles.star, particles.mrc, folder_output=tmp_path / "out", batch_size=4, skip_exist=True, **NO_PLOTS
    )
    assert (report.n_kept, len(report.stacks), report.n_images) == (2, 4, 15)
    assert_holds(read_stacks(tmp_path / "out"), particles.images, particles.listed)
    again = files_of(tmp_path / "out")
    assert {name for name, content in again.items() if whole[name] != content} <= {"manifest.json", "particles.star"}
    assert (fft / "particles_fourier_stack_000000.pt").stat().st_mtime_ns == kept_time


def test_resuming_makes_a_damaged_stack_again(tmp_path: Path) -> None:
    particles = write_particle_set(tmp_path, ABC)
    convert(particles, batch_size=4)
    path = tmp_path / "out" / "fft" / "particles_fourier_stack_000001.pt"
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    convert(particles, batch_size=4, skip_exist=True)
    assert path.read_bytes() == whole


def test_resuming_an_empty_folder_just_converts(tmp_path: Path) -> None:
    particles = write_particle_set(tmp_path, {"a.mrcs": 3})
    assert len(convert(particles, skip_exist=True)) == 1


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"batch_size": 5}, "batch_size: 4 there, 5 now"),
        ({"order": "file"}, "order: 'metadata' there, 'file' now"),
        ({"save_phys": False}, "save_phys: True there, False now"),
        ({"pixel_size": 2.0}, "pixel_size: None there, 2.0 now"),
        ({"downsample_factor": 2}, "downsample_factor: 1 there, 2 now"),
        ({"descriptor": params(n_inplanes=10)}, "n_inplanes: 24 there, 10 now"),
        ({"descriptor": params(precision="double")}, "precision: 'single' there, 'double' now"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_resuming_refuses_another_run_and_says_what_differs(tmp_path: Path, changes: dict[str, Any], named: str) -> None:
    particles = write_particle_set(tmp_path, ABC)
    convert(particles, batch_size=4)
    before = files_of(tmp_path / "out")
    with pytest.raises(OutputError) as caught:
        convert(particles, **{"batch_size": 4, "skip_exist": True, **changes})
    assert named in str(caught.value)
    assert files_of(tmp_path / "out") == before


def test_resuming_refuses_other_particles(tmp_path: Path) -> None:
    particles = write_particle_set(tmp_path, ABC)
    convert(particles, batch_size=4)
    write_star(particles.star, list(reversed(particles.listed)), "mrc/")
    with pytest.raises(OutputError, match="the particles in the table have changed"):
        convert(particles, batch_size=4, skip_exist=True)


def test_overwriting_leaves_nothing_stale(tmp_path: Path) -> None:
    particles = write_particle_set(tmp_path, ABC)
    convert(particles, batch_size=2, flag_plots=True)
    (tmp_path / "out" / "notes.txt").write_text("mine")
    stacks = convert(particles, batch_size=10, overwrite=True, save_phys=False)
    assert_holds(stacks, particles.images, particles.listed)
    assert set(files_of(tmp_path / "out")) == {
        *(f"fft/particles_fourier_stack_00000{k}.{end}" for k in (0, 1) for end in ("pt", "npz")),
        *("params.npz", "manifest.json", "particles.star", "notes.txt"),
    }
    assert verify_output(tmp_path / "out") == []


def test_overwriting_with_bad_input_replaces_nothing(tmp_path: Path) -> None:
    particles = write_particle_set(tmp_path, ABC)
    convert(particles, batch_size=2)
    before = files_of(tmp_path / "out")
    (particles.mrc / "B.mrcs").unlink()
    with pytest.raises(InputError):
        convert(particles, overwrite=True)
    assert files_of(tmp_path / "out") == before


def test_keeping_and_replacing_exclude_each_other() -> None:
    with pytest.raises(InputError, match="choose one"):
        ConversionSettings(skip_exist=True, overwrite=True)


@pytest.mark.parametrize(
    "options",
    [
        {"batch_size": 0},
        {"batch_size": 2.5},
        {"n_stacks_max": 0},
        {"n_stacks_max": -2},
        {"pixel_size": 0.0},
        {"pixel_size": float("nan")},
        {"downsample_type": "median"},
        {"device": "tpu"},
        {"output_format": "hdf5"},
        {"on_missing": "ignore"},
        {"on_bad_image": "drop"},
        {"mixed_optics": "merge"},
        {"order": "random"},
        {"batchsize": 10},
    ],
    ids=str,
)
def test_options_out_of_range_are_named(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(options))):
        ConversionSettings.from_options(options)


# Several sources in one converter


def test_each_source_keeps_its_own_optics(tmp_path: Path) -> None:
    images = write_images(tmp_path, {"a.mrcs": 3, "b.mrcs": 4, "c.mrcs": 2})
    star = write_star(tmp_path / "a.star", in_sequence({"a.mrcs": 3}))
    pair = write_star(tmp_path / "b.star", in_sequence({"b.mrcs": 4}), optics=optics_table(rlnVoltage=["200"]))
    columns = particle_columns(["c.mrcs"] * 2, [1, 0])
    columns["blob/psize_A"][:] = PIXEL_SIZE
    cs = write_cs(tmp_path / "c.cs", columns)
    images |= write_images(tmp_path / "J3" / "restack", {"batch_0_restacked.mrc": 5}, seed=3)
    write_cs(tmp_path / "J3" / "J3_passthrough_particles.cs", {"uid": uids(5), **ctf_columns(5)})
    converter = ParticleStackConverter(params(), tmp_path / "out", **NO_PLOTS)
    converter.prepare_indexed_file(cs, "cryosparc", tmp_path)
    converter.prepare_star_files([tmp_path / "b.mrcs"], [pair])
    converter.prepare_indexed_file(star, "starfile", tmp_path)
    converter.prepare_sequential_cryosparc(tmp_path, 3)
    converter.convert_stacks(batch_size=4)
    stacks = read_stacks(tmp_path / "out")
    listed = [("c.mrcs", 1), ("c.mrcs", 0), *in_sequence({"b.mrcs": 4, "a.mrcs": 3, "batch_0_restacked.mrc": 5})]
    assert_holds(stacks, images, listed)
    assert [len(stack.fourier) for stack in stacks] == [2, 4, 3, 4, 1]
    contrast = float(np.float32(0.1))
    optics = [(float(s.metadata["voltage"]), float(s.metadata["amplitudeContrast"])) for s in stacks]
    assert optics == [(300, contrast), (200, 0.07), (300, 0.07), (300, contrast), (300, contrast)]
    assert [str(stack.metadata["source_table"][0]) for stack in stacks[:3]] == [str(cs), str(pair), str(star)]
    assert converter._particles == []


def test_sources_of_equal_optics_share_stacks(tmp_path: Path) -> None:
    images = write_images(tmp_path, {"a.mrcs": 3, "b.mrcs": 4})
    converter = ParticleStackConverter(params(), tmp_path / "out", **NO_PLOTS)
    for name in ("b", "a"):
        star = write_star(tmp_path / f"{name}.star", in_sequence({f"{name}.mrcs": len(images[f"{name}.mrcs"])}))
        converter.prepare_indexed_file(star, "starfile", tmp_path)
    converter.convert_stacks(batch_size=5)
    stacks = read_stacks(tmp_path / "out")
    assert [len(stack.fourier) for stack in stacks] == [5, 2]
    assert_holds(stacks, images, in_sequence({"b.mrcs": 4, "a.mrcs": 3}))
    assert stacks[0].metadata["source"].tolist() == [0, 0, 0, 0, 1]
    assert [Path(str(name)).name for name in stacks[0].metadata["source_table"]] == ["b.star", "a.star"]


def test_a_source_with_and_one_without_pixel_size_are_converted_together(tmp_path: Path) -> None:
    images = write_images(tmp_path, {"a.mrcs": 3, "b.mrcs": 2})
    star = write_star(tmp_path / "a.star", in_sequence({"a.mrcs": 3}))
    pair = write_star(tmp_path / "b.star", in_sequence({"b.mrcs": 2}))  # paired tables' pixel sizes are ignored
    converter = ParticleStackConverter(params(), tmp_path / "out", **NO_PLOTS)
    converter.prepare_indexed_file(star, "starfile", tmp_path)
    converter.prepare_star_files([tmp_path / "b.mrcs"], [pair])
    converter.convert_stacks()
    stacks = read_stacks(tmp_path / "out")
    assert_holds(stacks, images, in_sequence({"a.mrcs": 3, "b.mrcs": 2}))


def test_converting_with_nothing_prepared_is_refused(tmp_path: Path) -> None:
    converter = ParticleStackConverter(params(), tmp_path / "out")
    with pytest.raises(InputError, match="Nothing was prepared"):
        converter.convert_stacks()
    assert not (tmp_path / "out").exists()


def test_converter_is_empty_after_converting_and_full_after_failing(abc: ParticleSet, tmp_path: Path) -> None:
    converter = ParticleStackConverter(params(), tmp_path / "out", **NO_PLOTS)
    converter.prepare_indexed_file(abc.star, "starfile", abc.mrc)
    converter.convert_stacks()
    with pytest.raises(InputError, match="Nothing was prepared"):
        converter.convert_stacks()
    converter.prepare_indexed_file(abc.star, "starfile", abc.mrc)
    for _ in range(2):
        with pytest.raises(OutputError, match="already holds"):
            converter.convert_stacks()


@pytest.mark.parametrize("option", [{"batch_size": 5}, {"never_combine_input_files": True}], ids=str)
def test_what_convert_stacks_takes_is_not_an_option_of_the_converter(option: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="convert_stacks"):
        ParticleStackConverter(params(), **option)


def test_unknown_file_types_and_options_are_refused(abc: ParticleSet) -> None:
    with pytest.raises(InputError, match="filetype is 'relion'"):
        ParticleStackConverter(params()).prepare_indexed_file(abc.star, "relion")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="Unknown option folder"):
        ParticleStackConverter(params(), folder="x")


def test_job_directory_may_describe_more_images_than_stacks_need(tmp_path: Path) -> None:
    write_images(tmp_path / "J1" / "restack", {"batch_000000_restacked.mrc": 6})
    write_cs(tmp_path / "J1" / "J1_passthrough_particles.cs", {"uid": uids(9), **ctf_columns(9)})
    options: dict[str, Any] = {"folder_output": tmp_path / "out", "batch_size": 2, **NO_PLOTS}
    with pytest.raises(InputError, match="describes 9 images"):
        convert_particle_stacks_from_cryosparc_job_directory(params(), tmp_path, 1, **options)
    report = convert_particle_stacks_from_cryosparc_job_directory(params(), tmp_path, 1, n_stacks_max=3, **options)
    assert report.n_images == 6
    assert any("3 of the 9 rows" in line for line in report.warnings)
