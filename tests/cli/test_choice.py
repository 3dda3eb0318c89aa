"""Choosing particles on the command line works in the same way for every command, and errors are one paragraph."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import starfile

from cryolike_dask.cli.browse import browse
from cryolike_dask.cli.convert import convert
from cryolike_dask.cli.preview import preview
from cryolike_dask.demo.particles import DemoData
from tests.cli.conftest import Cli
from tests.support.leopard_em_files import rows_of_page, write_rows

CHOICE = {"--where", "--ind", "--sample", "--seed"}


@pytest.mark.parametrize("command", [*convert.commands.values(), preview, browse], ids=lambda command: command.name)
def test_every_command_takes_a_choice(command: object) -> None:
    assert {spelling for parameter in command.params for spelling in parameter.opts} >= CHOICE  # type: ignore[attr-defined]


def test_where_ind_and_sample_on_the_command_line(convert_star: Cli, particles: DemoData, tmp_path: Path) -> None:
    raw = starfile.read(particles.star_file, always_dict=True)["particles"]
    middle = float(raw["rlnDefocusU"].median())
    (tmp_path / "rows.txt").write_text("".join(f"{row}\n" for row in range(1, 12)))
    chosen = ("--where", f"rlnDefocusU <= {middle}", "--ind", tmp_path / "rows.txt")
    result = convert_star(*chosen, "--no-plots")
    assert result.exit_code == 0, result.stderr
    wanted = raw[1:][raw["rlnDefocusU"][1:] <= middle]
    assert (
        f"{len(wanted)} of 12 particles chosen: where rlnDefocusU <= {middle}, the 11 rows of {tmp_path}/rows.txt" in result.stderr
    )
    written = starfile.read(tmp_path / "out" / "particles.star", always_dict=True)["particles"]
    assert written["rlnDefocusU"].tolist() == wanted["rlnDefocusU"].tolist()
    sampled = convert_star(*chosen, "--sample", 2, "--seed", 5, "--no-plots", "--dry-run", "--json", "--overwrite")
    assert json.loads(sampled.stdout)["n_images"] == 2
    refused = convert_star(*chosen, "--sample", 2, "--skip-exist")
    assert refused.exit_code == 2
    assert "settings.sample: None there, 2 now" in refused.stderr


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--where", "defocus_u < "), "  defocus_u < \n"),
        (("--where", "defocs_u < 3"), "Did you mean defocus_u"),
        (("--where", "defocus_u < 3"), "No particle is left"),
        (("--ind", "none.txt"), "none.txt does not exist"),
        (("--sample", 13), "give at most 12"),
        (("--sample", 0), "sample is 0"),
        (("--seed", -1), "seed is -1"),
    ],
)
@pytest.mark.parametrize("command", ["convert", "preview"])
def test_a_wrong_choice_is_reported_in_one_paragraph(
    command: str, options: tuple[object, ...], told: str, convert_star: Cli, cli: Cli, particles: DemoData, tmp_path: Path
) -> None:
    common = ("--mrc-folder", particles.folder_mrc, "--params", particles.params_file, "--out", tmp_path / "p.png")
    result = convert_star(*options) if command == "convert" else cli("preview", particles.star_file, *common, *options)
    assert result.exit_code == 2
    assert told in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_preview_of_chosen_particles(particles: DemoData, tmp_path: Path, cli: Cli) -> None:
    options = ("--mrc-folder", particles.folder_mrc, "--params", particles.params_file, "--out", tmp_path / "p.png")
    result = cli("preview", particles.star_file, *options, "--where", "row in [1, 3, 5]", "--sample", 2)
    assert result.exit_code == 0, result.stderr
    assert "particles    2 of 2" in result.stdout


def test_leopard_em_tables_are_chosen_from_by_their_scores(tmp_path: Path, cli: Cli) -> None:
    table = write_rows(tmp_path / "t.csv", rows_of_page(3))
    result = cli("convert", "leopard-em", table, "--box-size", 16, "--params", "p.npz", "--out", tmp_path, "--where", "mip > 20")
    assert result.exit_code == 2
    assert "No particle is left of the 3 in" in result.stderr


def test_info_shows_which_particles_were_chosen(convert_star: Cli, cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "rows.txt").write_text("".join(f"{row}\n" for row in range(1, 12)))
    chosen = ("--where", "defocus_u > 0", "--ind", tmp_path / "rows.txt", "--sample", 5, "--seed", 3)
    assert convert_star(*chosen, "--no-plots").exit_code == 0
    shown = " ".join(cli("info", tmp_path / "out").stdout.split())
    for setting in ("where: defocus_u > 0;", f"ind: {tmp_path / 'rows.txt'} (11 rows, SHA-256 ", "sample: 5 particles;", "seed: 3"):
        assert setting in shown
    settings = json.loads(cli("info", tmp_path / "out", "--json").stdout)["settings"]
    assert (settings["where"], settings["sample"], settings["seed"]) == ("defocus_u > 0", 5, 3)
    assert settings["ind"].startswith(str(tmp_path / "rows.txt"))


def test_a_seed_without_a_sample_is_refused_where_it_would_have_no_effect(
    convert_star: Cli, cli: Cli, particles: DemoData, tmp_path: Path
) -> None:
    refused = [convert_star("--seed", 4), cli("params", tmp_path / "p.npz", "--from", particles.star_file, "--seed", 4)]
    for result in refused:
        assert result.exit_code == 2
        assert "--seed is 4, but no sample is drawn" in result.stderr
    assert not (tmp_path / "out").exists()
    # A preview and a page show particles that are drawn in any case.
    images = (particles.star_file, "--mrc-folder", particles.folder_mrc, "--seed", 4)
    assert cli("preview", *images, "--out", tmp_path / "p.png").exit_code == 0
    assert cli("browse", *images, "--out", tmp_path / "b.html").exit_code == 0
