"""No command drops what it is given: an option that is repeated, or a value that is empty."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from cryolike_dask.cli.main import main
from tests.cli.conftest import Cli
from tests.cli.test_help import commands


def command_at(path: tuple[str, ...]) -> click.Command:
    command: click.Command = main
    for name in path:
        assert isinstance(command, click.Group)
        command = command.get_command(click.Context(command), name)  # type: ignore[assignment]
    return command


def value_for(parameter: click.Parameter, file: Path) -> list[str]:
    if isinstance(parameter, click.Option) and parameter.is_flag:
        return []
    if isinstance(parameter.type, click.Choice):
        return [str(parameter.type.choices[0])]
    return ["16" if isinstance(parameter.type, click.types.IntParamType | click.types.FloatParamType) else str(file)]


LEAVES = [path for path in commands(main) if not isinstance(command_at(path), click.Group)]


@pytest.mark.parametrize("path", LEAVES, ids=" ".join)
def test_every_option_that_takes_one_value_may_be_given_once(path: tuple[str, ...], tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    command = command_at(path)
    words = {
        one.name: [one.opts[-1], *value_for(one, file)] if isinstance(one, click.Option) else value_for(one, file)
        for one in command.params
    }
    options = [one for one in command.params if isinstance(one, click.Option) and not one.multiple]
    assert options
    for option in options:
        others = [word for one in command.params if one.required and one is not option for word in words[one.name]]
        with pytest.raises(click.UsageError, match=f"{option.opts[-1]} is given 2 times"):
            command.make_context(path[-1], [*others, *words[option.name], *words[option.name]])


def test_two_conditions_are_refused_and_the_help_says_how_to_join_them(convert_star: Cli, tmp_path: Path) -> None:
    result = convert_star("--where", "defocus_u < 15000", "--where", "defocus_u > 10000")
    assert result.exit_code == 2
    assert "--where is given 2 times. Give it once" in result.stderr
    assert "defocus_u < 15000 and " in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_switch_and_its_opposite_are_refused(convert_star: Cli) -> None:
    result = convert_star("--combine-input-files", "--never-combine-input-files")
    assert (result.exit_code, "never-combine-input-files is given 2 times" in result.stderr) == (2, True)


@pytest.mark.parametrize("option", ["--where", "--mrc-folder", "--zarr-store", "--scheduler", "--ind"])
def test_an_empty_value_is_refused(option: str, cli: Cli, tmp_path: Path) -> None:
    result = cli("convert", "star", "particles.star", "--out", tmp_path / "out", option, "")
    assert result.exit_code == 2
    assert f"{option} is empty" in result.stderr
    assert not (tmp_path / "out").exists()


def test_an_output_folder_or_a_table_without_a_name_is_refused(cli: Cli) -> None:
    assert "--out is empty" in cli("convert", "star", "particles.star", "--out", "").stderr
    assert "CONFIG.yaml ... is empty" in cli("pick", "a.yaml", "", "--out", "picks.csv").stderr


def test_options_that_take_several_values_may_be_repeated(cli: Cli, tmp_path: Path) -> None:
    pairs = ("--star", "A.star", "--mrc", "A.mrcs", "--star", "B.star", "--mrc", "B.mrcs")
    result = cli("convert", "paired", *pairs, "--out", tmp_path / "out")
    assert "A.star does not exist" in result.stderr
