"""The examples in the docstrings of all public names run, and give the printed results."""

from __future__ import annotations

import doctest
import inspect
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cryolike_dask
from cryolike_dask import Conversion, ImageDescriptor, particles_from_star
from cryolike_dask.demo.particles import write_demo_particles
from tests.support import cs_files
from tests.support.cryolike_results import write_results
from tests.support.independent_reader import read_stacks
from tests.support.leopard_em_files import rows_of_page, write_mrc, write_rows

BOX, PIXEL_SIZE, N = 16, 3.0, 12


def public() -> dict[str, Any]:
    """Functions and classes that a user calls, without errors and older names of functions that have an example."""
    found = {name: getattr(cryolike_dask, name) for name in cryolike_dask.__all__ if name != "__version__"}
    return {
        name: value
        for name, value in found.items()
        if not (inspect.isclass(value) and issubclass(value, Exception))
        and not (inspect.getdoc(value) or "").startswith("An older name.")
    }


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything that the examples name."""
    folder = tmp_path_factory.mktemp("inputs")
    data = write_demo_particles(folder, n_images=N, box=BOX, pixel_size=PIXEL_SIZE, n_files=2, progress=False)
    files = sorted(data.folder_mrc.iterdir())
    lines = data.star_file.read_text().splitlines()
    counts = []
    for letter, image in zip("AB", files, strict=True):
        shutil.copy(image, folder / f"{letter}.mrcs")
        rows = sorted((line.strip() for line in lines if f"/{image.name}" in line), key=lambda line: line.split("@")[0])
        (folder / f"{letter}.star").write_text("\n".join([line for line in lines if "@" not in line] + rows) + "\n")
        counts.append(len(rows))
    job = folder / "P3" / "J42"
    (job / "restack").mkdir(parents=True)
    for number, image in enumerate(files):
        shutil.copy(image, job / "restack" / f"batch_{number:06d}_restacked.mrc")
    names = [f">mrc/{image.name}" for image, count in zip(files, counts, strict=True) for _ in range(count)]
    columns = cs_files.particle_columns(names, [index for count in counts for index in range(count)], box=BOX)
    columns |= {"blob/psize_A": np.full(N, PIXEL_SIZE, np.float32)}
    cs_files.write_cs(folder / "particles.cs", columns)
    cs_files.write_cs(job / "J42_passthrough_particles.cs", cs_files.ctf_columns(N) | {"uid": cs_files.uids(N)})
    write_mrc(folder / "mic.mrc", np.random.default_rng(0).normal(size=(80, 80)), 1.1)
    write_rows(folder / "results.csv", rows_of_page())
    out = folder / "converted"
    Conversion(particles_from_star(data.star_file, data.folder_mrc), data.params_file, folder_output=out, batch_size=5).run()
    write_results(folder / "likelihood", read_stacks(out))
    assert ImageDescriptor.load(folder / "params.npz").n_pixels == (BOX, BOX)
    return folder


@pytest.mark.parametrize("name", public())
def test_the_example_of_a_public_name_gives_its_printed_result(
    name: str, inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = inspect.getdoc(public()[name]) or ""
    names = {"__name__": "__main__", name: getattr(cryolike_dask, name), "ImageDescriptor": ImageDescriptor}
    example = doctest.DocTestParser().get_doctest(text, names, name, None, None)
    assert example.examples, f"{name} has no example"
    assert not any(doctest.SKIP in part.options for part in example.examples)
    shutil.copytree(inputs, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    report: list[str] = []
    doctest.DocTestRunner(verbose=False).run(example, out=report.append)
    assert not report, "".join(report)
