"""The commands and code on the page about CryoLike's results work as printed."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest
import starfile

from cryolike_dask import collect_results
from tests.cli.conftest import Cli, cli  # noqa: F401
from tests.docs.test_pages import DOCS
from tests.results.conftest import Collected, found  # noqa: F401
from tests.support.pages import BLOCK, commands

PAGE = (DOCS / "results.md").read_text(encoding="utf-8")


def test_commands_and_python_of_the_results_page_run(
    found: Collected,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cli: Cli,  # noqa: F811
) -> None:
    shutil.copytree(found.stacks, tmp_path / "stacks")
    shutil.copytree(found.results, tmp_path / "likelihood")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "page"}
    languages = []
    for language, text in BLOCK.findall(PAGE):
        languages.append(language)
        if language == "python":
            exec(compile(text, "results.md", "exec"), names)
            continue
        for line in commands(text):
            program, *arguments = shlex.split(line)
            assert program == "cryolike-dask", line
            result = cli(*arguments)
            assert result.exit_code == 0, f"{line}\n{result.output}"
    assert languages == ["console", "python", "console"]
    assert len(starfile.read(tmp_path / "results.star")["particles"]) == 31


def test_every_column_is_on_the_page(found: Collected) -> None:  # noqa: F811
    df = collect_results(found.stacks, found.results, templates=found.stacks / "params.npz")
    described = set(re.findall(r"`((?:rln|cryolike)\w+)`", PAGE))
    columns = {re.sub(r"Template\d$", "TemplateN", str(name)) for name in df}
    of_the_ctf = {name for name in columns if name.startswith("rln") and name not in described}
    assert of_the_ctf <= {"rlnVoltage", "rlnSphericalAberration", "rlnAmplitudeContrast", "rlnCtfBfactor", "rlnCtfScalefactor"}
    assert columns - of_the_ctf - described == set()
    only_sometimes = {"cryolikeUid", "rlnMicrographName", "rlnCoordinateX", "rlnCoordinateY"}
    assert described - columns == only_sometimes
