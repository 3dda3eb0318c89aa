"""Names and contents of files reach the terminal as text: nothing in them acts on the terminal."""

from __future__ import annotations

import ast
import json
import logging
import traceback
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

import cryolike_dask.cli
from cryolike_dask.cli.main import main
from cryolike_dask.errors import CryolikeError, InputError, MissingFileError, OutputError
from cryolike_dask.leopard_em.maps import MAP_NAMES
from cryolike_dask.metadata.image_descriptor import ImageDescriptor
from tests.support.clusters import conversion, make_particles
from tests.support.leopard_em_files import write_config

pytestmark = pytest.mark.security

EVIL = "\x1b]0;owned\x07\x1b[2Jevil\u009b31m\u202efdp\r"
"""Sets the title, clears the screen, switches to red (twice), reverses the direction of writing, and returns to the start of the line."""


def acting(output: str) -> list[str]:
    """The characters of an output that act on a terminal, apart from those of the label."""
    ours = output.replace("\x1b[31m\x1b[1mError:\x1b[0m", "")
    return [repr(c) for c in ours if (unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")) and c not in "\n\t"]


def evil_output(folder: Path) -> Path:
    """An output folder of such a name, whose manifest holds such text wherever it holds text."""
    out = folder / EVIL
    conversion(make_particles(folder / "particles", n_images=4), out).run()
    manifest = json.loads((out / "manifest.json").read_text())
    manifest |= {"warnings": [EVIL], "skipped": [EVIL], "version": EVIL, "written": EVIL, "status": "incomplete"}
    manifest["identity"]["sources"][0]["table"] = EVIL
    manifest["identity"]["settings"]["downsample_type"] = EVIL
    (out / "manifest.json").write_text(json.dumps(manifest))
    return out


def evil_table(folder: Path, suffix: str, content: str = "") -> list[str]:
    params = folder / "params.npz"
    ImageDescriptor.from_individual_values(16, 3.0).save(params)
    table = folder / f"{EVIL}{suffix}"
    if content:
        table.write_text(content)
    return [str(table), "--params", str(params), "--out", str(folder / "out")]


COMMANDS: dict[str, Callable[[Path], list[str]]] = {
    "a name that is no folder": lambda folder: ["info", str(folder / EVIL)],
    "an output folder": lambda folder: ["info", str(evil_output(folder))],
    "problems": lambda folder: ["verify", str(evil_output(folder))],
    "a missing table": lambda folder: ["convert", "star", *evil_table(folder, ".star")],
    "a table that is none": lambda folder: ["convert", "star", *evil_table(folder, ".star", "nothing")],
    "a cryoSPARC table that is none": lambda folder: ["convert", "cryosparc", *evil_table(folder, ".cs", "nothing")],
    "a CSV table that is none": lambda folder: [
        *("convert", "leopard-em", "--box-size", "8"),
        *evil_table(folder, ".csv", f"{EVIL.strip()},b\n1,2\n"),
    ],
    "a configuration": lambda folder: [
        *(
            "pick",
            str(write_config(folder / "a.yaml", EVIL, dict.fromkeys(MAP_NAMES, EVIL))),
            "--z-score-cutoff",
            "7",
            "--out",
            str(folder / "x.csv"),
        ),
    ],
    "a parameter file": lambda folder: ["params", str(folder / f"{EVIL}.npz"), "--n-pixels", "16", "--pixel-size", "3"],
    "an unknown command": lambda folder: [EVIL],
    "an unknown option": lambda folder: ["info", f"--{EVIL}"],
    "an unknown option of the program": lambda folder: [f"--{EVIL}"],
    "a wrong value": lambda folder: ["params", "x.npz", "--n-pixels", EVIL, "--pixel-size", "3"],
    "too many arguments": lambda folder: ["info", "a", EVIL],
}


@pytest.mark.parametrize("case", COMMANDS)
def test_nothing_that_a_command_prints_acts_on_the_terminal(tmp_path: Path, case: str) -> None:
    result = CliRunner().invoke(main, COMMANDS[case](tmp_path), color=True)
    shown = result.stdout + result.stderr
    assert "evil" in shown, "the text does not get there: this case proves nothing"
    assert acting(shown) == []
    assert "An unexpected error" not in shown


def test_a_name_that_is_no_text_can_be_printed(tmp_path: Path) -> None:
    name = (tmp_path / "a").as_posix() + "\udcff"
    result = CliRunner().invoke(main, ["info", name])
    assert result.exit_code == 2
    assert r"a\xff does not exist" in result.stderr


def test_log_lines_do_not_act_on_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    CliRunner().invoke(main, ["info", "absent"])  # after this, the log lines of the package are shown
    logging.getLogger("cryolike_dask.anything").warning("%s cannot be read", EVIL)
    shown = capsys.readouterr().err
    assert "evil" in shown
    assert acting(shown) == []


@pytest.mark.parametrize("kind", [CryolikeError, InputError, OutputError, MissingFileError])
def test_a_traceback_does_not_act_on_the_terminal(kind: type[CryolikeError]) -> None:
    error = kind(f"{EVIL} does not exist.\nCheck the path.")
    assert acting("".join(traceback.format_exception(error))) == []
    assert str(error) == (
        r"\x1b]0;owned\x07\x1b[2Jevil\x9b31m\u202efdp\r does not exist." + "\nCheck the path."  # lines stay lines
    )


def test_reports_do_not_act_on_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / EVIL
    planned = conversion(make_particles(tmp_path / "particles", n_images=4), out)
    summary = planned.calibrate()
    report = planned.run()
    ImageDescriptor.from_individual_values(16, 3.0, atom_selection=EVIL).print()
    shown = [str(report), repr(planned), str(summary), capsys.readouterr().out]
    assert all("evil" in text for text in shown)
    assert [acting(text) for text in shown] == [[]] * len(shown)


def test_commands_print_in_one_way_only() -> None:
    folder = Path(cryolike_dask.cli.__file__).parent
    for module in sorted(folder.glob("*.py")):
        calls = [node.func for node in ast.walk(ast.parse(module.read_text())) if isinstance(node, ast.Call)]
        names = [call.attr if isinstance(call, ast.Attribute) else getattr(call, "id", "") for call in calls]
        assert not {"secho", "print"} & set(names), module
        assert [ast.unparse(call) for call in calls].count("click.echo") == (module.name == "main.py"), module
