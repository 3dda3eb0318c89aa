"""report.html says and shows what a run did, and loads no other files."""

from __future__ import annotations

import base64
import io
import os
import re
import subprocess
from dataclasses import replace
from pathlib import Path
from shutil import which

import numpy as np
import pytest
from PIL import Image

import cryolike_dask.pictures.html_report as html_report
from cryolike_dask import Conversion, ConversionReport, particles_from_star
from cryolike_dask.demo.particles import write_demo_particles
from cryolike_dask.pictures.canvas import ACCENT, INK
from cryolike_dask.pictures.html_report import plot_histograms, write_html_report
from tests.support.markup import Elements

_LOADING = ("src", "href", "srcset", "data", "action")


@pytest.fixture(scope="module")
def conversion(tmp_path_factory: pytest.TempPathFactory) -> Conversion:
    data = write_demo_particles(tmp_path_factory.mktemp("demo") / "a <b> & c", n_images=12, box=16, n_files=2)
    particles = particles_from_star(data.star_file, data.folder_mrc)
    return Conversion(particles, data.params_file, folder_output=tmp_path_factory.mktemp("out"), batch_size=5)


@pytest.fixture(scope="module")
def report(conversion: Conversion) -> ConversionReport:
    return conversion.run()


@pytest.fixture(scope="module")
def page(report: ConversionReport) -> str:
    """The page as the run wrote it."""
    return (report.folder / "report.html").read_text(encoding="utf-8")


def test_page_loads_nothing(page: str) -> None:
    elements = Elements(page)
    assert elements.open == []
    loaded = [value for tag, name, value in elements.attributes if name in _LOADING and tag != "a"]
    assert len(loaded) == 3 * 3 + 2
    assert all(value.startswith("data:image/png;base64,") for value in loaded)
    assert not re.search(r"https?:|//\w+\.\w|url\(|@import|<script|<link|<iframe", re.sub(r'"data:[^"]*"', "", page))


def test_links_lead_to_the_files_of_each_stack(page: str, report: ConversionReport) -> None:
    links = [value for tag, name, value in Elements(page).attributes if (tag, name) == ("a", "href")]
    written = {
        path.relative_to(report.folder).as_posix() for kind in ("fft", "phys", "plots") for path in report.folder.glob(f"{kind}/*")
    }
    assert sorted(links) == sorted(written)
    assert len(links) == 3 * (3 + 3)


def test_pictures_are_those_of_the_first_middle_and_last_stack(page: str, report: ConversionReport) -> None:
    pictures = [base64.b64decode(text) for text in re.findall(r'base64,([^"]+)', page)]
    for picture in pictures:
        Image.open(io.BytesIO(picture)).verify()
    on_disk = {path.read_bytes() for path in (report.folder / "plots").glob("*.png")}
    assert on_disk <= set(pictures)
    assert len(on_disk) == 9
    text = " ".join(Elements(page).words)
    assert "Stack 000001: 5 images, particles 6 to 10 of the table" in text
    assert "Stack 000002: 2 images, particles 11 to 12 of the table" in text


def test_the_page_says_what_was_done(page: str, conversion: Conversion) -> None:
    text = " ".join(Elements(page).text.split())
    for wanted in (
        "12 particles",
        "3 of up to 5 images each",
        "2 Å, from the table",
        "17 shells × 32 in-plane angles",
        "batch size 5 images per stack",
        "No warnings",
    ):
        assert wanted in text
    assert conversion.plan.table.sources[0].table in text  # including its angle brackets


def test_warnings_and_rows_left_out_are_shown(conversion: Conversion, report: ConversionReport) -> None:
    told = replace(report, warnings=tuple(f"warning {n} <&>" for n in range(60)), skipped=("row 7: the image file is missing",))
    text = " ".join(Elements(write_html_report(conversion.plan, told).read_text(encoding="utf-8")).words)
    assert "warning 39 <&>" in text
    assert "and 20 more" in text
    assert "1 particle left out" in text
    assert "row 7" in text
    assert "No warnings" not in text


