"""What the README tells a newcomer works as it stands there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import numpy as np
import pytest

from cryolike_dask import load_stack
from cryolike_dask.cli.main import main
from cryolike_dask.demo.particles import write_demo_particles
from tests.cli.conftest import Cli, cli  # noqa: F401

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_python_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    write_demo_particles("cryolike-demo/particles", n_images=30)
    names: dict[str, object] = {}
    for block in blocks("python"):
        exec(block, names)
    assert "torch.Size([30, 65, 128]) torch.complex64" in capsys.readouterr().out
    with np.load(tmp_path / "near-focus" / "fft" / "particles_fourier_stack_000000.npz") as metadata:
        assert metadata["defocusU"].max() < 15_000


def test_commands_of_the_readme_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli) -> None:  # noqa: F811
    monkeypatch.chdir(tmp_path)
    data = write_demo_particles(tmp_path, n_images=6, box=256, pixel_size=1.06)
    data.params_file.unlink()
    told = [line for block in blocks("sh") for line in block.splitlines() if line.startswith("cryolike-dask")]
    assert [shlex.split(line)[1] for line in told] == ["params", "preview", "convert", "info"]
    for line in told:
        result = cli(*shlex.split(line)[1:])
        assert result.exit_code == 0, f"{line}\n{result.output}"
    assert load_stack("stacks", 0).fourier.shape == (6, 257, 512)
    assert Path("preview.png").is_file()
    assert Path("stacks/report.html").is_file()


def test_commands_of_the_readme_have_these_options() -> None:
    told = [line for block in blocks("sh") for line in block.splitlines() if line.startswith("cryolike-dask")]
    told += [command for command in re.findall(r"`(cryolike-dask [^`]+)`", README) if "DIR" not in command]
    assert len(told) >= 9
    for line in told:
        words = shlex.split(line)[1:]
        command: click.Command = main
        while isinstance(command, click.Group):
            found = command.get_command(click.Context(command), words.pop(0))
            assert found is not None, line
            command = found
        options = {name for parameter in command.params for name in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= options, line


def test_links_of_the_readme_lead_to_files() -> None:
    for target in re.findall(r"\]\(([^)]+)\)", README):
        assert target.startswith("https://") or (ROOT / target).exists(), target


def test_make_targets_of_the_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^make (\w+)", "\n".join(blocks("sh")), flags=re.MULTILINE):
        assert f"\n{target}:" in makefile
