"""`cryolike-dask browse`: pages of tables and stacks, and its messages."""

from __future__ import annotations

from pathlib import Path

import pytest

from cryolike_dask.demo.particles import DemoData
from tests.cli.conftest import Cli


def test_a_page_of_a_table_and_of_its_stacks(particles: DemoData, convert_star: Cli, tmp_path: Path, cli: Cli) -> None:
    out = tmp_path / "contact.html"
    result = cli("browse", particles.star_file, "--mrc-folder", particles.folder_mrc, "--out", out, "--where", "row != 3")
    assert result.exit_code == 0, result.stderr
    assert "particles    11 of 11\n" in result.stdout
    assert "Rows are those of the table as it is read, counted from 0." in result.stdout
    assert f"{out}, " in result.stdout
    assert "Reading images" in result.stderr
    assert convert_star("--no-plots").exit_code == 0
    quiet = cli("browse", tmp_path / "out", "--out", out, "--sample", 5, "--seed", 1, "--quiet")
    assert (quiet.exit_code, quiet.stdout, quiet.stderr) == (0, "", "")
    assert "This page shows 5 particles of 12, drawn at random" in out.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--mrc-folder", "mrc"], "leave out --mrc-folder"),
        (["--invert"], "leave out --invert"),
        (["--params", "params.npz", "--contrast", "invert"], "leave out --params, --contrast."),
        (["--pixel-size", "3"], "leave out --pixel-size."),
        (["--ind", "rows.txt"], "--where, --sample"),
        (["--sample", "99"], "at most 12"),
        (["--where", "defocus > 3"], "defocus_u"),
        (["--low-pass", "0"], "low_pass is 0"),
        (["--out", "nowhere/page.html"], "is not a folder"),
    ],
)
def test_options_that_do_not_fit_stacks_are_refused(
    options: list[str], told: str, convert_star: Cli, tmp_path: Path, cli: Cli
) -> None:
    assert convert_star("--no-plots", "--no-phys").exit_code == 0
    place = [] if "--out" in options else ["--out", tmp_path / "page.html"]
    result = cli("browse", tmp_path / "out", *place, *options)
    assert result.exit_code == 2 or "nowhere" in options[-1]
    assert told in result.stderr
    assert not (tmp_path / "page.html").exists()


def test_an_unfinished_conversion_is_reported(convert_star: Cli, tmp_path: Path, cli: Cli) -> None:
    assert convert_star("--no-plots").exit_code == 0
    manifest = tmp_path / "out" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"status": "complete"', '"status": "running"'))
    result = cli("browse", tmp_path / "out", "--out", tmp_path / "page.html")
    assert result.exit_code == 2
    assert "--skip-exist" in result.stderr


def test_a_folder_without_stacks_is_reported(tmp_path: Path, cli: Cli) -> None:
    result = cli("browse", tmp_path, "--out", tmp_path / "page.html")
    assert result.exit_code == 2
    assert "the output folder of a conversion" in result.stderr
