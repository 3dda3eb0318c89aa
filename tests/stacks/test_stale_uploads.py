"""Uploads that end long after their run has died, and connections that are reset."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import s3fs

from cryolike_dask.demo.particles import DemoData
from cryolike_dask.execution.tasks import convert_stack_task
from cryolike_dask.runs.folder import acquire_folder
from cryolike_dask.runs.lock import end_run
from cryolike_dask.runs.steps import begin_run
from cryolike_dask.runs.verify import verify_output
from cryolike_dask.stacks.loading import load_stack
from tests.support.clusters import conversion, make_particles
from tests.support.proxy import Proxy
from tests.support.s3 import LOOSE_CONNECTIONS

pytestmark = [pytest.mark.chaos, *LOOSE_CONNECTIONS, pytest.mark.usefixtures("no_connection_is_left")]

N, BATCH = 12, 4


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DemoData:
    return make_particles(tmp_path_factory.mktemp("particles"), n_images=N)


@pytest.fixture(scope="module")
def proxy(bucket: str) -> Iterator[Proxy]:
    """A proxy between the client and the server."""
    started = Proxy(int(os.environ["AWS_ENDPOINT_URL"].rpartition(":")[2]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{started.port}")
        s3fs.S3FileSystem.clear_instance_cache()
        yield started
        s3fs.S3FileSystem.clear_instance_cache()
    started.close()


class Task(threading.Thread):
    """The task that makes the first stack of a run whose client dies meanwhile."""

    def __init__(self, out: Path, data: DemoData, **options: Any) -> None:
        super().__init__(daemon=True)
        planned = conversion(data, out, BATCH, contrast="invert", **options)  # inverted, so that the two runs differ
        run = acquire_folder(out)
        begin_run(run, planned.plan)
        self.task, self.error = (str(out), run.run_id, 0), None
        self.start()

    def run(self) -> None:
        try:
            convert_stack_task(*self.task)
        except Exception as error:  # noqa: BLE001 - whatever becomes of it
            self.error = error

    def client_dies(self) -> None:
        end_run(self.task[1])


def images(out: Path, store: str) -> Any:
    return np.concatenate([load_stack(out, counter, zarr_store=store).fourier.numpy() for counter in range(N // BATCH)])


def test_an_upload_that_ends_late_replaces_no_shard_of_another_run(
    data: DemoData, bucket: str, proxy: Proxy, tmp_path: Path
) -> None:
    store, out = f"{bucket}/late.zarr", tmp_path / "out"
    options: dict[str, Any] = {"output_format": "zarr", "zarr_store": store}
    with proxy.holding(rb"^PUT \S*late\.zarr/fourier/(c|staged)/0") as upload:
        late = Task(out, data, **options)
        assert upload.arrived.wait(60)
        late.client_dies()
        conversion(data, out, BATCH, overwrite=True, **options).run()
        assert verify_output(out, zarr_store=store) == []
        before = images(out, store)
    late.join(60)
    assert not late.is_alive()
    assert verify_output(out, zarr_store=store) == []
    np.testing.assert_array_equal(images(out, store), before)
    # The late shard lies where no reader looks, until the next run.
    conversion(data, out, BATCH, skip_exist=True, **options).run()
    s3 = s3fs.S3FileSystem()
    s3.invalidate_cache()
    assert not [name for name in s3.find(store) if "/staged/" in name]


def test_a_run_survives_connections_that_are_reset(data: DemoData, bucket: str, proxy: Proxy, tmp_path: Path) -> None:
    store = f"{bucket}/reset.zarr"
    with proxy.resetting(rb"^(PUT|GET|HEAD|DELETE) \S*reset\.zarr", times=12):
        conversion(data, tmp_path / "out", BATCH, output_format="zarr", zarr_store=store).run()
    assert proxy.n_resets == 12
    assert verify_output(tmp_path / "out", zarr_store=store) == []
    conversion(data, tmp_path / "pt", BATCH).run()
    np.testing.assert_array_equal(images(tmp_path / "out", store), images(tmp_path / "pt", ""))


@pytest.mark.parametrize("place", ["folder", "bucket"])
def test_complete_stacks_that_wait_are_used_by_the_next_run(data: DemoData, bucket: str, tmp_path: Path, place: str) -> None:
    store, out = f"{bucket}/waiting.zarr" if place == "bucket" else str(tmp_path / "waiting.zarr"), tmp_path / "out"
    options: dict[str, Any] = {"output_format": "zarr", "zarr_store": store}
    run = acquire_folder(out)
    begin_run(run, conversion(data, out, BATCH, **options).plan)
    for counter in (1, 2):
        convert_stack_task(str(out), run.run_id, counter)
    end_run(run.run_id)
    report = conversion(data, out, BATCH, skip_exist=True, **options).run()
    assert report.n_images == N
    assert report.seconds_by_step["write"] > 0
    assert report.n_kept == 2
    assert verify_output(out, zarr_store=store) == []
