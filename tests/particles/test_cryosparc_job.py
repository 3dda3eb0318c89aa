"""Particles of cryoSPARC job directories."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cryolike_dask import Conversion, ImageDescriptor, particles_from_cryosparc
from cryolike_dask.errors import InputError
from cryolike_dask.particles.cryosparc.job import particles_from_cryosparc_job
from cryolike_dask.particles.table import ParticleTable
from tests.support.cs_files import Columns, blob_columns, ctf_columns, uids, write_batches, write_cs
from tests.support.reference import published, write_job


def batches(numbers: list[int], n: int = 4, ending: str = "restacked", padded: bool = True) -> dict[str, int]:
    return {f"batch_{number:06d}_{ending}.mrc" if padded else f"batch_{number}_{ending}.mrc": n for number in numbers}


def passthrough(n: int) -> Columns:
    return {"uid": uids(n), **ctf_columns(n)}


@pytest.fixture
def tutorial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tutorial's job: three files in restack, a fourth after a gap in downsample, 12 rows."""
    job = tmp_path / "cryosparc/J4"
    write_cs(job / "J4_passthrough_particles.cs", passthrough(12))
    write_batches(job / "restack", batches([0, 1, 2]))
    write_batches(job / "downsample", batches([0, 1, 2, 4], ending="downsample"))
    monkeypatch.chdir(tmp_path)
    return job


def images_of(particles: ParticleTable) -> list[tuple[str, int]]:
    return [(Path(particles.files[f]).name, int(i)) for f, i in zip(particles["file"], particles["index"], strict=True)]


def sequence(names: dict[str, int]) -> list[tuple[str, int]]:
    return [(name, i) for name, n in names.items() for i in range(n)]


def test_tutorial_example(tutorial: Path) -> None:
    particles = particles_from_cryosparc_job("cryosparc", 4)
    assert particles.files == tuple(str(tutorial / f"restack/batch_00000{i}_restacked.mrc") for i in range(3))
    assert images_of(particles) == sequence(batches([0, 1, 2]))
    assert particles["defocus_u"].tolist() == [15000 + i for i in range(12)]
    assert particles["row"].tolist() == list(range(12))
    np.testing.assert_array_equal(particles["uid"], uids(12))
    assert np.isnan(particles["pixel_size"]).all()
    assert particles.sources[0].kind == "cryosparc-job"
    assert particles.sources[0].notes == ("order not verified",)
    assert len(particles.warnings) == 1
    assert "order not verified" in particles.warnings[0]


def test_tutorial_example_without_restack_stops_at_the_gap(tutorial: Path) -> None:
    for path in (tutorial / "restack").iterdir():
        path.unlink()  # an empty folder counts as none
    write_cs(tutorial / "J4_passthrough_particles.cs", passthrough(20))
    particles = particles_from_cryosparc_job("cryosparc", 4)
    assert images_of(particles) == sequence(batches([0, 1, 2], ending="downsample"))
    assert any("no batch_000003_downsample.mrc" in line and "batch_000004_downsample.mrc" in line for line in particles.warnings)
    assert any("Not read: 1 later file (batch_000004_downsample.mrc)." in line for line in particles.warnings)
    assert any("8 of the 20 rows" in line for line in particles.warnings)
    (tutorial / "restack").rmdir()
    assert images_of(particles_from_cryosparc_job("cryosparc", 4)) == images_of(particles)


def test_tutorial_example_with_two_stacks_of_four(tutorial: Path) -> None:
    particles = particles_from_cryosparc_job("cryosparc", 4, n_images_max=8)
    assert images_of(particles) == sequence(batches([0, 1]))
    assert any("4 of the 12 rows" in line and " are unused" in line for line in particles.warnings)
    assert any(" is unused" in line for line in particles_from_cryosparc_job("cryosparc", 4, n_images_max=11).warnings)
    assert len(particles_from_cryosparc_job("cryosparc", 4, n_images_max=100)) == 12


def test_reference_job(tmp_path: Path) -> None:
    expected = published("single", "job")
    particles = particles_from_cryosparc_job(write_job(tmp_path), 2, n_images_max=8)
    np.testing.assert_array_equal(particles["defocus_u"], expected["defocusU"])
    np.testing.assert_array_equal(particles["phase_shift"], expected["phaseShift"])
    assert images_of(particles)[-1] == ("batch_000001_restacked.mrc", 0)


