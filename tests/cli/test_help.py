"""Help: there for every command, immediate, and kind to typing errors."""

from __future__ import annotations

import os
import subprocess
import sys

import click
import pytest

from cryolike_dask import __version__
from cryolike_dask.cli.main import main
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
