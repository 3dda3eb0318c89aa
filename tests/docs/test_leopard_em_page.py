"""The commands and code on the Leopard-EM page work as printed."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import mrcfile
import pandas as pd
import pytest

from cryolike_dask import load_stack
from cryolike_dask.leopard_em import write_demo_micrographs
from tests.cli.conftest import Cli, cli  # noqa: F401
from tests.docs.test_pages import DOCS, PIXEL_SIZE
from tests.support.pages import BLOCK, commands

SHAPE, TEMPLATE_SIZE = (384, 512), 48
OF_THE_PAGE = "template_size=512, micrograph_shape=(4096, 4096)"
OF_THE_TEST = f"template_size={TEMPLATE_SIZE}, micrograph_shape={SHAPE}"


def test_commands_and_python_of_the_leopard_em_page_run(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    cli: Cli,  # noqa: F811
) -> None:
    searched = write_demo_micrographs(tmp_path / "searched", n_micrographs=1, shape=SHAPE, pixel_size=PIXEL_SIZE, seed=4)
    (tmp_path / "results").mkdir()
    for path in (tmp_path / "searched").glob("match_0_*.mrc"):
        shutil.copy(path, tmp_path / "results" / path.name.replace("match_0_", "mic_001_"))
    shutil.copy(searched.configs[0], tmp_path / "match.yaml")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "page"}
    page = (DOCS / "leopard-em.md").read_text(encoding="utf-8")
    assert page.count(OF_THE_PAGE) == 1
    blocks = BLOCK.findall(page.replace(OF_THE_PAGE, OF_THE_TEST))
    assert [language for language, _ in blocks].count("python") == 3
    run = []
    for language, text in blocks:
        if language == "python":
            exec(compile(text, "leopard-em.md", "exec"), names)
            continue
        for line in commands(text):
            program, *words = shlex.split(line)
            assert program == "cryolike-dask", line
            # A shell fills in the names of files.
            arguments = [name for word in words for name in (sorted(map(str, Path().glob(word))) if "*" in word else [word])]
            result = cli(*arguments)
            assert result.exit_code == 0, f"{line}\n{result.output}"
            run.append(words[0])
    assert run == ["pick", "plot-picks", "convert", "pick", "plot-picks"]
    assert page.count("cryolike-dask pick ") + page.count("cryolike-dask plot-picks ") == 4

    assert len(load_stack("stacks", 0).fourier) == len(searched.truth) == 12
    assert 0 < len(load_stack("stacks-above-9", 0).fourier) <= 12
    with mrcfile.open("valid/mic_001_mip.mrc") as maps:
        assert maps.data.shape == tuple(n - TEMPLATE_SIZE + 1 for n in SHAPE)
        assert maps.voxel_size.x == pytest.approx(PIXEL_SIZE)
    # "Try it without data": the table holds exactly the true positions.
    position = ["pos_x", "pos_y", "micrograph_path"]
    picked, truth = (
        set(table[position].itertuples(index=False, name=None)) for table in (pd.read_csv("demo-picks.csv"), names["demo"].truth)
    )
    assert picked == truth
    assert str(names["demo"].total_projections) == re.findall(r"--total-projections (\d+) --false-positives 0\.001`", page)[0]
    assert f"{names['demo'].total_projections} " in capsys.readouterr().out
