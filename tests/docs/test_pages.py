"""The commands and code in the documentation work as printed."""

from __future__ import annotations

import ast
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import pytest
from distributed.cli.dask_scheduler import main as dask_scheduler
from distributed.cli.dask_worker import main as dask_worker

from cryolike_dask import ImageDescriptor
from cryolike_dask.cli.main import main
from cryolike_dask.demo.particles import write_demo_particles
from tests.cli.conftest import Cli, cli  # noqa: F401
from tests.support import cs_files
from tests.support.pages import BLOCK, commands

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
SOURCES = sorted((ROOT / "cryolike_dask").rglob("*.py"))
# Pages that need more than particles, and the examples of the gallery, have tests of their own in this folder.
OTHERS = ("leopard-em.md", "results.md")
GUIDE = sorted(page for page in DOCS.rglob("*.md") if "_build" not in page.parts)
PAGES = [*GUIDE, ROOT / "CONTRIBUTING.md"]
RUN = [page for page in PAGES if page.name not in OTHERS and page.parent.name != "gallery"]
BOX, PIXEL_SIZE = 256, 1.06  # as the pages say


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything that the pages name."""
    folder = tmp_path_factory.mktemp("inputs")
    data = write_demo_particles(folder, n_images=6, box=BOX, pixel_size=PIXEL_SIZE, n_files=2)
    assert data.params_file == folder / "params.npz"
    files = sorted(data.folder_mrc.iterdir())
    lines = data.star_file.read_text().splitlines()
    counts = []
    for letter, image in zip("AB", files, strict=True):
        shutil.copy(image, folder / f"{letter}.mrcs")
        # The rows of this file, in the order of its images, after the header of the table.
        rows = sorted(line.strip() for line in lines if f"/{image.name}" in line or f"@{image.name}" in line)
        rows.sort(key=lambda line: next(word for word in line.split() if "@" in word))
        (folder / f"{letter}.star").write_text("\n".join([line for line in lines if "@" not in line] + rows) + "\n")
        counts.append(len(rows))
    job = folder / "P3" / "J42"
    (job / "restack").mkdir(parents=True)
    for number, image in enumerate(files):
        shutil.copy(image, job / "restack" / f"batch_{number:06d}_restacked.mrc")
    n = sum(counts)
    names = [f">mrc/{image.name}" for image, count in zip(files, counts, strict=True) for _ in range(count)]
    columns = cs_files.particle_columns(names, [index for count in counts for index in range(count)])
    columns |= {"blob/psize_A": np.full(n, PIXEL_SIZE, np.float32), "blob/shape": np.full((n, 2), BOX, np.uint32)}
    cs_files.write_cs(folder / "particles.cs", columns)
    cs_files.write_cs(job / "J42_passthrough_particles.cs", cs_files.ctf_columns(n) | {"uid": cs_files.uids(n)})
    return folder


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if page.name not in OTHERS and page.parent.name != "gallery"],
    ids=lambda page: page.relative_to(ROOT).as_posix(),
)
def test_commands_and_python_of_a_page_run(
    page: Path,
    inputs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cli: Cli,  # noqa: F811
) -> None:
    blocks = BLOCK.findall(page.read_text(encoding="utf-8"))
    if not blocks:
        return
    work = tmp_path / "work"
    shutil.copytree(inputs, work)
    monkeypatch.chdir(work)
    names: dict[str, object] = {"__name__": "page"}
    for language, text in blocks:
        if language == "python":
            exec(compile(text, page.name, "exec"), names)
            continue
        for line in commands(text):
            program, *arguments = shlex.split(line)
            assert program == "cryolike-dask", line
            result = cli(*arguments)
            assert result.exit_code == 0, f"{line}\n{result.output}"


def test_the_python_of_start_here_fits_any_particles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as those of the demo, whose box and pixel size are not those of the other pages."""
    write_demo_particles(tmp_path, n_images=6, box=16, pixel_size=3.0, n_files=2)
    monkeypatch.chdir(tmp_path)
    blocks = BLOCK.findall((DOCS / "start.md").read_text(encoding="utf-8"))
    for text in (text for language, text in blocks if language == "python"):
        exec(compile(text, "start.md", "exec"), {"__name__": "page"})
    assert (tmp_path / "stacks-2" / "fft" / "particles_fourier_stack_000000.pt").exists()


def messages() -> list[str]:
    """Texts of the sources, with … where something is filled in."""
    found = []
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                found.append("".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return found


def test_messages_of_the_troubleshooting_page_exist() -> None:
    headings = re.findall(r"^### (.*)$", (DOCS / "troubleshooting.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert len(headings) > 12
    texts = messages()
    for heading in headings:
        pattern = re.compile(".*".join(re.escape(part.strip(" ")) for part in heading.split("…")), flags=re.DOTALL)
        assert any(pattern.search(text) for text in texts), heading


def test_links_and_pictures_lead_to_files() -> None:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
            assert target.startswith("https://") or (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_file_beside_the_pages_is_used() -> None:
    texts = [page.read_text(encoding="utf-8") for page in [*GUIDE, ROOT / "README.md"]]
    named = {Path(target).name for text in texts for target in re.findall(r"\]\(([^)\s]*_static/[^)\s]+)\)", text)}
    named |= set(re.findall(r'html_css_files = \["([^"]+)"\]', (DOCS / "conf.py").read_text(encoding="utf-8")))
    assert {path.name for path in (DOCS / "_static").rglob("*") if path.is_file()} == named


def test_links_have_words_and_pictures_are_described() -> None:
    """A code host would show nothing for a link without text."""
    for page in PAGES:
        assert "[](" not in page.read_text(encoding="utf-8"), page.name


def test_sizes_in_the_parameter_guide_are_right() -> None:
    rows = re.findall(r"^\| (\d+) \| ([\d.]+) MB \| ([\d.]+) GB \|", (DOCS / "parameters.md").read_text(), flags=re.MULTILINE)
    assert len(rows) == 4
    for box, image, stack in rows:
        n_bytes = ImageDescriptor.from_individual_values(int(box), 1.0).polar_grid.n_points * 8
        assert float(image) == pytest.approx(n_bytes / 1e6, rel=0.05)
        assert float(stack) == pytest.approx(n_bytes * 1024 / 1e9, rel=0.05)


def test_options_that_pages_name_exist() -> None:
    named = {option for page in PAGES for option in re.findall(r"`(--[a-z-]+)", page.read_text(encoding="utf-8"))}
    commands = [*all_commands(main), dask_scheduler, dask_worker]
    assert named - {spelling for command in commands for parameter in command.params for spelling in parameter.opts} == set()


def all_commands(group: click.Group) -> Iterator[click.Command]:
    """A group and all commands below it."""
    yield group
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        assert command is not None
        yield from all_commands(command) if isinstance(command, click.Group) else [command]