def test_numbers_count_and_not_their_spelling(tmp_path: Path) -> None:
    job = tmp_path / "J1"
    write_cs(job / "J1_passthrough_particles.cs", passthrough(24))
    names = {**batches([0, 1, 2], 2, padded=False), **batches([3], 2), **batches(list(range(4, 12)), 2, padded=False)}
    write_batches(job / "restack", dict(sorted(names.items())))
    assert images_of(particles_from_cryosparc_job(tmp_path, 1)) == sequence(names)


def test_other_files_in_the_folder_do_not_matter(tutorial: Path) -> None:
    write_batches(
        tutorial / "restack", {"batch_000003_restacked.mrc.tmp": 1, "xbatch_3_restacked.mrc": 1, "batch_x_restacked.mrc": 1}
    )
    write_batches(tutorial / "restack", {"batch_3_downsample.mrc": 4})
    assert len(particles_from_cryosparc_job("cryosparc", 4)) == 12


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({}, "describes 11 images, and the 3 files in .*restack hold 12"), ({"n_images_max": 4}, "describes 11 images")],
)
def test_images_without_a_row_are_refused(tutorial: Path, arguments: dict[str, int], message: str) -> None:
    write_cs(tutorial / "J4_passthrough_particles.cs", passthrough(11))
    with pytest.raises(InputError, match=message):
        particles_from_cryosparc_job("cryosparc", 4, **arguments)


@pytest.mark.parametrize("arguments", [{}, {"n_images_max": 12}, {"n_images_max": 15}])
def test_a_longer_table_describes_the_images_with_its_first_rows(tutorial: Path, arguments: dict[str, int]) -> None:
    """ "Data describing at least 12 images", as the tutorial says."""
    write_cs(tutorial / "J4_passthrough_particles.cs", passthrough(15))
    particles = particles_from_cryosparc_job("cryosparc", 4, **arguments)
    assert images_of(particles) == sequence(batches([0, 1, 2]))
    assert particles["defocus_u"].tolist() == [15000 + i for i in range(12)]
    (line,) = (line for line in particles.warnings if "3 of the 15 rows" in line)
    enough = arguments == {"n_images_max": 12}
    assert ("hold 12 images" in line) != enough
    table = tutorial / "J4_passthrough_particles.cs"
    wanted = [f"{table}, particle {n}: {tutorial / 'restack'} has no image of it" for n in (13, 14, 15)]
    assert list(particles.skipped) == ([] if enough else wanted)


@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("is_linked", [True, False])
def test_a_last_file_that_is_not_there_is_named_and_its_rows_are_listed(padded: bool, is_linked: bool, tmp_path: Path) -> None:
    """Not an error, because the tutorial converts a table of "at least" as many rows as there are images."""
    job, names = tmp_path / "J4", batches([0, 1, 2], padded=padded)
    write_cs(job / "J4_passthrough_particles.cs", passthrough(12))
    *there, absent = names
    write_batches(job / "restack", dict.fromkeys(there, 4))
    if is_linked:
        images = sequence(names)
        located = {"uid": uids(12), **blob_columns([f"J4/restack/{name}" for name, _ in images], [i for _, i in images])}
        write_cs(job / "restacked_particles.cs", located)
    particles = particles_from_cryosparc_job(tmp_path, 4)
    line = particles.warnings[-1]
    assert "4 of the 12 rows" in line
    assert "the 2 files in" in line
    assert line.endswith(f"These particles are left out. If the job has a file {absent}, copy it there and convert again.")
    assert [text.split("particle ")[1].split(":")[0] for text in particles.skipped] == ["9", "10", "11", "12"]
    plan = Conversion(particles, ImageDescriptor.from_individual_values(8, 1.5)).plan
    assert (plan.n_images, plan.table.skipped) == (8, particles.skipped)


def test_order_of_another_table_is_followed_by_uid(tutorial: Path) -> None:
    """The table of images has another order than the passthrough table, as in some published jobs."""
    images = sequence(batches([0, 1, 2]))
    shuffled = np.random.default_rng(2).permutation(12)
    paths = [f"J4/restack/{name}" for name, _ in images]
    located = {"uid": uids(12)[shuffled], **blob_columns(paths, [i for _, i in images])}
    write_cs(tutorial / "restacked_particles.cs", located)
    particles = particles_from_cryosparc_job("cryosparc", 4)
    image_of_row = np.argsort(shuffled)
    assert images_of(particles) == [images[k] for k in image_of_row]
    assert particles["defocus_u"].tolist() == [15000 + i for i in range(12)]
    assert set(particles["pixel_size"]) == {1.5}
    assert particles.warnings == ()
    assert particles.sources[0].notes == ("blob/sign is -1 for all particles",)
    fewer = particles_from_cryosparc_job("cryosparc", 4, n_images_max=5)
    assert images_of(fewer) == images_of(particles)[:5]


