"""A small particle set and a way to call the command line within the test's process."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cryolike_dask.cli.main import main
from cryolike_dask.demo.particles import DemoData, write_demo_particles

Cli = Callable[..., Result]


@pytest.fixture
def cli() -> Iterator[Cli]:
    """Calls `cryolike-dask` with these arguments."""
    logger = logging.getLogger("cryolike_dask")
    before = list(logger.handlers), logger.level

    def call(*arguments: object) -> Result:
        return CliRunner().invoke(main, [str(argument) for argument in arguments])

    yield call
    logger.handlers[:], logger.level = before


@pytest.fixture(scope="session")
def original_particles(tmp_path_factory: pytest.TempPathFactory) -> DemoData:
    return write_demo_particles(tmp_path_factory.mktemp("particles"), n_images=12, box=16, pixel_size=3.0, n_files=2, seed=1)


@pytest.fixture
def particles(original_particles: DemoData, tmp_path: Path) -> DemoData:
    """Twelve images of 16 x 16 pixels in two files; a copy that a test may damage."""
    folder = tmp_path / "particles"
    shutil.copytree(original_particles.star_file.parent, folder)
    return DemoData(star_file=folder / "particles.star", folder_mrc=folder / "mrc", params_file=folder / "params.npz")


@pytest.fixture
def convert_star(cli: Cli, particles: DemoData, tmp_path: Path) -> Cli:
    """Calls `convert star` with the particles and further arguments. The output folder is tmp_path / 'out'."""

    def call(*arguments: object) -> Result:
        return cli(
            "convert",
            "star",
            particles.star_file,
            *("--mrc-folder", particles.folder_mrc),
            *("--params", particles.params_file),
            *("--out", tmp_path / "out"),
            *arguments,
        )

    return call
