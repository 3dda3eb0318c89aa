"""The examples of CryoLike's guide and cryoSPARC tutorial, with the file names, counts and contents that they state."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cryolike_dask import (
    ParticleStackConverter,
    convert_particle_stacks_from_cryosparc_job_directory,
    convert_particle_stacks_from_indexed_star_file,
    convert_particle_stacks_from_paired_star_and_mrc_files,
)
from tests.support.cs_files import blob_columns, ctf_columns, particle_columns, uids, write_cs
from tests.support.independent_reader import read_stacks
from tests.support.particle_sets import ABC, BOX, NO_PLOTS, ParticleSet, assert_holds, in_sequence, params, write_images, write_star


def fft_names(n: int, folder: str = "output") -> list[str]:
    return sorted(f"{folder}/fft/particles_fourier_stack_{k:06d}.{end}" for k in range(n) for end in ("npz", "pt"))


def fft_files(folder: str = "output") -> list[str]:
    return sorted(str(path) for path in Path(folder, "fft").iterdir())


@pytest.fixture
def guide(abc: ParticleSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ParticleSet:
    """A.mrcs, B.mrcs and C.mrcs in the working directory, with an indexed STAR file and one STAR file each."""
    for path in (*abc.mrc.iterdir(), abc.folder / "params.npz"):
        shutil.copy(path, tmp_path)
    write_star(tmp_path / "particles.star", abc.listed)
    for name, n in ABC.items():
        write_star(tmp_path / name.replace(".mrcs", ".star"), [(name, i) for i in range(n)])
    monkeypatch.chdir(tmp_path)
    return ParticleSet(tmp_path, abc.images, abc.listed)


def convert_pairs(batch_size: int) -> None:
    convert_particle_stacks_from_paired_star_and_mrc_files(
        "params.npz", list(ABC), ["A.star", "B.star", "C.star"], folder_output="output", batch_size=batch_size, flag_plots=False
    )


@pytest.mark.parametrize(("batch_size", "sizes"), [(10, [10, 5]), (5, [5, 5, 5])])
def test_guide_example_restacked(guide: ParticleSet, batch_size: int, sizes: list[int]) -> None:
    convert_particle_stacks_from_indexed_star_file(
        "params.npz", "particles.star", folder_output="output", batch_size=batch_size, flag_plots=False
    )
    assert fft_files() == fft_names(len(sizes))
    stacks = read_stacks(Path("output"))
    assert [len(stack.fourier) for stack in stacks] == sizes
    assert_holds(stacks, guide.images, in_sequence(ABC))
    assert not Path("output/plots").exists()


@pytest.mark.parametrize(("batch_size", "sizes"), [(10, [7, 2, 6]), (5, [5, 2, 2, 5, 1])])
def test_guide_example_paired(guide: ParticleSet, batch_size: int, sizes: list[int]) -> None:
    convert_pairs(batch_size)
    assert fft_files() == fft_names(len(sizes))
    stacks = read_stacks(Path("output"))
    assert [len(stack.fourier) for stack in stacks] == sizes
    assert_holds(stacks, guide.images, in_sequence(ABC))


def test_guide_example_into_the_current_directory(guide: ParticleSet) -> None:
    convert_particle_stacks_from_indexed_star_file("params.npz", "particles.star", flag_plots=False)
    assert fft_files(".") == [name.removeprefix("./") for name in fft_names(1, ".")]


@pytest.mark.parametrize("filetype", ["starfile", "cryosparc"])
@pytest.mark.parametrize(("never_combine", "sizes"), [(False, [10, 5]), (True, [7, 2, 6])])
def test_guide_either_logic_applies_to_indexed_input(
    guide: ParticleSet, filetype: Any, never_combine: bool, sizes: list[int]
) -> None:
    columns = particle_columns([name for name, _ in guide.listed], [index for _, index in guide.listed], BOX)
    columns["blob/psize_A"][:] = 2.0
    write_cs(guide.folder / "particles.cs", columns)
    converter = ParticleStackConverter("params.npz", "output", flag_plots=False)
    converter.prepare_indexed_file("particles.star" if filetype == "starfile" else "particles.cs", filetype)
    converter.convert_stacks(batch_size=10, never_combine_input_files=never_combine)
    stacks = read_stacks(Path("output"))
    assert [len(stack.fourier) for stack in stacks] == sizes
    assert_holds(stacks, guide.images, in_sequence(ABC))


@pytest.mark.parametrize(("never_combine", "sizes"), [(False, [10, 5]), (True, [7, 2, 6])])
def test_guide_either_logic_applies_to_paired_input(guide: ParticleSet, never_combine: bool, sizes: list[int]) -> None:
    converter = ParticleStackConverter("params.npz", "output", flag_plots=False)
    converter.prepare_star_files(list(ABC), ["A.star", "B.star", "C.star"])
    converter.convert_stacks(batch_size=10, never_combine_input_files=never_combine)
    stacks = read_stacks(Path("output"))
    assert [len(stack.fourier) for stack in stacks] == sizes
    assert_holds(stacks, guide.images, in_sequence(ABC))


# The tutorial counts from 1 in its prose; blob/idx counts from 0, so its 3, 1, 10, 10, 2 are stored as 2, 0, 9, 9, 1.
TUTORIAL = [("somedir/file1.mrc", 2), ("somedir/file1.mrc", 0), ("somedir/file2.mrc", 9), ("otherdir/file3.mrc", 9)]
TUTORIAL += [("somedir/file1.mrc", 1)]


@pytest.fixture
def tutorial_indexed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    images = write_images(tmp_path / "somedir", {"file1.mrc": 3, "file2.mrc": 10}, pixel_size=1.5)
    images |= write_images(tmp_path / "otherdir", {"file3.mrc": 10}, pixel_size=1.5, seed=1)
    write_cs(tmp_path / "MyFile.cs", particle_columns([path for path, _ in TUTORIAL], [index for _, index in TUTORIAL], BOX))
    params(pixel_size=1.5).save(tmp_path / "my_params_file.npz")
    monkeypatch.chdir(tmp_path)
    return images


def run_as_printed(block: str, name: str) -> None:
    """Run a code block of the tutorial, with only the import changed."""
    exec(f"from cryolike_dask import {name}\n{block}", {})


def run_indexed(block: str) -> None:
    with pytest.warns(DeprecationWarning, match="use convert_particle_stacks_from_indexed_cryosparc_file"):
        run_as_printed(block, "convert_particle_stacks_from_indexed_cryosparc")


def test_tutorial_indexed_files_by_their_recorded_paths(tutorial_indexed: dict[str, Any]) -> None:
    run_indexed(
        """
