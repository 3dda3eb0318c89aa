"""A small particle set, and a Dask cluster of two processes for the modules that need one."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.particle_sets import ParticleSet, params, write_particle_set

if TYPE_CHECKING:
    from distributed import LocalCluster

ABC = {"A.mrcs": 7, "B.mrcs": 2, "C.mrcs": 6}
"""The guide's example."""


@pytest.fixture(scope="session")
def abc(tmp_path_factory: pytest.TempPathFactory) -> ParticleSet:
    """The guide's A, B and C, of 7, 2 and 6 images, listed one after the other."""
    particles = write_particle_set(tmp_path_factory.mktemp("abc"), ABC)
    params().save(particles.folder / "params.npz")
    return particles


@pytest.fixture(scope="session")
def scattered(tmp_path_factory: pytest.TempPathFactory) -> ParticleSet:
    """31 images of four files in random order."""
    particles = write_particle_set(
        tmp_path_factory.mktemp("scattered"), {"d.mrcs": 9, "a.mrcs": 11, "c.mrcs": 1, "b.mrcs": 10}, shuffle=True
    )
    params().save(particles.folder / "params.npz")
    return particles


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    """Two worker processes of one thread each."""
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address="127.0.0.1:0", silence_logs=logging.CRITICAL
    ) as local:
        yield local


def files_of(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by its path in it."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
