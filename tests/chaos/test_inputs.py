"""Image files that change, end early, vanish or cannot be read during a conversion."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cryolike_dask.demo.particles import DemoData
from cryolike_dask.errors import ConversionError, OutputError
from tests.support.chaos import (
    At,
    Case,
    break_reads,
    contents,
    hold_file,
    mend_reads,
    n_visible,
    open_at_once,
    process,
    process_cluster,
    watching,
)

pytestmark = pytest.mark.chaos


@pytest.fixture
def last_file(case_by_file: Case, tmp_path: Path) -> Iterator[Path]:
    """The image file that is read last; put back as it was afterwards."""
    path = case_by_file.data.folder_mrc / "particles_05.mrcs"
    shutil.copy2(path, tmp_path / "original")
    yield path
    put_back(path, tmp_path)


def put_back(path: Path, folder: Path) -> None:
    shutil.copy2(folder / "original", path)


def test_a_truncated_input_is_named_and_the_run_continues_later(
    case_by_file: Case, last_file: Path, out: Path, tmp_path: Path
) -> None:
    def truncate() -> None:
        os.truncate(last_file, last_file.stat().st_size // 2)
        (tmp_path / "truncated").touch()

    with process_cluster() as (_, client), watching(out):
        client.run(hold_file, last_file.name, tmp_path / "truncated")
        faults = At(3, truncate)
        with pytest.raises(ConversionError, match=r"particles_05\.mrcs has changed") as told:
            case_by_file.conversion(out).run(client, faults)
    assert "could not be made" in str(told.value)
    assert n_visible(out) == len(faults.done) > 3
    put_back(last_file, tmp_path)
    report = case_by_file.resume_and_check(out)
    assert report.n_kept >= len(faults.done)


def test_an_input_that_vanishes_is_named_and_the_run_continues_later(
    case_by_file: Case, last_file: Path, out: Path, tmp_path: Path
) -> None:
    message = r"particles_05\.mrcs cannot be opened on .*No such file"

    def remove() -> None:
        last_file.unlink()
        (tmp_path / "removed").touch()

    with process_cluster() as (_, client), watching(out):
        client.run(hold_file, last_file.name, tmp_path / "removed")
        with pytest.raises(ConversionError, match=message):
            case_by_file.conversion(out).run(client, At(3, remove))
    put_back(last_file, tmp_path)
    case_by_file.resume_and_check(out)


def test_an_input_written_to_while_it_is_read_is_named(case_by_file: Case, last_file: Path, out: Path, tmp_path: Path) -> None:
    def touch() -> None:
        now = last_file.stat()
        os.utime(last_file, ns=(now.st_atime_ns, now.st_mtime_ns + 1))
        (tmp_path / "touched").touch()

    hold_file(last_file.name, tmp_path / "touched")
    try:
        with watching(out), pytest.raises(ConversionError, match=r"particles_05\.mrcs has changed"):
            case_by_file.conversion(out).run(None, At(3, touch))
    finally:
        open_at_once()
    # Continuing with the changed file would mix two versions of it. It is refused, by name, until the old file is back.
    with pytest.raises(OutputError, match=r"particles_05\.mrcs has changed: .* then, .* now"):
        case_by_file.conversion(out, skip_exist=True).run()
    put_back(last_file, tmp_path)
    case_by_file.resume_and_check(out)


def test_a_read_error_that_happens_once_goes_unnoticed(case_by_file: Case, out: Path) -> None:
    with process_cluster() as (_, client), watching(out):
        client.run(break_reads, "particles_02.mrcs", 1)
        report = case_by_file.conversion(out).run(client)
    assert report.n_images == 150
    case_by_file.check(out)


def test_a_file_that_cannot_be_read_is_named_and_all_other_stacks_are_made(case_by_file: Case, out: Path) -> None:
    with process_cluster() as (_, client):
        with watching(out):
            client.run(break_reads, "particles_03.mrcs", -1)
            with pytest.raises(ConversionError, match=r"particles_03\.mrcs cannot be read \(Input/output error\)") as told:
                case_by_file.conversion(out).run(client)
        n_failed = str(told.value).count("\n  stack ")
        staged = {path.name[: path.name.index(".npz.")] for path in out.glob("fft/.*.npz.*.staged")}
        assert n_visible(out) + len(staged) + n_failed == case_by_file.n_stacks
        assert n_failed < 8
        client.run(mend_reads)
        with watching(out):
            report = case_by_file.conversion(out, skip_exist=True).run(client)
    assert report.n_kept == case_by_file.n_stacks - n_failed
    case_by_file.check(out)


def test_a_failed_conversion_has_an_exit_code_of_its_own(case_by_file: Case, out: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(case_by_file.data.folder_mrc.parent, folder)
    data = DemoData(folder / "particles.star", folder / "mrc", folder / "params.npz")
    case = replace(case_by_file, data=data)
    # A constant image is found only when it is read.
    path = data.folder_mrc / "particles_04.mrcs"
    with path.open("r+b") as file:
        file.seek(1024)
        file.write(bytes(4 * 16 * 16))
    with process(case.command(out)) as run:
        text = run.communicate()[0]
    assert run.returncode == 1
    assert "particles_04.mrcs" in text
    assert "is constant" in text
    assert "Traceback" not in text
    assert 0 < n_visible(out) < case.n_stacks
    # Complete stacks do not depend on the treatment of bad images.
    with process(case.command(out, "--skip-exist", "--on-bad-image", "zero")) as run:
        assert run.wait() == 0
    assert len([name for name in contents(out) if name.startswith("fft")]) == 2 * case.n_stacks