convert_particle_stacks_from_indexed_cryosparc(
    params_input="my_params_file.npz",
    file_cs="MyFile.cs",
    folder_output='OUTDIR',
)
"""
    )
    assert fft_files("OUTDIR") == fft_names(1, "OUTDIR")
    assert_holds(read_stacks(Path("OUTDIR")), tutorial_indexed, [(Path(path).name, index) for path, index in TUTORIAL])


def test_tutorial_indexed_files_moved_into_one_folder_of_the_home_directory(
    tutorial_indexed: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    folder = tmp_path / "home" / "my_research" / "my_mrc_files"
    folder.mkdir(parents=True)
    for path in {path for path, _ in TUTORIAL}:
        shutil.move(path, folder)
    run_indexed(
        """
convert_particle_stacks_from_indexed_cryosparc(
    params_input="my_params_file.npz",
    file_cs="MyFile.cs",
    folder_cryosparc='~/my_research/my_mrc_files/',
    folder_output='OUTDIR',
)
"""
    )
    assert_holds(read_stacks(Path("OUTDIR")), tutorial_indexed, [(Path(path).name, index) for path, index in TUTORIAL])


def test_tutorial_indexed_files_in_two_stacks_in_the_current_directory(tutorial_indexed: dict[str, Any]) -> None:
    run_indexed(
        """
