"""Help exists for every command and is fast, and misspelt names get suggestions."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from cryolike_dask import __version__
from cryolike_dask.cli.browse import browse
from cryolike_dask.cli.convert import convert
from cryolike_dask.cli.help import GROUPS
from cryolike_dask.cli.main import main
from cryolike_dask.cli.params import params
from cryolike_dask.cli.pick import pick, plot_picks
from cryolike_dask.cli.preview import preview
from cryolike_dask.cli.restack import restack
from tests.cli.conftest import Cli


def commands(group: click.Group, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    context = click.Context(group)
    found: list[tuple[str, ...]] = [path]
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        found += commands(command, (*path, name)) if isinstance(command, click.Group) else [(*path, name)]
    return found


@pytest.mark.parametrize("path", commands(main), ids=" ".join)
def test_every_command_explains_itself(path: tuple[str, ...], cli: Cli) -> None:
    result = cli(*path, "--help")
    assert result.exit_code == 0
    assert "Usage:" in result.stdout
    assert len(result.stdout.splitlines()) > 5


@pytest.mark.parametrize("path", commands(main), ids=" ".join)
@pytest.mark.parametrize("columns", [80, 200])
def test_help_fits_into_80_columns(path: tuple[str, ...], columns: int) -> None:
    result = CliRunner(env={"COLUMNS": str(columns)}).invoke(main, [*path, "--help"])
    assert [line for line in result.stdout.splitlines() if len(line) > 80] == []


def test_the_summaries_of_commands_are_complete() -> None:
    shown = CliRunner().invoke(main, ["convert", "--help"]).stdout.partition("Commands:\n")[2]
    assert len(shown.splitlines()) == 5
    assert [line for line in shown.splitlines() if not line.endswith(".") or line.endswith("...")] == []


def test_no_example_needs_a_parameter_file() -> None:
    """Box and pixel size come from the table."""
    for path in commands(main):
        shown = CliRunner().invoke(main, [*path, "--help"]).stdout.replace("\\\n", "")
        examples = [line for line in shown.splitlines() if line.strip().startswith("cryolike-dask ")]
        if path != ("params",):
            assert [line for line in examples if "params" in line] == [], path


def test_options_stand_in_groups_and_each_in_one() -> None:
    names = [name for group in GROUPS.values() for name in group]
    assert len(names) == len(set(names))
    for command in (*convert.commands.values(), preview, browse, restack, params, pick, plot_picks):
        shown = CliRunner().invoke(command, ["--help"]).stdout
        headings = [line.rstrip(":") for line in shown.splitlines() if re.fullmatch(r"\w[\w ]*:", line)]
        assert headings == [group for group in GROUPS if group in headings], command.name
        assert "Output" in headings
        for option in command.params:
            if isinstance(option, click.Option):
                assert len(re.findall(rf"^  (?:-\w, )?{option.opts[-1]}(?![\w-])", shown, flags=re.MULTILINE)) == 1, option.name


def test_required_options_come_first_in_their_group() -> None:
    shown = CliRunner().invoke(convert.commands["star"], ["--help"]).stdout.partition("Input:")[2]
    places = [shown.find(text) for text in ("--params", "--mrc-folder", "Particles:", "Output:", "--out DIR", "--batch-size")]
    assert places == sorted(places)
    assert places[0] > 0


@pytest.mark.parametrize("path", [path for path in commands(main) if path and path != ("convert",)], ids=" ".join)
def test_everything_that_is_a_file_is_completed_as_one(path: tuple[str, ...]) -> None:
    command: click.Command = main
    for name in path:
        assert isinstance(command, click.Group)
        found = command.get_command(click.Context(command), name)
        assert found is not None
        command = found
    context = click.Context(command)
    for param in command.params:
        shown = param.make_metavar(context) if isinstance(param, click.Argument) else param.metavar or ""
        if re.search(r"FILE|DIR|\.npz|\.csv|\.yaml|\.star|STACKS|RESULTS|PLACE|^IN$|^OUT$|FOLDER$|^TABLE", shown):
            (item,) = param.shell_complete(context, "x") or [None]
            assert item is not None, param.name
            assert item.type in ("file", "dir"), param.name


def test_the_package_can_be_run_as_a_program() -> None:
    command = [sys.executable, "-m", "cryolike_dask", "--help"]
    result = subprocess.run(command, check=False, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("Usage: cryolike-dask ")


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys\nfrom cryolike_dask.cli.main import main\n"
        "main(['--help'], standalone_mode=False)\n"
        "heavy = {'torch', 'numpy', 'pandas', 'matplotlib', 'dask', 'distributed', 'scipy', 'numba', 'rich'} & set(sys.modules)\n"
        "sys.exit(', '.join(sorted(heavy)) or 0)"
    )
    result = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "Convert cryo-EM particles" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        (["convrt"], "convert"),
        (["convert", "cryosparc-jobs"], "cryosparc-job"),
        (["convert", "star", "x.star", "--overwritte"], "--overwrite"),
        (["params", "p.npz", "--pixelsize", "1"], "--pixel-size"),
    ],
)
def test_a_misspelt_word_gets_a_suggestion(arguments: list[str], advice: str, cli: Cli) -> None:
    result = cli(*arguments)
    assert result.exit_code == 2
    assert "Did you mean" in result.stderr
    assert advice in result.stderr


def test_an_unknown_command_lists_the_known_ones(cli: Cli) -> None:
    result = cli("frobnicate")
    assert result.exit_code == 2
    assert "convert, info" in result.stderr


def test_version_is_the_packages(cli: Cli) -> None:
    assert cli("--version").stdout == f"cryolike-dask, version {__version__}\n"


def test_dask_offers_the_same_commands() -> None:
    result = subprocess.run([sys.executable, "-m", "dask", "cryolike", "--help"], check=False, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "cryosparc" not in result.stdout.splitlines()[0]
    assert "Convert particles to Fourier-polar stacks." in result.stdout


@pytest.mark.parametrize(
    ("words", "offered"), [("cryolike-dask con", "convert"), ("cryolike-dask convert star --dry", "--dry-run")]
)
def test_the_shell_completes_commands_and_options(words: str, offered: str) -> None:
    environment = {**os.environ, "_CRYOLIKE_DASK_COMPLETE": "bash_complete", "COMP_WORDS": words}
    environment["COMP_CWORD"] = str(len(words.split()) - 1)
    command = [sys.executable, "-c", "from cryolike_dask.cli.main import main; main(prog_name='cryolike-dask')"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert result.stdout.split() == [f"plain,{offered}"]
