"""The commands and scripts in the README work as printed."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import numpy as np

from cryolike_dask import load_stack
from cryolike_dask.cli.main import main

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_the_readme_works_as_printed_after_the_demo(tmp_path: Path) -> None:
    """Runs the shell blocks one after the other, and the Python blocks as scripts in the folder of the last one."""
    (folder,) = re.findall(r"^DEMO +\?= (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    program = tmp_path / ".venv" / "bin" / "cryolike-dask"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!{sys.executable}\nfrom cryolike_dask.cli.main import main\nif __name__ == '__main__':\n    main()\n")
    program.chmod(0o755)
    (program.parent / "activate").write_text(f"PATH={program.parent}:$PATH\n")

    def run(*command: str, place: Path = tmp_path) -> str:
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    run(str(program), "demo", folder, "--n-images", "30")
    of_make, five_minutes = blocks("sh")
    assert of_make.startswith("make demo")
    told, place = run("sh", "-e", "-c", five_minutes), tmp_path / folder / "particles"
    assert "30 images" in told
    assert (place / "preview.png").is_file()
    assert (place / "stacks" / "report.html").is_file()
    assert load_stack(place / "stacks", 0).fourier.shape == (30, 65, 128)
    for number, block in enumerate(blocks("python")):
        (place / f"script{number}.py").write_text(block)
        told += run(sys.executable, f"script{number}.py", place=place)
    assert "torch.Size([30, 65, 128]) torch.complex64" in told
    with np.load(place / "near-focus" / "fft" / "particles_fourier_stack_000000.npz") as metadata:
        assert metadata["defocusU"].max() < 15_000


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


def test_no_line_of_code_is_cut_where_the_page_is_narrow() -> None:
    assert max(map(len, "".join(blocks("sh") + blocks("python")).splitlines())) <= 95


def test_make_targets_of_the_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^make (\w+)", "\n".join(blocks("sh")), flags=re.MULTILINE):
        assert f"\n{target}:" in makefile
