"""Checks before a conversion starts: memory of the workers, space on the disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from cryolike_dask.demo.particles import DemoData
from cryolike_dask.errors import InputError
from cryolike_dask.planning.preflight import bytes_written, check_memory, memory_per_thread
from tests.support.clusters import conversion, make_particles


@pytest.fixture
def data(tmp_path: Path) -> DemoData:
    return make_particles(tmp_path / "particles", n_images=12)


def test_workers_with_too_little_memory_are_reported(data: DemoData, tmp_path: Path) -> None:
    plan = conversion(data, tmp_path / "out").plan
    needed = memory_per_thread(plan)
    check_memory(needed, plan)
    check_memory(None, plan)
    with pytest.raises(InputError, match=r"needs .* of memory, but a worker has only"):
        check_memory(needed - 1, plan)


def test_the_estimate_of_the_output_is_close(data: DemoData, tmp_path: Path) -> None:
    report = conversion(data, tmp_path / "out", batch_size=12).run()
    estimate = bytes_written(conversion(data, tmp_path / "estimate", batch_size=12).plan)
    assert report.n_bytes < estimate < report.n_bytes + 100_000
