"""The options that a message recommends are options of the command that printed it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import click
import pytest
import starfile

from cryolike_dask.cli.browse import browse
from cryolike_dask.cli.convert import star
from cryolike_dask.cli.params import params
from cryolike_dask.cli.preview import preview
from cryolike_dask.demo.particles import DemoData
from tests.cli.conftest import Cli


def make_astigmatic(data: DemoData) -> None:
    tables = starfile.read(data.star_file, always_dict=True)
    tables["particles"]["rlnDefocusU"] += 3000
    starfile.write(tables, data.star_file, overwrite=True)


def lose_an_image_file(data: DemoData) -> None:
    (data.folder_mrc / "particles_02.mrcs").unlink()


def give_two_pixel_sizes(data: DemoData) -> None:
    tables = starfile.read(data.star_file, always_dict=True)
    optics = (
        tables["optics"].loc[[0, 0]].assign(rlnOpticsGroup=[1, 2], rlnOpticsGroupName=["g1", "g2"], rlnImagePixelSize=[3.0, 4.0])
    )
    tables["particles"].loc[3:, "rlnOpticsGroup"] = 2
    starfile.write({"optics": optics, "particles": tables["particles"]}, data.star_file, overwrite=True)


@pytest.mark.parametrize(
    ("command", "change", "recommended"),
    [
        (star, make_astigmatic, "--axes"),
        (preview, make_astigmatic, "--axes"),
        *((command, lose_an_image_file, "--on-missing") for command in (star, preview, browse)),
        *((command, give_two_pixel_sizes, "--where") for command in (star, preview, browse, params)),
    ],
    ids=lambda value: getattr(value, "name", None) or getattr(value, "__name__", value),
)
def test_a_message_recommends_options_that_the_command_has(
    command: click.Command, change: Callable[[DemoData], None], recommended: str, cli: Cli, particles: DemoData, tmp_path: Path
) -> None:
    change(particles)
    arguments: dict[str, tuple[object, ...]] = {
        "star": ("convert", "star", particles.star_file, "--out", tmp_path / "out", "--no-plots"),
        "preview": ("preview", particles.star_file, "--out", tmp_path / "p.png"),
        "browse": ("browse", particles.star_file, "--out", tmp_path / "b.html"),
        "params": ("params", tmp_path / "p.npz", "--from", particles.star_file),
    }
    said = cli(*arguments[str(command.name)], "--mrc-folder", particles.folder_mrc).output
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", said))
    assert recommended in named
    assert named <= {spelling for option in command.params for spelling in option.opts}


def test_a_preview_takes_the_axes_that_its_warning_recommends(cli: Cli, particles: DemoData, tmp_path: Path) -> None:
    make_astigmatic(particles)
    arguments = ("preview", particles.star_file, "--mrc-folder", particles.folder_mrc, "--out", tmp_path / "p.png")
    assert "--axes relion" in cli(*arguments).stdout
    result = cli(*arguments, "--axes", "relion")
    assert (result.exit_code, "--axes relion" in result.output) == (0, False)


def test_a_preview_skips_particles_without_images_as_its_message_recommends(cli: Cli, particles: DemoData, tmp_path: Path) -> None:
    lose_an_image_file(particles)
    arguments = ("preview", particles.star_file, "--mrc-folder", particles.folder_mrc, "--out", tmp_path / "p.png")
    assert cli(*arguments).exit_code == 2
    assert cli(*arguments, "--on-missing", "skip").exit_code == 0


def test_a_quiet_preview_writes_the_picture_and_says_nothing(cli: Cli, particles: DemoData, tmp_path: Path) -> None:
    arguments = ("preview", particles.star_file, "--mrc-folder", particles.folder_mrc, "--out", tmp_path / "p.png")
    result = cli(*arguments, "--quiet")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
