"""Whether the image files of a run are still the same: by size and time, and by content (`hash_inputs`)."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask
import pytest
from click.testing import CliRunner

from cryolike_dask.cli.main import main
from cryolike_dask.conversion import Conversion
from cryolike_dask.demo.particles import DemoData, write_demo_particles
from cryolike_dask.errors import InputError, OutputError
from cryolike_dask.particles.star.particles import particles_from_star
from cryolike_dask.planning import input_files
from cryolike_dask.planning.input_files import sha256_of_files
from cryolike_dask.progress import NoProgress, StackProgress
from cryolike_dask.runs.verify import verify_output

_IN_A_LABEL = 500
"""Offset of a byte of an MRC header that readers ignore."""


@pytest.fixture
def data(tmp_path: Path) -> DemoData:
    return write_demo_particles(tmp_path / "particles", n_images=12, box=16, pixel_size=3.0, n_files=2, seed=1)


@pytest.fixture
def files(data: DemoData) -> list[Path]:
    return sorted(Path(data.folder_mrc).glob("*.mrcs"))


def conversion(data: DemoData, out: Path, **options: Any) -> Conversion:
    particles = particles_from_star(str(data.star_file), str(data.folder_mrc))
    return Conversion(particles, data.params_file, folder_output=out, **({"batch_size": 3, "flag_plots": False} | options))


def recorded(out: Path) -> dict[str, str]:
    return {file["path"]: file["sha256"] for file in json.loads((out / "manifest.json").read_text())["inputs"] if "sha256" in file}


def sha256sum(files: list[Path]) -> dict[str, str]:
    """The output of the program `sha256sum`."""
    lines = subprocess.run(["sha256sum", *files], check=True, capture_output=True, text=True).stdout.splitlines()
    return {path: digest for digest, path in (line.split("  ", 1) for line in lines)}


def copy_anew(file: Path) -> None:
    """The same content under the same name, with a later time."""
    before = file.stat().st_mtime_ns
    shutil.copyfile(file, file.with_suffix(".copy"))
    os.replace(file.with_suffix(".copy"), file)
    os.utime(file, ns=(before + 10**9, before + 10**9))


def change(file: Path, keep_time: bool) -> None:
    """Change one byte and keep the size."""
    found = file.stat()
    content = bytearray(file.read_bytes())
    content[_IN_A_LABEL] ^= 1
    file.write_bytes(content)
    later = found.st_mtime_ns + (0 if keep_time else 10**9)
    os.utime(file, ns=(later, later))


def test_the_manifest_has_the_hashes_that_sha256sum_prints(data: DemoData, files: list[Path], tmp_path: Path) -> None:
    conversion(data, tmp_path / "out", hash_inputs=True).run()
    assert recorded(tmp_path / "out") == sha256sum(files)
    conversion(data, tmp_path / "plain").run()
    assert recorded(tmp_path / "plain") == {}


def test_a_run_is_continued_with_copies_of_its_files(data: DemoData, files: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    conversion(data, out, hash_inputs=True, n_stacks_max=2).run()
    hashes = recorded(out)
    for file in files:
        copy_anew(file)
    report = conversion(data, out, skip_exist=True).run()
    assert (report.n_kept, len(report.stacks)) == (2, 4)
    # The hashes are kept, although this run did not use `hash_inputs`.
    assert hashes.items() <= recorded(out).items()
    times = {entry["path"]: entry["mtime_ns"] for entry in json.loads((out / "manifest.json").read_text())["inputs"]}
    assert times == {str(file): file.stat().st_mtime_ns for file in files}


def test_without_hashes_copies_are_refused(data: DemoData, files: list[Path], tmp_path: Path) -> None:
    conversion(data, tmp_path / "out").run()
    copy_anew(files[0])
    with pytest.raises(OutputError, match=rf"{files[0].name} has changed: .* then, .* now"):
        conversion(data, tmp_path / "out", skip_exist=True, hash_inputs=True).run()


def test_other_content_of_the_same_size_is_refused(data: DemoData, files: list[Path], tmp_path: Path) -> None:
    conversion(data, tmp_path / "out", hash_inputs=True).run()
    copy_anew(files[0])
    change(files[1], keep_time=False)
    with pytest.raises(OutputError, match=r"has changed: .*, with other content") as refused:
        conversion(data, tmp_path / "out", skip_exist=True).run()
    assert files[1].name in str(refused.value)
    assert files[0].name not in str(refused.value)


def test_deep_verification_notices_other_content_of_the_same_size_and_time(
    data: DemoData, files: list[Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    arguments = ["--params", str(data.params_file), "--mrc-folder", str(data.folder_mrc), "--out", str(out), "--hash-inputs"]
    converted = CliRunner().invoke(main, ["convert", "star", str(data.star_file), *arguments, "--no-plots", "--quiet"])
    assert converted.exit_code == 0, converted.output
    assert verify_output(out, deep=True) == []
    change(files[0], keep_time=True)
    assert verify_output(out) == []
    (problem,) = verify_output(out, deep=True)
    assert problem.startswith(f"{files[0]} has changed since it was converted")
    files[1].rename(files[1].with_suffix(".elsewhere"))
    assert f"{files[1]}, which was converted, is gone" in verify_output(out, deep=True)


def test_files_that_cannot_be_hashed_are_named(data: DemoData, files: list[Path], tmp_path: Path) -> None:
    gone, folder = sha256_of_files([str(tmp_path / "gone.mrcs"), str(files[0]), str(tmp_path)])[::2]
    assert re.search(r"gone\.mrcs cannot be read for its SHA-256: No such file", str(gone))
    assert re.search(rf"{tmp_path} is a folder", str(folder))
    out = tmp_path / "out"
    conversion(data, out, hash_inputs=True).run()
    files[0].unlink()
    files[0].mkdir()
    assert any(line.startswith(f"{files[0]} is a folder") for line in verify_output(out, deep=True))


def test_output_is_not_replaced_before_all_is_hashed(
    data: DemoData, files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    conversion(data, out).run()
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    fault = InputError(f"{files[1]} cannot be read for its SHA-256: Input/output error.")
    monkeypatch.setattr(input_files, "sha256_of_files", lambda paths: [fault for _ in paths])
    with pytest.raises(InputError, match="Input/output error"):
        conversion(data, out, overwrite=True, hash_inputs=True, batch_size=4).run()
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


class Meddler(NoProgress):
    """Progress that does something to the manifest when the first stack is done."""

    def __init__(self, meddle: Callable[[], object]) -> None:
        self.meddle = meddle

    def start(self, n_stacks: int, n_images: int) -> None:
        """See `Progress`."""

    def stack_done(self, stack: StackProgress) -> None:
        if stack.counter == 0:
            self.meddle()

    def finish(self, error: BaseException | None) -> None:
        """See `Progress`."""


@pytest.mark.parametrize("damage", ["gone", "cut off"])
def test_a_manifest_that_is_lost_during_a_run_is_written_again(
    data: DemoData, files: list[Path], tmp_path: Path, damage: str
) -> None:
    out = tmp_path / "out"
    manifest = out / "manifest.json"
    meddler = Meddler(manifest.unlink if damage == "gone" else lambda: manifest.write_text('{"inputs": ['))
    report = conversion(data, out, hash_inputs=True).run(None, meddler)
    assert len(report.stacks) == 4
    assert verify_output(out) == []
    # Its records of the files are still compared by the next run.
    copy_anew(files[0])
    with pytest.raises(OutputError, match=rf"{files[0].name} has changed"):
        conversion(data, out, skip_exist=True).run()


@pytest.mark.parametrize("way", ["run", "graph"])
def test_inputs_that_changed_after_planning_are_reported_before_anything_is_written(tmp_path: Path, way: str) -> None:
    data = write_demo_particles(tmp_path / "particles", n_images=12, box=16, pixel_size=3.0, n_files=3, seed=1)
    planned = conversion(data, tmp_path / "out")
    touched, gone, same = sorted(data.folder_mrc.iterdir())
    os.utime(touched, ns=(0, touched.stat().st_mtime_ns + 1))
    gone.unlink()
    with pytest.raises(InputError, match=r"2 image files changed after") as told:
        planned.run() if way == "run" else dask.compute(planned.to_delayed(), scheduler="synchronous")
    assert re.search(rf"{touched.name} \([\d,]+ bytes of .* then, [\d,]+ bytes of .* now\)", str(told.value))
    assert f"{gone.name} (No such file" in str(told.value)
    assert same.name not in str(told.value)
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file() and ".graph-" not in str(path)]