def test_unpadded_record_of_padded_files_is_recognised(tutorial: Path) -> None:
    images = [(number, i) for number in range(3) for i in range(4)][::-1]
    paths = [f">J4/restack/batch_{number}_restacked.mrc" for number, _ in images]
    write_cs(tutorial / "J4_passthrough_particles.cs", {**passthrough(12), **blob_columns(paths, [i for _, i in images])})
    assert images_of(particles_from_cryosparc_job("cryosparc", 4)) == sequence(batches([0, 1, 2]))[::-1]


def test_images_of_another_job_say_nothing_about_the_order(tutorial: Path) -> None:
    paths = [f"J3/restack/{name}" for name, _ in sequence(batches([0, 1, 2]))]
    write_cs(tutorial / "J4_passthrough_particles.cs", {**passthrough(12), **blob_columns(paths, [0, 1, 2, 3] * 3)})
    particles = particles_from_cryosparc_job("cryosparc", 4)
    assert particles.sources[0].notes == ("order not verified",)
    assert np.isnan(particles["pixel_size"]).all()


def located_table(images: list[tuple[str, int]], chosen: Any = slice(None)) -> Columns:
    columns = {"uid": uids(len(images)), **blob_columns([f"J4/downsample/{name}" for name, _ in images], [i for _, i in images])}
    return {name: column[chosen] for name, column in columns.items()}


def test_rows_behind_a_gap_are_left_out_by_uid(tutorial: Path) -> None:
    for path in (tutorial / "restack").iterdir():
        path.unlink()
    names = batches([4, 2, 1, 0], ending="downsample")
    write_cs(tutorial / "J4_passthrough_particles.cs", passthrough(16))
    write_cs(tutorial / "downsampled_particles.cs", located_table(sequence(names)))
    particles = particles_from_cryosparc_job("cryosparc", 4)
    assert images_of(particles) == sequence(names)[4:]
    assert particles["row"].tolist() == list(range(4, 16))
    assert particles["defocus_u"].tolist() == [15004 + i for i in range(12)]
    assert any("4 of the 16 rows" in line for line in particles.warnings)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("twice", r"Image 0 \(counted from 0\) of .*batch_000000_restacked.mrc belongs to 2 particles"),
        ("beyond", r"names image 4 \(counted from 0\) of .*batch_000002_restacked.mrc, which has 4 images"),
        ("missing", "belongs to no particles"),
        ("repeated", "same uid twice"),
    ],
)
def test_table_of_images_that_does_not_fit_them_is_refused(tutorial: Path, change: str, message: str) -> None:
    images = sequence(batches([0, 1, 2]))
    if change == "twice":
        images[5] = images[0]
    elif change == "beyond":
        images[-1] = (images[-1][0], 4)
    columns = {"uid": uids(12), **blob_columns([f"J4/restack/{name}" for name, _ in images], [i for _, i in images])}
    chosen = {"missing": [*range(11)], "repeated": [*range(12), 0]}.get(change, [*range(12)])
    write_cs(tutorial / "restacked_particles.cs", {name: column[chosen] for name, column in columns.items()})
    with pytest.raises(InputError, match=message):
        particles_from_cryosparc_job("cryosparc", 4)


def test_row_without_image_before_others_is_not_skipped(tutorial: Path) -> None:
    images = sequence(batches([0, 1, 2]))
    write_cs(tutorial / "J4_passthrough_particles.cs", passthrough(13))
    columns = {"uid": uids(13)[1:], **blob_columns([f"J4/restack/{name}" for name, _ in images], [i for _, i in images])}
    write_cs(tutorial / "restacked_particles.cs", columns)
    for n_images_max in (12, None):
        with pytest.raises(InputError, match=r"particle 1 has no image in the job directory, by its uid in .*restacked"):
            particles_from_cryosparc_job("cryosparc", 4, n_images_max=n_images_max)


def test_in_a_longer_table_with_uids_the_uids_identify_the_images(tutorial: Path) -> None:
    images = sequence(batches([0, 1, 2]))
    write_cs(tutorial / "J4_passthrough_particles.cs", passthrough(14))
    columns = {"uid": uids(12)[::-1], **blob_columns([f"J4/restack/{name}" for name, _ in images], [i for _, i in images])}
    write_cs(tutorial / "restacked_particles.cs", columns)
    particles = particles_from_cryosparc_job("cryosparc", 4)
    assert images_of(particles) == images[::-1]
    (line,) = particles.warnings
    assert "2 of the 14 rows" in line
    assert "hold 12 images" in line


