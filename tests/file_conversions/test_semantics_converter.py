"""Semantics of the contract: several sources in one converter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cryolike_dask import (
    InputError,
    OutputError,
    ParticleStackConverter,
    convert_particle_stacks_from_cryosparc_job_directory,
)
from tests.support.cs_files import ctf_columns, particle_columns, uids, write_cs
from tests.support.independent_reader import read_stacks
from tests.support.particle_sets import (
    BOX,
    NO_PLOTS,
    PIXEL_SIZE,
    ParticleSet,
    assert_holds,
    in_sequence,
    optics_table,
    params,
    write_images,
    write_star,
)


def test_each_source_keeps_its_own_optics(tmp_path: Path) -> None:
    images = write_images(tmp_path, {"a.mrcs": 3, "b.mrcs": 4, "c.mrcs": 2})
    star = write_star(tmp_path / "a.star", in_sequence({"a.mrcs": 3}))
    pair = write_star(tmp_path / "b.star", in_sequence({"b.mrcs": 4}), optics=optics_table(rlnVoltage=["200"]))
    columns = particle_columns(["c.mrcs"] * 2, [1, 0], BOX)
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
def test_arguments_of_convert_stacks_are_not_options_of_the_converter(option: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="give it to convert_stacks"):
        ParticleStackConverter(params(), **option)


def test_unknown_file_types_and_options_are_refused(abc: ParticleSet) -> None:
    with pytest.raises(InputError, match="filetype is 'relion'"):
        ParticleStackConverter(params()).prepare_indexed_file(abc.star, "relion")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"unexpected keyword argument 'folder'\. Did you mean .*'folder_output'"):
        ParticleStackConverter(params(), folder="x")


def test_job_directory_may_describe_more_images_than_there_are(tmp_path: Path) -> None:
    write_images(tmp_path / "J1" / "restack", {"batch_000000_restacked.mrc": 6})
    write_cs(tmp_path / "J1" / "J1_passthrough_particles.cs", {"uid": uids(9), **ctf_columns(9)})
    options: dict[str, Any] = {"folder_output": tmp_path / "out", "batch_size": 2, **NO_PLOTS}
    trial = convert_particle_stacks_from_cryosparc_job_directory(params(), tmp_path, 1, n_stacks_max=2, **options)
    assert trial.n_images == 4
    report = convert_particle_stacks_from_cryosparc_job_directory(params(), tmp_path, 1, skip_exist=True, **options)
    assert (report.n_images, report.n_kept) == (6, 2)
    assert any("3 of the 9 rows" in line and "holds 6 images" in line for line in report.warnings)


def test_a_trial_of_a_job_directory_is_continued_to_all_of_it(tmp_path: Path) -> None:
    write_images(tmp_path / "J1" / "restack", {"batch_000000_restacked.mrc": 6})
    write_cs(tmp_path / "J1" / "J1_passthrough_particles.cs", {"uid": uids(6), **ctf_columns(6)})
    options: dict[str, Any] = {"folder_output": tmp_path / "out", "batch_size": 2, "skip_exist": True, **NO_PLOTS}
    trial = convert_particle_stacks_from_cryosparc_job_directory(params(), tmp_path, 1, n_stacks_max=1, **options)
    assert trial.n_images == 2
    report = convert_particle_stacks_from_cryosparc_job_directory(params(), tmp_path, 1, **options)
    assert (report.n_images, report.n_kept) == (6, 1)
