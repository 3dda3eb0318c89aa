"""Semantics of the contract: missing files and bad images."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path

import numpy as np
import pytest

from cryolike_dask import (
    Conversion,
    ConversionError,
    ParticleTable,
    convert_particle_stacks_from_indexed_star_file,
    particles_from_cryosparc,
    particles_from_paired_star_and_mrc_files,
    particles_from_star,
    verify_output,
)
from cryolike_dask.errors import MissingFileError
from tests.support.conversions import convert, files_of, refused
from tests.support.cs_files import particle_columns, write_cs
from tests.support.independent_reader import read_stacks
from tests.support.particle_sets import (
    ABC,
    BOX,
    NO_PLOTS,
    ParticleSet,
    assert_holds,
    params,
    traced,
    write_particle_set,
)
from tests.support.star_files import SINGLE, loop, text, without_column, write


def test_missing_files_are_all_listed(tmp_path: Path) -> None:
    particles = write_particle_set(tmp_path, ABC)
    for name in ("A.mrcs", "C.mrcs"):
        (particles.mrc / name).unlink()
    message = refused(particles, "2 image files", "particle 1", "A.mrcs", "C.mrcs", "on_missing='skip'")
    assert "B.mrcs" not in message
    assert (
        "Give folder_mrc (--mrc-folder), the folder that holds the images, or the one in which the recorded paths start" in message
    )
    cs = particles_from_cryosparc(write_cs(tmp_path / "a.cs", particle_columns(["gone.mrc"] * 2, range(2), BOX)))
    both = ParticleTable.concatenate([cs, particles_from_star(particles.star)])
    for table, told in ((cs, "Give folder_cryosparc (--mrc-folder), the folder that"), (both, "Give the folder that")):
        with pytest.raises(MissingFileError, match=re.escape(told)):
            Conversion(table, params(), mixed_optics="split")


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


def test_ten_of_many_missing_files_are_shown_and_programs_get_all(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    counts = {f"{number:02d}.mrcs": 2 for number in range(14)}
    particles = write_particle_set(tmp_path, counts)
    gone = [particles.mrc / name for name in counts if name not in ("03.mrcs", "07.mrcs")]
    for path in gone:
        path.unlink()
    with caplog.at_level(logging.DEBUG, "cryolike_dask"), pytest.raises(MissingFileError) as caught:
        convert(particles)
    message = str(caught.value)
    assert "12 image files named there cannot be found (first for particle 1)" in message
    assert message.endswith("\n  and 2 more: --debug lists all")
    assert message.splitlines()[1:-1] == [f"  {path}" for path in gone[:10]]
    assert caught.value.missing == tuple(map(str, gone))
    assert all(f"Missing: {path}" in caplog.text for path in gone)
    report = convert_particle_stacks_from_indexed_star_file(
        params(), particles.star, particles.mrc, folder_output=tmp_path / "out", on_missing="skip", **NO_PLOTS
    )
    (line,) = (line for line in report.warnings if "left out" in line)
    assert line.startswith("24 of 28 particles are left out: 12 image files are missing (")
    assert line.count(".mrcs") == 10
    assert line.endswith("and 2 more).")


def test_a_missing_file_of_a_pair_comes_with_advice_for_pairs(tmp_path: Path) -> None:
    star = write(tmp_path, text(loop("", without_column(SINGLE, "rlnImageName"))))
    particles = particles_from_paired_star_and_mrc_files([tmp_path / "gone.mrcs"], [star])
    with pytest.raises(MissingFileError) as caught:
        Conversion(particles, params())
    assert "1 image file of the pairs cannot be found. Check the paths in particle_file_list (--mrc)" in str(caught.value)
    assert "Give the folder" not in str(caught.value)
    assert caught.value.missing == (str(tmp_path / "gone.mrcs"),)


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
    assert stack.metadata["zeroed"].tolist() == [4]
    assert line in json.loads((tmp_path / "out" / "manifest.json").read_text())["warnings"]
    assert verify_output(tmp_path / "out", deep=True) == []


def test_images_that_became_zeros_are_counted_and_named_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    particles = write_particle_set(tmp_path, {"a.mrcs": 30})
    path = particles.mrc / "a.mrcs"
    n_zeros = 4 * BOX * BOX * 13
    path.write_bytes(path.read_bytes()[:1024] + bytes(n_zeros) + path.read_bytes()[1024 + n_zeros :])
    with caplog.at_level(logging.WARNING, "cryolike_dask"):
        convert(particles, on_bad_image="zero", batch_size=4)
    (told,) = (record.getMessage() for record in caplog.records if "zeros" in record.getMessage())
    first, *lines = told.splitlines()
    assert first == "13 images were written as zeros:"
    assert lines[:10] == [f"  {particles.star}, particle {n} (image {n} of {path}) is constant" for n in range(1, 11)]
    assert lines[10:] == ["  and 3 more: manifest.json lists all"]


def test_a_resumed_run_reports_the_zeros_that_it_kept(tmp_path: Path) -> None:
    particles = spoiled_set(tmp_path, np.nan)
    for _ in range(2):
        report = convert_particle_stacks_from_indexed_star_file(
            params(),
            particles.star,
            particles.mrc,
            folder_output=tmp_path / "out",
            on_bad_image="zero",
            skip_exist=True,
            **NO_PLOTS,
        )
    assert report.n_kept == 1
    (line,) = (line for line in report.warnings if "written as zeros" in line)
    assert "particle 5" in line


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
