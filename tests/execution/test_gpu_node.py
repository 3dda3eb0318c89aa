"""A node with eight GPUs, simulated by processes that compute on the CPU while they hold the lock of a GPU's device section."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
from distributed import Client, Worker, WorkerPlugin
from distributed.utils import get_mp_context

import cryolike_dask.execution.chunks
from cryolike_dask.execution.cluster import local_cluster, visible_gpus
from cryolike_dask.metadata.image_descriptor import ImageDescriptor
from cryolike_dask.settings import ConversionSettings
from tests.support.clusters import conversion, make_particles, stacks

N_GPUS = 8
_DEVICE_SECONDS = 0.1


class _ActsAsGpu(WorkerPlugin):
    """Makes a worker transform as on a GPU, but on the CPU, and records when it was in its device section."""

    name = "acts-as-gpu"

    def setup(self, worker: Any) -> None:
        from cryolike_dask.transform.gpu import TorchTransform

        worker.device_sections = []

        class Watched(TorchTransform):
            def _transform(self, images: Any) -> Any:
                entered = time.monotonic()
                try:
                    # A device computes while the processor is idle. Here eight devices share a few cores, which must not determine the
                    # speed of each.
                    threading.Event().wait(_DEVICE_SECONDS)
                    return super()._transform(images)
                finally:
                    worker.device_sections.append((entered, time.monotonic()))

        def make_transform(descriptor: ImageDescriptor, settings: ConversionSettings) -> Watched:
            return Watched(descriptor, settings.downsample_factor, settings.downsample_type, "cpu")

        cryolike_dask.execution.chunks.make_transform = make_transform


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return make_particles(tmp_path_factory.mktemp("particles"), n_images=960)


@pytest.fixture(scope="module")
def serial(data: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("serial") / "out"
    conversion(data, out).run_serially()
    return out


@pytest.fixture(scope="module")
def node() -> Iterator[Client]:
    names = ",".join(map(str, range(N_GPUS)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUDA_VISIBLE_DEVICES", names)
        # Workers that a test adds run in this process, so the effects of the plugin on this process are undone here.
        patch.setattr(cryolike_dask.execution.chunks, "make_transform", cryolike_dask.execution.chunks.make_transform)
        # Forked from a server that has everything imported, so that eight workers start fast.
        with dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"}):
            get_mp_context().set_forkserver_preload(["distributed", "cryolike_dask.execution.tasks", "tests.support.clusters"])
            with local_cluster("cuda", threads_per_worker=2, memory_limit=None) as cluster, Client(cluster) as client:
                client.wait_for_workers(N_GPUS, timeout=120)
                client.register_plugin(_ActsAsGpu())
                yield client


def _makers(client: Client) -> Counter[str]:
    """Stacks made by each worker since the last call."""
    events = [event for _, event in client.get_events("cryolike") if event["action"] == "stack-made"]
    seen = client.__dict__.setdefault("seen_events", 0)
    client.__dict__["seen_events"] = len(events)
    return Counter(event["worker_name"] for event in events[seen:])


def _gpu_names() -> set[str]:
    return {f"gpu-{number}" for number in range(N_GPUS)}


def test_each_process_sees_its_own_gpu(node: Client) -> None:
    seen = node.run(lambda: (os.getpid(), os.environ["CUDA_VISIBLE_DEVICES"]))
    assert sorted(name for _, name in seen.values()) == [str(number) for number in range(N_GPUS)]
    assert len({pid for pid, _ in seen.values()}) == N_GPUS
    told = [worker["cryolike"] for worker in node.scheduler_info(n_workers=-1)["workers"].values()]
    assert sorted(report["cuda_visible_devices"] for report in told) == [str(number) for number in range(N_GPUS)]


def test_work_is_spread_and_device_sections_do_not_overlap(node: Client, data: Any, serial: Path, tmp_path: Path) -> None:
    conversion(data, tmp_path / "out").run(node)
    made = _makers(node)
    assert set(made) == _gpu_names()
    assert sum(made.values()) == 240
    assert all(abs(count - 30) <= 0.15 * 30 for count in made.values()), made
    for sections in node.run(lambda dask_worker: dask_worker.device_sections).values():
        assert len(sections) >= 12
        ordered = np.array(sorted(sections))
        assert (ordered[1:, 0] >= ordered[:-1, 1]).all()
    _assert_close(tmp_path / "out", serial)


def test_workers_without_a_gpu_make_no_stack(node: Client, data: Any, serial: Path, tmp_path: Path) -> None:
    async def add() -> list[Worker]:
        return [
            await Worker(node.cluster.scheduler_address, name=f"cpu-{number}", nthreads=2, memory_limit=0) for number in range(4)
        ]

    workers = node.cluster.sync(add)
    try:
        _makers(node)
        conversion(data, tmp_path / "out").run(node)
        made = _makers(node)
        assert set(made) == _gpu_names()
        assert sum(made.values()) == 240
        conversion(data, tmp_path / "on-all", device="cpu").run(node)
        assert any(name.startswith("cpu-") for name in _makers(node))
    finally:

        async def remove() -> None:
            for worker in workers:
                await worker.close()

        node.cluster.sync(remove)
    _assert_close(tmp_path / "out", serial)


def test_no_more_workers_than_gpus(node: Client) -> None:
    from cryolike_dask.errors import InputError

    assert visible_gpus() == [str(number) for number in range(N_GPUS)]
    with pytest.raises(InputError, match="8 GPUs"):
        local_cluster("cuda", n_workers=9)


def _assert_close(out: Path, serial: Path) -> None:
    """Torch and the compiled loops differ in the last bits."""
    from cryolike_dask.stacks.loading import load_stack

    assert set(stacks(out)) == set(stacks(serial))
    for counter in (0, 60, 119):
        ours, theirs = load_stack(out, counter).fourier.numpy(), load_stack(serial, counter).fourier.numpy()
        np.testing.assert_allclose(ours, theirs, atol=2e-6 * np.abs(theirs).max())