def test_missing_ctf_is_looked_up_by_uid(tutorial: Path) -> None:
    write_cs(tutorial / "J4_passthrough_particles.cs", {"uid": uids(12), "alignments2D/class": np.zeros(12, np.uint32)})
    write_cs(tutorial / "restacked_particles.cs", {name: column[::-1] for name, column in passthrough(12).items()})
    particles = particles_from_cryosparc_job("cryosparc", 4)
    assert particles["defocus_u"].tolist() == [15000 + i for i in range(12)]
    assert "looked up by uid" in particles.warnings[0]


def test_table_with_the_project_in_its_name(tutorial: Path) -> None:
    (tutorial / "J4_passthrough_particles.cs").rename(tutorial / "P45_J4_passthrough_particles.cs")
    assert len(particles_from_cryosparc_job("cryosparc", 4)) == 12


def test_broken_image_file_is_named(tutorial: Path) -> None:
    (tutorial / "restack/batch_000001_restacked.mrc").write_bytes(b"")
    with pytest.raises(InputError, match=r"batch_000001_restacked.mrc is empty"):
        particles_from_cryosparc_job("cryosparc", 4)
    (tutorial / "restack/batch_000001_restacked.mrc").unlink()
    (tutorial / "restack/batch_000001_restacked.mrc").symlink_to("elsewhere.mrc")
    with pytest.raises(InputError, match=r"cannot be opened.*batch_000001_restacked.mrc"):
        particles_from_cryosparc_job("cryosparc", 4)


def test_layout_that_is_not_a_job_is_explained(tutorial: Path) -> None:
    for arguments, message in [
        (("cryosparc", 5), r"J5 does not exist; in .*cryosparc there are J4"),
        (("nowhere", 4), r"The folder .*nowhere, which should hold the job directory J4, does not exist"),
        (("cryosparc/J4/restack", 4), "there is no job directory at all"),
        (
            ("cryosparc/J4", 4),
            r"J4 has the name of the job directory itself: give the folder that holds it, .*cryosparc, and the number 4",
        ),
        (("cryosparc", -1), "job_number is -1"),
        (("cryosparc", "J4"), "job_number is 'J4'"),
        (("cryosparc", True), "job_number is True"),
    ]:
        with pytest.raises(InputError, match=message):
            particles_from_cryosparc_job(*arguments)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="n_images_max is 0"):
        particles_from_cryosparc_job("cryosparc", 4, n_images_max=0)


def test_missing_parts_of_a_job_are_named(tutorial: Path) -> None:
    restack = tutorial / "restack"
    write_batches(restack, {"batch_1_restacked.mrc": 4})
    with pytest.raises(InputError, match=r"two files with one number, batch_000001_restacked.mrc and batch_1_restacked.mrc"):
        particles_from_cryosparc_job("cryosparc", 4)
    (restack / "batch_1_restacked.mrc").unlink()
    (restack / "batch_000000_restacked.mrc").unlink()
    with pytest.raises(InputError, match=r"no file with number 0.*first is batch_000001_restacked.mrc"):
        particles_from_cryosparc_job("cryosparc", 4)
    for folder in (restack, tutorial / "downsample"):
        for path in folder.iterdir():
            path.unlink()
    with pytest.raises(InputError, match=r"neither .*batch_NUMBER_restacked.mrc nor .*batch_NUMBER_downsample.mrc"):
        particles_from_cryosparc_job("cryosparc", 4)
    (tutorial / "J4_passthrough_particles.cs").rename(tutorial / "restacked_particles.cs")
    with pytest.raises(InputError, match=r"no table .*J4_passthrough_particles.cs.*restacked_particles.cs"):
        particles_from_cryosparc_job("cryosparc", 4)


def test_a_job_directory_given_as_a_table_is_told_how_to_be_converted(tutorial: Path) -> None:
    told = rf"`cryolike-dask convert cryosparc-job {tutorial.parent.resolve()} 4`"
    with pytest.raises(InputError, match=rf"J4 is the directory of a job\. To convert the restacked .* use {told}"):
        particles_from_cryosparc(tutorial)
    with pytest.raises(InputError, match=rf"lacks the image columns .*Put the job's other .*{told}"):
        particles_from_cryosparc(tutorial / "J4_passthrough_particles.cs")
