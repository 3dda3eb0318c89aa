"""Output folders: links in them, and what they already hold."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from cryolike_dask.conversion import Conversion
from cryolike_dask.demo.particles import DemoData, write_demo_particles
from cryolike_dask.errors import InputError, OutputError
from cryolike_dask.particles.star.particles import particles_from_star
from cryolike_dask.runs.folder import HIDDEN_FOLDER, acquire_folder
from cryolike_dask.stacks.complete import find_complete_stack


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DemoData:
    return write_demo_particles(tmp_path_factory.mktemp("particles"), n_images=12, box=16, pixel_size=3.0, n_files=2, seed=1)


def convert(data: DemoData, out: Path, **options: Any) -> Conversion:
    particles = particles_from_star(str(data.star_file), str(data.folder_mrc))
    return Conversion(particles, data.params_file, folder_output=out, **({"batch_size": 3, "flag_plots": False} | options))


# Links


@pytest.mark.parametrize("name", ["fft", "phys", "plots", ".conversion", "particles.zarr", "particles.zarr/fourier"])
def test_output_does_not_follow_a_link_out_of_its_folder(data: DemoData, tmp_path: Path, name: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    link = tmp_path / "out" / name
    link.parent.mkdir(parents=True)
    link.symlink_to(elsewhere)
    with pytest.raises(OutputError, match="is a link"):
        convert(data, tmp_path / "out", flag_plots=True, output_format="zarr" if "zarr" in name else "pt").run()
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize("name", ["manifest.json", "params.npz", "particles.star", "fft/particles_fourier_stack_000000.pt"])
def test_a_link_in_the_place_of_a_file_is_replaced_and_not_followed(data: DemoData, tmp_path: Path, name: str) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    link = tmp_path / "out" / name
    link.parent.mkdir(parents=True)
    link.symlink_to(victim)
    convert(data, tmp_path / "out", overwrite=True).run()
    assert victim.read_text() == "precious"
    assert not link.is_symlink()


# Folders of runs that did not begin


def test_a_run_that_does_not_begin_leaves_no_folder(data: DemoData, tmp_path: Path) -> None:
    for made in (tmp_path / "a" / "b" / "out", tmp_path / "out"):
        with pytest.raises(InputError, match="performance report"):
            convert(data, made).run(performance_report=tmp_path / "page.html")
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_does_not_begin_keeps_a_folder_that_was_there(data: DemoData, tmp_path: Path) -> None:
    (tmp_path / "a" / "out").mkdir(parents=True)
    with pytest.raises(InputError, match="performance report"):
        convert(data, tmp_path / "a" / "out").run(performance_report=tmp_path / "page.html")
    assert list(tmp_path.rglob("*")) == [tmp_path / "a", tmp_path / "a" / "out"]


# What they already hold


def test_existing_output_is_refused_before_any_work_unless_an_option_allows_it(data: DemoData, tmp_path: Path) -> None:
    convert(data, tmp_path / "out").run()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    with pytest.raises(OutputError, match="already holds a conversion"):
        convert(data, tmp_path / "out").run()
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == before


def test_another_run_is_refused_with_what_differs(data: DemoData, tmp_path: Path) -> None:
    convert(data, tmp_path / "out").run()
    with pytest.raises(OutputError, match=r"settings\.batch_size: 3 there, 4 now\n  settings\.save_phys: True there, False now"):
        convert(data, tmp_path / "out", batch_size=4, save_phys=False, skip_exist=True).run()


def test_settings_without_effect_on_a_stack_do_not_make_another_run(data: DemoData, tmp_path: Path) -> None:
    convert(data, tmp_path / "out").run()
    report = convert(
        data,
        tmp_path / "out",
        device="cpu",
        flag_plots=True,
        on_bad_image="zero",
        on_missing="skip",
        hash_inputs=True,
        skip_exist=True,
    ).run()
    assert report.n_kept == 4
    assert len(list((tmp_path / "out" / "plots").glob("*.png"))) == 12


def test_a_trial_of_a_few_stacks_is_continued_to_all(data: DemoData, tmp_path: Path) -> None:
    convert(data, tmp_path / "out", n_stacks_max=2).run()
    report = convert(data, tmp_path / "out", skip_exist=True).run()
    assert (report.n_kept, len(report.stacks)) == (2, 4)
    with pytest.raises(OutputError, match=r"holds 4 stacks .* n_stacks_max=2 .* allows fewer"):
        convert(data, tmp_path / "out", skip_exist=True, n_stacks_max=2).run()
    assert len(list((tmp_path / "out" / "fft").glob("*.npz"))) == 4


def test_stacks_without_a_manifest_are_not_continued(data: DemoData, tmp_path: Path) -> None:
    convert(data, tmp_path / "out").run()
    (tmp_path / "out" / "manifest.json").unlink()
    with pytest.raises(OutputError, match=r"without a manifest\.json"):
        convert(data, tmp_path / "out", skip_exist=True).run()


def test_the_manifest_records_settings_versions_inputs_and_each_stack(data: DemoData, tmp_path: Path) -> None:
    convert(data, tmp_path / "out").run()
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["settings"]["batch_size"] == 3
    assert {"python", "numpy", "torch", "dask", "numba"} <= set(manifest["versions"])
    files = sorted(data.folder_mrc.iterdir())
    assert sorted((file["path"], file["size"], file["mtime_ns"]) for file in manifest["inputs"]) == [
        (str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files
    ]
    assert [stack["rows"] for stack in manifest["stacks"]] == [[0, 3], [3, 6], [6, 9], [9, 12]]
    for stack in manifest["stacks"]:
        written = list((tmp_path / "out").glob(f"*/*_stack_{stack['counter']:06d}.*"))
        assert stack["n_bytes"] == sum(path.stat().st_size for path in written)


# Before the start


def test_a_folder_that_cannot_be_written_is_reported(data: DemoData, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"out cannot be made: .*/file is a file\. Choose another folder"):
        convert(data, tmp_path / "file" / "out").run()


def test_what_a_run_that_was_taken_for_dead_removes_meanwhile_does_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / HIDDEN_FOLDER).mkdir()
    (tmp_path / HIDDEN_FOLDER / "scratch").touch()

    def unlink(path: str) -> None:
        real_unlink(path)  # by the other run
        real_unlink(path)

    real_unlink = os.unlink
    monkeypatch.setattr("cryolike_dask.runs.folder.os.unlink", unlink)
    run = acquire_folder(tmp_path)
    monkeypatch.undo()
    assert sorted(path.name for path in run.hidden.iterdir()) == sorted(["lock", run.run_id])
    run.release()


def test_a_run_that_continues_looks_only_for_stacks_of_which_there_are_files(
    data: DemoData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    convert(data, tmp_path / "out", batch_size=1, n_stacks_max=4).run()
    (tmp_path / "out" / "fft" / "particles_fourier_stack_000001.npz").unlink()
    looked_for = []

    def find(stack: Any, *arguments: Any) -> Any:
        looked_for.append(stack.counter)
        return find_complete_stack(stack, *arguments)

    monkeypatch.setattr("cryolike_dask.runs.steps.find_complete_stack", find)
    report = convert(data, tmp_path / "out", batch_size=1, skip_exist=True).run()
    assert (len(report.stacks), report.n_kept) == (12, 3)
    assert looked_for == [0, 2, 3]


def test_a_run_that_lost_its_folder_does_not_remove_it(tmp_path: Path) -> None:
    run = acquire_folder(tmp_path / "out")
    shutil.rmtree(run.hidden)  # as the run that took it over does at its end
    run.release()
    assert (tmp_path / "out").is_dir()
    run = acquire_folder(tmp_path / "other")
    run.release()
    assert not (tmp_path / "other").exists()