def test_a_warning_that_holds_markup_is_shown_as_it_is(conversion: Conversion, report: ConversionReport) -> None:
    hostile = "<script>alert(1)</script><img src=x onerror=alert(1)>"
    told = replace(report, warnings=(f"{hostile}.mrcs has no pixel size",), skipped=(f"optics group {hostile}: left out",))
    page = Elements(write_html_report(conversion.plan, told).read_text(encoding="utf-8"))
    assert "script" not in page.tags
    assert [name for _, name, _ in page.attributes if name.startswith("on")] == []
    assert f"{hostile}.mrcs has no pixel size" in page.text
    assert f"optics group {hostile}: left out" in page.text


def test_steps_share_the_bar(conversion: Conversion, report: ConversionReport) -> None:
    told = replace(report, seconds_by_step={"read": 1.0, "compute": 2.5, "write": 1.5})
    page = Elements(write_html_report(conversion.plan, told).read_text(encoding="utf-8"))
    assert [value for _, name, value in page.attributes if name == "style"] == ["width:20.0%", "width:50.0%", "width:30.0%"]
    assert "All workers together spent 5.0 s" in page.text
    assert "compute 2.5 s" in page.text


def test_a_run_that_had_nothing_to_do_has_no_bar(conversion: Conversion, report: ConversionReport) -> None:
    told = replace(report, n_kept=len(report.stacks), seconds_by_step={"read": 0.0, "compute": 0.0, "write": 0.0})
    page = Elements(write_html_report(conversion.plan, told).read_text(encoding="utf-8"))
    assert "3 kept from an earlier run" in page.text
    assert "workers" not in page.text
    assert "images per second" not in page.text


def test_page_has_the_colours_of_its_pictures(page: str) -> None:
    assert f"--accent: {ACCENT};" in page
    assert f"color: {INK};" in page


def test_histograms_cope_with_values_not_stated(conversion: Conversion) -> None:
    table = conversion.plan.table
    rows = table.rows.copy()
    for name in ("angle_rotation", "angle_tilt", "angle_psi"):
        rows[name] = np.nan
    rows["phase_shift"] = 0.5
    one = replace(table, rows=rows[:1])
    with Image.open(io.BytesIO(plot_histograms(table))) as whole, Image.open(io.BytesIO(plot_histograms(one))) as single:
        assert whole.size == (900, 420)
        assert single.size == (900, 420)
        assert np.asarray(single).std() > 5


def test_histograms_cope_with_few_and_with_nearly_equal_values(conversion: Conversion) -> None:
    rows = np.repeat(conversion.plan.table.rows[:1], 4000)
    rows["defocus_u"] = np.random.default_rng(0).uniform(8000, 20000, 4000)
    rows["defocus_v"] = rows["defocus_u"] - 200  # equal except for rounding
    rows["angle_psi"][0] += 0.5  # one particle of many: a bar without height
    with Image.open(io.BytesIO(plot_histograms(replace(conversion.plan.table, rows=rows)))) as picture:
        assert picture.size == (900, 420)


def test_a_report_that_fails_does_not_fail_the_conversion(
    conversion: Conversion, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(html_report, "write_atomic", refuse)
    plan = conversion.plan
    told = Conversion(plan.table, plan.descriptor, folder_output=tmp_path).run()
    assert told.n_images == 12
    assert [line for line in told.warnings if "report.html was not written" in line]


def test_no_report_without_pictures(conversion: Conversion, tmp_path: Path) -> None:
    Conversion(conversion.plan.table, conversion.plan.descriptor, folder_output=tmp_path, flag_plots=False).run()
    assert not (tmp_path / "report.html").exists()


@pytest.mark.skipif(which("chromium") is None, reason="chromium is not installed")
def test_a_browser_draws_the_page(conversion: Conversion, report: ConversionReport, tmp_path: Path) -> None:
    picture = tmp_path / "page.png"
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--window-size=1200,1600", f"--user-data-dir={tmp_path / 'profile'}"]
    page = write_html_report(conversion.plan, report).as_uri()
    subprocess.run(["chromium", *options, f"--screenshot={picture}", page], check=True, capture_output=True, timeout=120)
    with Image.open(picture) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    magma = (pixels[..., 0] > pixels[..., 1] + 60).sum()  # pixels of the Fourier montage
    assert magma > 20_000
    assert (pixels.sum(axis=2) < 150).sum() > 2_000
