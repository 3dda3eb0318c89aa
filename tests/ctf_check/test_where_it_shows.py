"""The verdict in everything that shows it: report, report.html, info, JSON, preview."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cryolike_dask import Conversion, ConversionReport, ImageDescriptor, load_stack, particles_from_star, preview_particles
from cryolike_dask.demo.particles import DemoData, write_demo_particles
from cryolike_dask.runs.info import check_ctf_of_stacks, describe_output
from tests.cli.conftest import Cli, cli  # noqa: F401
from tests.support.markup import Elements


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DemoData:
    return write_demo_particles(tmp_path_factory.mktemp("particles"), n_images=360, box=64)


@pytest.fixture(scope="module")
def right(data: DemoData, tmp_path_factory: pytest.TempPathFactory) -> ConversionReport:
    return convert(data, tmp_path_factory.mktemp("right"), 2.0)


@pytest.fixture(scope="module")
def wrong(data: DemoData, tmp_path_factory: pytest.TempPathFactory) -> ConversionReport:
    return convert(data, tmp_path_factory.mktemp("wrong"), 2.3)


def convert(data: DemoData, folder: Path, pixel_size: float) -> ConversionReport:
    params = ImageDescriptor.from_individual_values(n_pixels=64, pixel_size=pixel_size)
    particles = particles_from_star(data.star_file, data.folder_mrc)
    options = {} if pixel_size == 2.0 else {"pixel_size": pixel_size, "override_pixel_size": True}
    return Conversion(particles, params, folder_output=folder, batch_size=100, flag_plots=True, **options).run()  # type: ignore[arg-type]


def test_a_run_says_that_the_ctf_fits(right: ConversionReport) -> None:
    assert right.ctf is not None
    assert right.ctf.verdict == "fits"
    assert right.ctf.n_particles == 360
    assert not right.warnings
    assert "The CTF fits at" in right._repr_html_()
    json.dumps(right.to_dict(), allow_nan=False)
    assert right.to_dict()["ctf"]["verdict"] == "fits"


def test_a_run_warns_of_a_ctf_that_does_not_fit(wrong: ConversionReport) -> None:
    assert wrong.ctf is not None
    assert wrong.ctf.verdict == "does not fit"
    assert wrong.ctf.best_pixel_size == pytest.approx(2.0, rel=0.02)
    assert wrong.ctf.reason in wrong.warnings
    assert "pixel size, defocus or voltage" in wrong.to_dict()["ctf"]["reason"]


def test_the_command_line_prints_the_verdict_once(cli: Cli, data: DemoData, tmp_path: Path) -> None:  # noqa: F811
    arguments = ("convert", "star", data.star_file, "--mrc-folder", data.folder_mrc, "--no-plots", "--no-phys")
    for options in ([], ["--pixel-size", "2.3", "--override-pixel-size"]):
        result = cli(*arguments, "--out", tmp_path / f"out{len(options)}", *options)
        assert result.exit_code == 0, result.stderr
        assert result.output.count("The CTF fits" if not options else "The CTF does not fit") == 1


def test_a_dry_run_warns_once_of_a_ctf_that_does_not_fit(cli: Cli, data: DemoData, tmp_path: Path) -> None:  # noqa: F811
    options = ("--mrc-folder", data.folder_mrc, "--no-plots", "--dry-run", "--pixel-size", "2.3", "--override-pixel-size")
    result = cli("convert", "star", data.star_file, "--out", tmp_path / "out", *options)
    assert result.exit_code == 0, result.stderr
    assert result.output.count("Warning: The CTF does not fit") == 1


def test_page_shows_the_check(right: ConversionReport, wrong: ConversionReport) -> None:
    for report in (right, wrong):
        page = (report.folder / "report.html").read_text(encoding="utf-8")
        assert report.ctf is not None
        assert report.ctf.reason in " ".join(Elements(page).words)
        assert "rings of all particles together" in page


def test_info_tells_the_same(right: ConversionReport) -> None:
    info = describe_output(right.folder)
    assert info.ctf is not None
    assert right.ctf is not None
    assert info.ctf.reason == right.ctf.reason
    assert right.ctf.reason in " ".join(str(info).split())
    assert json.loads(json.dumps(info.to_dict(), allow_nan=False))["ctf"] == right.ctf.to_dict()


def test_stacks_of_earlier_versions_give_no_verdict(right: ConversionReport, tmp_path: Path) -> None:
    (tmp_path / "fft").mkdir()
    metadata = dict(load_stack(right.folder, 0).metadata)
    del metadata["power"]
    np.savez(tmp_path / "fft" / "particles_fourier_stack_000000.npz", **metadata)
    assert check_ctf_of_stacks(tmp_path, [0]) is None
    # Damaged ones give no verdict either.
    (tmp_path / "fft" / "particles_fourier_stack_000001.npz").write_bytes(b"no archive")
    assert check_ctf_of_stacks(tmp_path, [0, 1]) is None
    np.savez(tmp_path / "fft" / "particles_fourier_stack_000001.npz", power=np.ones((3, 4)))
    assert check_ctf_of_stacks(tmp_path, [0, 1]) is None


def test_power_of_each_image_is_kept(right: ConversionReport) -> None:
    stack = load_stack(right.folder, 1)
    assert stack.metadata["power"].dtype == np.float32
    power = (np.abs(stack.fourier.numpy().astype(np.complex128)) ** 2).mean(axis=2)
    np.testing.assert_allclose(stack.metadata["power"], power, rtol=1e-5)
    np.testing.assert_allclose(stack.metadata["power_spectrum"], power.mean(axis=0), rtol=1e-5)


def test_preview_looks_at_more_particles_than_it_shows(data: DemoData) -> None:
    preview = preview_particles(particles_from_star(data.star_file, data.folder_mrc), data.params_file, n_images=2)
    assert len(preview.source) == 2
    assert preview.ctf.n_particles == 360
    assert preview.ctf.verdict == "fits"
    assert preview.ctf.reason in str(preview)


def test_preview_of_a_few_particles_gives_no_verdict(data: DemoData) -> None:
    particles = particles_from_star(data.star_file, data.folder_mrc).take(slice(6))
    preview = preview_particles(particles, data.params_file)
    assert preview.ctf.verdict == "cannot tell"
    assert preview._repr_png_().startswith(b"\x89PNG")


def test_the_guide_quotes_the_preview_of_the_demo(tmp_path: Path) -> None:
    demo = write_demo_particles(tmp_path)
    preview = preview_particles(particles_from_star(demo.star_file, demo.folder_mrc), None)
    guide = (Path(__file__).parents[2] / "docs" / "ctf-check.md").read_text(encoding="utf-8")
    assert f"\nCTF          {preview.ctf}\n" in guide
