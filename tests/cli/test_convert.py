"""`cryolike-dask convert`, from files to files."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import fields
from pathlib import Path

import click
import mrcfile
import numpy as np
import pandas as pd
import pytest
import starfile
import torch

from cryolike_dask.cli.convert import convert
from cryolike_dask.demo.particles import DemoData
from cryolike_dask.settings import ConversionSettings
from tests.cli.conftest import Cli
from tests.support.reference import DATA, REFERENCE, needs_data, params_file, write_job


def fourier(folder: Path, counter: int) -> np.ndarray:
    path = folder / "fft" / f"particles_fourier_stack_{counter:06d}.pt"
    return np.asarray(torch.load(path, weights_only=True))


def test_stacks_follow_the_table_and_trace_every_image(convert_star: Cli, particles: DemoData, tmp_path: Path) -> None:
    result = convert_star("--batch-size", "5")
    assert result.exit_code == 0, result.output
    names = starfile.read(particles.star_file, always_dict=True)["particles"]["rlnImageName"]
    listed = [(Path(name.split("@")[1]).name, int(name.split("@")[0]) - 1) for name in names]
    traced = []
    for counter, size in enumerate((5, 5, 2)):
        with np.load(tmp_path / "out" / "fft" / f"particles_fourier_stack_{counter:06d}.npz") as metadata:
            traced += [(Path(str(file)).name, int(index)) for file, index in zip(metadata["files"], metadata["idxs"], strict=True)]
        images = torch.load(tmp_path / "out" / "phys" / f"particles_phys_stack_{counter:06d}.pt", weights_only=True).numpy()
        assert len(images) == size
        for image, (file, index) in zip(images, traced[-size:], strict=True):
            source = mrcfile.read(particles.folder_mrc / file)[index].astype(np.float64)
            centred = source - source.mean()
            np.testing.assert_allclose(image, centred / abs(centred).max(), atol=1e-6)
    assert traced == listed
    assert "12 images in 3 stacks" in result.stdout


def test_pictures_are_drawn_unless_they_are_not_wanted(convert_star: Cli, tmp_path: Path) -> None:
    assert convert_star().exit_code == 0
    assert sorted(path.name for path in (tmp_path / "out" / "plots").iterdir()) == [
        "particles_fourier_stack_000000.png",
        "particles_phys_stack_000000.png",
        "power_spectrum_stack_000000.png",
    ]
    assert convert_star("--overwrite", "--no-plots", "--no-phys").exit_code == 0
    assert not list((tmp_path / "out").glob("plots/*.png"))
    assert not list((tmp_path / "out").glob("phys/*.pt"))


def test_existing_output_is_neither_replaced_nor_mixed(convert_star: Cli, tmp_path: Path) -> None:
    assert convert_star("--batch-size", "5").exit_code == 0
    before = fourier(tmp_path / "out", 2)
    refused = convert_star("--batch-size", "5")
    assert refused.exit_code == 2
    assert "already holds a conversion" in refused.stderr
    assert convert_star("--batch-size", "5", "--skip-exist").exit_code == 0
    np.testing.assert_array_equal(fourier(tmp_path / "out", 2), before)
    assert convert_star("--batch-size", "4", "--skip-exist").exit_code == 2
    assert convert_star("--batch-size", "12", "--overwrite").exit_code == 0
    assert len(list((tmp_path / "out" / "fft").glob("*.pt"))) == 1


def test_a_finished_run_has_nothing_to_do_and_keeps_its_report(convert_star: Cli, tmp_path: Path) -> None:
    assert convert_star("--batch-size", "5").exit_code == 0
    page = (tmp_path / "out" / "report.html").read_bytes()
    again = convert_star("--batch-size", "5", "--skip-exist")
    assert again.exit_code == 0
    assert again.stdout.startswith(f"Nothing to do: 12 images in 3 stacks are in {tmp_path / 'out'} already.")
    assert "Converting" not in again.stderr
    assert (tmp_path / "out" / "report.html").read_bytes() == page


def test_a_run_that_continues_says_how_many_stacks_it_keeps_and_makes(convert_star: Cli, tmp_path: Path) -> None:
    assert convert_star("--batch-size", "2").exit_code == 0
    fft = tmp_path / "out" / "fft"
    before = {path.name: path.read_bytes() for path in fft.iterdir()}
    (fft / "particles_fourier_stack_000002.npz").unlink()
    lost = tmp_path / "out" / "phys" / "particles_phys_stack_000004.pt"
    lost.unlink()
    again = convert_star("--batch-size", "2", "--skip-exist")
    assert again.exit_code == 0, again.stderr
    assert "4 stacks are complete and kept." in again.stderr
    assert "Converting 4 images to 2 stacks." in again.stderr
    assert again.stderr.count("is not complete") == 1
    assert f"Stack 000004 is not complete ({lost} is missing); making it again." in again.stderr
    assert "2 of 2 stacks (100%), 4 of 4 images" in again.stderr
    assert again.stdout.startswith("12 images in 6 stacks (4 of them kept from an earlier run), ")
    assert {path.name: path.read_bytes() for path in fft.iterdir()} == before


def test_an_interrupted_run_says_once_how_to_continue(convert_star: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("cryolike_dask.execution.run_loop.RunLoop.handle", interrupt)
        stopped = convert_star("--batch-size", "5", "--quiet")
    assert stopped.exit_code == 130
    assert stopped.stderr == "Stopped with 3 of 3 stacks left; continue with --skip-exist.\n"
    assert stopped.stdout == ""
    assert "12 images in 3 stacks" in convert_star("--batch-size", "5", "--skip-exist").stdout


def test_an_interrupt_before_anything_is_written_says_so(convert_star: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cryolike_dask.conversion.make_plan", interrupt)
    stopped = convert_star()
    assert (stopped.exit_code, stopped.stderr) == (130, "Stopped.\n")


def test_an_interrupted_dry_run_has_nothing_to_continue(convert_star: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cryolike_dask.execution.run_loop.RunLoop.handle", interrupt)
    stopped = convert_star("--dry-run", "--quiet")
    assert (stopped.exit_code, stopped.stderr) == (130, "Stopped.\n")
    assert [path.name for path in tmp_path.iterdir()] == ["particles"]


NO_GPU = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")


@pytest.mark.parametrize("dry_run", [(), ("--dry-run",)], ids=["run", "dry run"])
@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--out", "file"), "file cannot be made: it is a file"),
        (("--out", "file/below"), "below cannot be made: .*/file is a file"),
        pytest.param(("--out", "new/out", "--device", "cuda"), "no CUDA device is visible on this machine", marks=NO_GPU),
        (("--out", "new/out", "--performance-report", "page.html"), "--workers"),
        (("--out", "old"), "old already holds a conversion"),
        (("--out", "old", "--skip-exist"), "stacks without a manifest"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_a_run_refuses_is_refused_by_a_dry_run_too_before_anything_is_written(
    options: tuple[str, ...],
    told: str,
    dry_run: tuple[str, ...],
    cli: Cli,
    particles: DemoData,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("precious")
    (tmp_path / "old" / "fft").mkdir(parents=True)
    (tmp_path / "old" / "fft" / "particles_fourier_stack_000000.pt").write_text("of another program")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    result = cli("convert", "star", particles.star_file, "--mrc-folder", particles.folder_mrc, *options, *dry_run)
    assert result.exit_code == 2
    assert re.search(told, result.stderr), result.stderr
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == before
    assert not (tmp_path / "new").exists()


def test_downsampling_is_not_said_to_be_the_tables(cli: Cli, particles: DemoData, tmp_path: Path) -> None:
    cli("params", tmp_path / "half.npz", "--n-pixels", "8", "--pixel-size", "6")
    arguments = (particles.star_file, "--mrc-folder", particles.folder_mrc, "--params", tmp_path / "half.npz")
    result = cli("convert", "star", *arguments, "--out", tmp_path / "out", "--downsample-factor", "2")
    told = "6 Å, {}from the table (3 Å), downsampled by 2"
    assert told.format("taken ") in result.stderr
    assert told.format("") in cli("info", tmp_path / "out").stdout
    assert told.format("") in (tmp_path / "out" / "report.html").read_text()
    assert told.format("") in cli("preview", *arguments, "--downsample-factor", "2", "--out", tmp_path / "x.png").stdout


def test_dry_run_prints_the_plan_and_writes_nothing(convert_star: Cli, tmp_path: Path) -> None:
    result = convert_star("--batch-size", "5", "--dry-run")
    assert result.exit_code == 0
    assert "12 images" in result.stdout
    assert "3 stacks" in result.stdout
    assert "nothing was written" in result.stdout
    plan = json.loads(convert_star("--batch-size", "5", "--dry-run", "--json").stdout)
    # 16 x 16 pixels give 17 shells x 32 in-plane angles of 8 bytes, and 4 bytes per pixel of the physical image.
    assert plan["bytes_written"] == 12 * (17 * 32 * 8 + 16 * 16 * 4)
    assert plan["bytes_read"] == 12 * 16 * 16 * 4
    assert (plan["n_images"], plan["n_stacks"], plan["n_files"]) == (12, 3, 2)
    assert plan["finest_resolution"] == pytest.approx(6.0)
    assert not (tmp_path / "out").exists()


def test_json_report_names_every_file(convert_star: Cli) -> None:
    report = json.loads(convert_star("--batch-size", "5", "--json").stdout)
    assert [stack["n_images"] for stack in report["stacks"]] == [5, 5, 2]
    assert all(Path(stack[key]).is_file() for stack in report["stacks"] for key in ("fourier", "physical", "metadata"))
    assert report["n_bytes"] == sum(
        Path(stack[key]).stat().st_size for stack in report["stacks"] for key in ("fourier", "physical", "metadata")
    )


def test_quiet_says_nothing_where_all_is_well(convert_star: Cli) -> None:
    result = convert_star("--quiet")
    assert result.exit_code == 0
    assert result.output == ""


def test_log_lines_tell_which_pixel_size_is_in_force(convert_star: Cli) -> None:
    assert "Pixel size 3 Å, taken from the table" in convert_star().stderr


def test_a_bad_image_is_named_or_written_as_zeros(convert_star: Cli, particles: DemoData, tmp_path: Path) -> None:
    with mrcfile.open(particles.folder_mrc / "particles_01.mrcs", mode="r+") as mrc:
        mrc.data[2] = 7.0
    failed = convert_star()
    assert failed.exit_code in (1, 2)
    assert "particles_01.mrcs" in failed.stderr
    zeroed = convert_star("--on-bad-image", "zero", "--overwrite")
    assert zeroed.exit_code == 0
    assert (abs(fourier(tmp_path / "out", 0)).sum(axis=(1, 2)) == 0).sum() == 1


def test_missing_files_can_be_left_out(convert_star: Cli, particles: DemoData) -> None:
    kept = len(mrcfile.read(particles.folder_mrc / "particles_01.mrcs"))
    (particles.folder_mrc / "particles_02.mrcs").unlink()
    report = json.loads(convert_star("--on-missing", "skip", "--json").stdout)
    assert report["n_images"] == kept
    assert len(report["skipped"]) == 12 - kept


def test_missing_files_are_listed_for_programs(convert_star: Cli, particles: DemoData) -> None:
    path = particles.folder_mrc / "particles_02.mrcs"
    path.unlink()
    result = convert_star("--json")
    assert result.exit_code == 2
    told = json.loads(result.stdout)
    assert told["missing"] == [str(path)]
    assert "1 image file named there cannot be found" in told["error"]
    assert told["error"].splitlines()[0] in result.stderr
    assert f"Missing: {path}" not in result.stderr


def test_images_written_as_zeros_are_reported_on_the_terminal(convert_star: Cli, particles: DemoData) -> None:
    path = particles.folder_mrc / "particles_01.mrcs"
    with mrcfile.open(path, "r+") as mrc:
        mrc.data[2] = 7.0
    result = convert_star("--on-bad-image", "zero", "--quiet")
    assert result.exit_code == 0
    assert "Warning: 1 image was written as zeros:" in result.stderr
    assert f"of {path}) is constant" in result.stderr


def test_two_worker_processes_give_the_same_stacks(convert_star: Cli, tmp_path: Path) -> None:
    assert convert_star("--batch-size", "5", "--no-plots").exit_code == 0
    alone = [path.read_bytes() for path in sorted((tmp_path / "out" / "fft").glob("*.pt"))]
    on_workers = convert_star("--batch-size", "5", "--no-plots", "--overwrite", "--workers", "2")
    assert on_workers.exit_code == 0
    assert re.search(
        r"Starting 2 workers \.\.\.\nDask's dashboard shows what they do: http://127\.0\.0\.1:\d+/status", on_workers.stderr
    )
    assert on_workers.stderr.endswith("Closing the workers ...\n")
    together = [path.read_bytes() for path in sorted((tmp_path / "out" / "fft").glob("*.pt"))]
    assert alone == together
    assert len(alone) == 3


def test_paired_files_are_converted_one_by_one(cli: Cli, particles: DemoData, tmp_path: Path) -> None:
    tables = starfile.read(particles.star_file, always_dict=True)
    arguments: list[object] = []
    sizes = []
    for name in ("particles_01", "particles_02"):
        rows = tables["particles"][tables["particles"]["rlnImageName"].str.contains(name)].sort_values("rlnImageName")
        starfile.write({"optics": tables["optics"], "particles": rows}, tmp_path / f"{name}.star")
        arguments += ["--star", tmp_path / f"{name}.star", "--mrc", particles.folder_mrc / f"{name}.mrcs"]
        sizes.append(len(rows))
    result = cli("convert", "paired", *arguments, "--params", particles.params_file, "--out", tmp_path / "out", "--json")
    assert result.exit_code == 0, result.output
    assert [stack["n_images"] for stack in json.loads(result.stdout)["stacks"]] == sizes


@needs_data
@pytest.mark.parametrize("source", ["star", "cryosparc"])
def test_published_particles_are_converted(cli: Cli, source: str, tmp_path: Path) -> None:
    table = DATA / ("empiar_10076_7.star" if source == "star" else "empiar_10076_7.cs")
    assert (
        cli("params", tmp_path / "p.npz", "--n-pixels", "320", "--pixel-size", "1.31", "--resolution-factor", "0.1").exit_code == 0
    )
    options = ("--mrc-folder", DATA, "--params", tmp_path / "p.npz", "--out", tmp_path / "out", "--no-plots")
    result = cli("convert", source, table, *options)
    assert result.exit_code == 0, result.output
    assert fourier(tmp_path / "out", 0).shape == (7, 33, 640)


@pytest.mark.parametrize("spelt", ["job 2", "job J2", "job/J2", "job/J2/"])
def test_a_cryosparc_job_directory_is_converted(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spelt: str) -> None:
    write_job(tmp_path / "job")
    monkeypatch.chdir(tmp_path)
    result = cli(
        *("convert", "cryosparc-job", *spelt.split(), "--params", params_file("single")),
        *("--out", tmp_path / "out", "--batch-size", "4", "--n-stacks-max", "2", "--no-plots", "--json"),
    )
    assert result.exit_code == 0, result.output
    assert [stack["n_images"] for stack in json.loads(result.stdout)["stacks"]] == [4, 4]
    command = json.loads((tmp_path / "out" / "manifest.json").read_text())["command"]
    assert f"cryolike-dask convert cryosparc-job {spelt.replace('J2', '2') if ' ' in spelt else spelt} --params" in command


@pytest.mark.parametrize("spelt", ["P3", "P3 x", "P3 J"])
def test_a_cryosparc_job_without_its_number_is_refused(cli: Cli, tmp_path: Path, spelt: str) -> None:
    result = cli("convert", "cryosparc-job", *spelt.split(), "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert ("P3 does not have the name of a job directory" if spelt == "P3" else "is not a valid integer") in result.stderr


def test_leopard_em_tables_are_converted(cli: Cli, tmp_path: Path) -> None:
    folder = REFERENCE / "leopard_em"
    case = json.loads((folder / "case.json").read_text())
    box = case["box_size"]
    shutil.copy(folder / "micrograph_0.mrc", tmp_path)
    pixel_size = pd.read_csv(folder / "mic0_results.csv")["pixel_size"][0]
    assert cli("params", tmp_path / "p.npz", "--n-pixels", box, "--pixel-size", pixel_size).exit_code == 0
    result = cli(
        *("convert", "leopard-em", folder / "mic0_results.csv", "--box-size", box, "--micrograph-folder", tmp_path),
        *("--params", tmp_path / "p.npz", "--out", tmp_path / "out", "--no-plots", "--invert", "--json"),
    )
    assert result.exit_code == 0, result.output
    n_picks = len((folder / "mic0_results.csv").read_text().splitlines()) - 1
    assert json.loads(result.stdout)["n_images"] == n_picks


@pytest.mark.parametrize("name", sorted(convert.commands))
def test_every_conversion_takes_every_setting(name: str) -> None:
    taken = {parameter.name for parameter in convert.commands[name].params if isinstance(parameter, click.Option)}
    settings = {field.name for field in fields(ConversionSettings)}
    assert settings <= taken
