"""A Zarr store to which runs with two output folders try to write."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cryolike_dask.demo.particles import DemoData
from cryolike_dask.errors import OutputError, RunStoppedError
from cryolike_dask.execution.tasks import convert_stack_task, publish_stacks_task
from cryolike_dask.runs.folder import RunFolder, acquire_folder
from cryolike_dask.runs.lock import end_run
from cryolike_dask.runs.steps import begin_run, finish_run
from cryolike_dask.runs.verify import verify_output
from cryolike_dask.stacks.object_store import open_object_store
from cryolike_dask.stacks.particle_store import open_store
from tests.support.clusters import conversion, make_particles
from tests.support.s3 import LOOSE_CONNECTIONS

pytestmark = [pytest.mark.chaos, *LOOSE_CONNECTIONS, pytest.mark.usefixtures("no_connection_is_left")]

N, BATCH = 12, 4


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DemoData:
    return make_particles(tmp_path_factory.mktemp("particles"), n_images=N)


@pytest.fixture(params=["folder", "bucket"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], str]:
    """Where stores go."""
    if request.param == "folder":
        return lambda name: str(tmp_path / f"{name}.zarr")
    bucket = request.getfixturevalue("bucket")
    return lambda name: f"{bucket}/{name}.zarr"


def options(store: str) -> dict[str, Any]:
    return {"output_format": "zarr", "zarr_store": store}


def begin(data: DemoData, out: Path, store: str) -> tuple[RunFolder, Any]:
    """A run that has made its first stack."""
    plan = conversion(data, out, BATCH, **options(store)).plan
    run = acquire_folder(out)
    begin_run(run, plan)
    make(run, 0)
    return run, plan


def make(run: RunFolder, counter: int) -> Any:
    receipt = convert_stack_task(str(run.folder), run.run_id, counter)
    publish_stacks_task(str(run.folder), run.run_id, (counter,), (receipt.attempt,))
    return receipt


def lock(store: str) -> dict[str, Any]:
    parent, _, name = store.rpartition("/")
    content: dict[str, Any] = json.loads(open_object_store(parent).read(f"{name}.lock"))
    return content


def set_lock(store: str, **changes: Any) -> None:
    parent, _, name = store.rpartition("/")
    open_object_store(parent).write(f"{name}.lock", json.dumps(lock(store) | changes).encode())


@pytest.mark.parametrize("how", ["overwrite", "skip_exist"])
def test_a_store_that_is_written_is_not_taken_by_a_run_of_another_folder(
    data: DemoData, place: Callable[[str], str], tmp_path: Path, how: str
) -> None:
    store = place(f"taken-{how}")
    run, plan = begin(data, tmp_path / "a", store)
    with pytest.raises(OutputError, match=rf"is being written by another conversion, in {tmp_path / 'a'}: process "):
        conversion(data, tmp_path / "b", BATCH, **{how: True}, **options(store)).run()
    assert not list((tmp_path / "b").glob("fft/*"))
    for counter in range(1, plan.n_stacks):
        make(run, counter)
    assert len(open_store(store)) == N
    run.release()
    # An interrupted run may be continued, or its store replaced.
    conversion(data, tmp_path / "a", BATCH, skip_exist=True, **options(store)).run()
    assert verify_output(tmp_path / "a", zarr_store=store) == []
    with pytest.raises(OutputError, match="holds a conversion already"):
        conversion(data, tmp_path / "c", BATCH, **options(store)).run()
    conversion(data, tmp_path / "b", BATCH, overwrite=True, **options(store)).run()
    assert verify_output(tmp_path / "b", zarr_store=store) == []


def test_a_run_that_has_lost_its_store_changes_nothing_in_it(data: DemoData, place: Callable[[str], str], tmp_path: Path) -> None:
    store = place("lost")
    run, plan = begin(data, tmp_path / "a", store)
    set_lock(store, machine="another", touched=lock(store)["touched"] - 1000)  # as if it had slept elsewhere
    conversion(data, tmp_path / "b", BATCH, overwrite=True, **options(store)).run()
    before = np.asarray(open_store(store).fourier.compute())
    with pytest.raises(RunStoppedError, match="was taken over by another conversion"):
        make(run, 1)
    with pytest.raises(OutputError, match="was taken over by another conversion"):
        finish_run(run, plan, [])
    run.release()
    assert not (tmp_path / "a" / ".conversion").exists()
    assert verify_output(tmp_path / "b", zarr_store=store) == []
    np.testing.assert_array_equal(open_store(store).fourier.compute(), before)


@pytest.mark.parametrize(
    ("changes", "taken"),
    [
        ({"pid": 2**22 + 1}, True),  # no such process
        ({"machine": "another"}, False),
        ({"machine": "another", "touched": 1.0}, True),
        ({"machine": None}, False),  # a Dask graph
        ({"pid": None}, False),
        ({"touched": None, "machine": "another"}, True),
    ],
)
def test_a_store_is_taken_from_an_owner_that_is_gone(data: DemoData, tmp_path: Path, changes: dict[str, Any], taken: bool) -> None:
    store = str(tmp_path / "particles.zarr")
    run, _ = begin(data, tmp_path / "a", store)
    set_lock(store, **changes)
    other = conversion(data, tmp_path / "b", BATCH, overwrite=True, **options(store))
    if taken:
        other.run()
    else:
        with pytest.raises(OutputError, match="is being written by another conversion"):
            other.run()
    end_run(run.run_id)


def test_the_next_run_of_the_same_folder_takes_over_immediately(
    data: DemoData, place: Callable[[str], str], tmp_path: Path
) -> None:
    store = place("same")
    run, _ = begin(data, tmp_path / "a", store)
    end_run(run.run_id)
    assert conversion(data, tmp_path / "a", BATCH, skip_exist=True, **options(store)).run().n_kept == 1
    parent, _, name = store.rpartition("/")
    with pytest.raises(FileNotFoundError):
        open_object_store(parent).read(f"{name}.lock")
