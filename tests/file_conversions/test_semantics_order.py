"""Semantics of the contract: which image goes into which stack."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cryolike_dask import (
    Conversion,
    InputError,
    convert_particle_stacks_from_indexed_cryosparc_file,
    convert_particle_stacks_from_indexed_star_file,
    convert_particle_stacks_from_paired_star_and_mrc_files,
    particles_from_paired_star_and_mrc_files,
)
from tests.support.conversions import convert, refused
from tests.support.cs_files import particle_columns, write_cs
from tests.support.independent_reader import read_stacks
from tests.support.particle_sets import (
    ABC,
    BOX,
    NO_PLOTS,
    ParticleSet,
    assert_holds,
    in_sequence,
    params,
    write_images,
    write_particle_set,
    write_star,
)


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
    for name, u in (("first", "10000"), ("second", "20000")):
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
    assert [stack.metadata["defocusU"].tolist() for stack in stacks] == [[10000] * 3, [10000], [20000] * 3, [20000]]
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
    write_cs(tmp_path / "good.cs", particle_columns(["a.mrcs"] * 3, [0, 2, 1], BOX))
    options: dict[str, Any] = {"folder_output": tmp_path / "out", **NO_PLOTS}
    convert_particle_stacks_from_indexed_cryosparc_file(params(pixel_size=1.5), tmp_path / "good.cs", tmp_path, **options)
    assert_holds(read_stacks(tmp_path / "out"), images, [("a.mrcs", 0), ("a.mrcs", 2), ("a.mrcs", 1)])
    write_cs(tmp_path / "bad.cs", particle_columns(["a.mrcs"] * 2, [1, 3], BOX))
    with pytest.raises(InputError, match=r"bad\.cs, particle 2 .*holds 3 images"):
        convert_particle_stacks_from_indexed_cryosparc_file(params(pixel_size=1.5), tmp_path / "bad.cs", tmp_path)