convert_particle_stacks_from_indexed_cryosparc(
    params_input="my_params_file.npz",
    file_cs="MyFile.cs",
    batch_size=3
)
"""
    )
    stacks = read_stacks(Path())
    assert [len(stack.fourier) for stack in stacks] == [3, 2]
    assert_holds(stacks, tutorial_indexed, [(Path(path).name, index) for path, index in TUTORIAL])


RESTACKED = {f"batch_{k:06d}_restacked.mrc": 4 for k in range(3)}
DOWNSAMPLED = {f"batch_{k:06d}_downsample.mrc": 4 for k in (0, 1, 2, 4)}


@pytest.fixture(params=[12, 20], ids="{} rows".format)
def tutorial_job(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A table with "data describing at least 12 images"."""
    job = tmp_path / "cryosparc" / "J4"
    images = write_images(job / "restack", RESTACKED)
    images |= write_images(job / "downsample", DOWNSAMPLED, seed=1)
    write_cs(job / "J4_passthrough_particles.cs", {"uid": uids(request.param), **ctf_columns(request.param)})
    params().save(tmp_path / "my_params.npz")
    monkeypatch.chdir(tmp_path)
    return images


def convert_job(block: str) -> None:
    run_as_printed(block, "convert_particle_stacks_from_cryosparc_job_directory")


IN_ONE_STACK = """
convert_particle_stacks_from_cryosparc_job_directory(
    params_input="my_params.npz",
    folder_cryosparc= 'cryosparc',
    job_number=4,
    folder_output='OUTDIR'
)
"""


def test_tutorial_job_directory_in_one_stack(tutorial_job: dict[str, Any]) -> None:
    convert_job(IN_ONE_STACK)
    assert fft_files("OUTDIR") == fft_names(1, "OUTDIR")
    (stack,) = read_stacks(Path("OUTDIR"))
    assert_holds([stack], tutorial_job, in_sequence(RESTACKED))
    np.testing.assert_array_equal(stack.metadata["defocusU"], 15000 + np.arange(12))


def test_tutorial_job_directory_without_restack_stops_at_the_gap(
    tutorial_job: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    shutil.rmtree("cryosparc/J4/restack")
    convert_job(IN_ONE_STACK)
    wanted = [(name, index) for name, index in in_sequence(DOWNSAMPLED) if "000004" not in name]
    assert_holds(read_stacks(Path("OUTDIR")), tutorial_job, wanted)
    assert any("reading stops there" in line and "batch_000004_downsample.mrc" in line for line in caplog.messages)


def test_tutorial_job_directory_stops_after_two_stacks(tutorial_job: dict[str, Any]) -> None:
    convert_job("""
convert_particle_stacks_from_cryosparc_job_directory(
    params_input="my_params.npz",
    folder_cryosparc= 'cryosparc',
    job_number=4,
    folder_output='OUTDIR',
    batch_size=4,
    n_stacks_max=2
)
""")
    assert fft_files("OUTDIR") == fft_names(2, "OUTDIR")
    stacks = read_stacks(Path("OUTDIR"))
    assert [len(stack.fourier) for stack in stacks] == [4, 4]
    assert_holds(stacks, tutorial_job, in_sequence(RESTACKED)[:8])


def test_tutorial_job_directory_downsampled(tutorial_job: dict[str, Any]) -> None:
    convert_job("""
convert_particle_stacks_from_cryosparc_job_directory(
    params_input="my_params.npz",
    folder_cryosparc= 'cryosparc',
    job_number=4,
    folder_output='OUTDIR',
    downsample_factor=2,
    downsample_type='mean'
)
""")
    (stack,) = read_stacks(Path("OUTDIR"))
    assert stack.metadata["n_pixels"].tolist() == [6, 6]
    assert_holds([stack], tutorial_job, in_sequence(RESTACKED), 2)


def test_format_page_job_directory_uses_no_index_of_its_table(tmp_path: Path) -> None:
    """Recorded paths of other image files are ignored: the rows describe the images of the job directory in sequence."""
    job = tmp_path / "J4"
    images = write_images(job / "restack", RESTACKED)
    columns = {
        "uid": uids(12),
        **blob_columns([f"J1/extract/m{i}.mrc" for i in range(12)], list(range(12)), BOX),
        **ctf_columns(12),
    }
    write_cs(job / "J4_passthrough_particles.cs", columns)
    convert_particle_stacks_from_cryosparc_job_directory(
        params(pixel_size=1.5), tmp_path, 4, folder_output=tmp_path / "out", **NO_PLOTS
    )
    assert_holds(read_stacks(tmp_path / "out"), images, in_sequence(RESTACKED))
