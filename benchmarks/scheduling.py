"""The cost of the run loop: rates and growth compared with `client.map` of the same tasks, and streaming compared with writing."""

from __future__ import annotations

import gc
import shutil
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import dask
import torch
from distributed import Client, LocalCluster

from benchmarks.measuring import in_a_process, interleaved, median_ratio
from benchmarks.particle_files import write_particles
from cryolike_dask.conversion import Conversion
from cryolike_dask.execution.executors.cluster import ClusterExecutor
from cryolike_dask.execution.run_loop import Outcome, RunLoop
from cryolike_dask.particles.star.particles import particles_from_star
from cryolike_dask.stacks.loading import load_stack
from cryolike_dask.stacks.receipt import StackReceipt

_STACK_SECONDS = 0.5
_MAX_WORKERS = 16


def make_nothing(folder: str, run_id: str, counter: int) -> StackReceipt:
    """In place of `convert_stack_task`."""
    return StackReceipt(counter, 1, 1, 0, 0)


def make_slowly(folder: str, run_id: str, counter: int) -> StackReceipt:
    """In place of `convert_stack_task`."""
    time.sleep(_STACK_SECONDS)
    return StackReceipt(counter, 1, 1, 0, 0, compute_seconds=_STACK_SECONDS)


def publish_nothing(folder: str, run_id: str, counters: Any, attempts: Any) -> None:
    """In place of `publish_stacks_task`."""


class _GrownError(Exception):
    """Raised when the cluster has grown to its maximum.

    Args:
        when: time of `time.perf_counter`.
    """

    def __init__(self, when: float) -> None:
        super().__init__()
        self.when = when


def _run_loop(client: Client, n_stacks: int, task: Callable[..., StackReceipt], on_poll: Callable[[], None]) -> float:
    """Seconds of a run whose stacks are these tasks, without planning and without files."""
    outcome = Outcome()
    executor = ClusterExecutor(client, "cpu")
    module = "cryolike_dask.execution.run_loop."
    with patch(module + "convert_stack_task", task), patch(module + "publish_stacks_task", publish_nothing):
        began = time.perf_counter()
        try:
            RunLoop(executor, "", "", range(n_stacks), None, lambda _: None, outcome).run(on_poll)
        finally:
            executor.close()
        assert len(outcome.published) == n_stacks
        return time.perf_counter() - began


def _map(client: Client, n_stacks: int, task: Callable[..., StackReceipt]) -> float:
    began = time.perf_counter()
    futures = client.map(lambda counter: task("", "", counter), range(n_stacks), pure=False)
    client.gather(futures)
    return time.perf_counter() - began


@contextmanager
def _workers_of_this_process(n_workers: int) -> Iterator[Client]:
    # Each worker monitors itself and its process many times per second. With a thousand in one process, there would be no time for tasks.
    quiet = {"distributed.worker.profile.enabled": False, "distributed.admin.tick.interval": "1h"}
    with (
        dask.config.set(quiet | {"distributed.admin.system-monitor.interval": "1h"}),
        LocalCluster(
            n_workers=n_workers, threads_per_worker=1, processes=False, memory_limit=None, dashboard_address=None
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        client.wait_for_workers(n_workers)
        # Otherwise the garbage collector would search the objects of a thousand workers again and again.
        gc.collect()
        gc.freeze()
        yield client
        gc.unfreeze()


def rate_of_trivial_stacks(
    repeats: int, n_stacks: int = 2000, numbers_of_workers: tuple[int, ...] = (4, 16, 100)
) -> list[dict[str, Any]]:
    """Rate of stacks that take no time, and of tasks of `client.map`, whose results are fetched, too. All workers are in this process."""
    rows = []
    for n_workers in numbers_of_workers:
        with _workers_of_this_process(n_workers) as client:

            def loop(n: int, client: Client = client) -> float:
                return _run_loop(client, n, make_nothing, lambda: None)

            def mapped(n: int, client: Client = client) -> float:
                return _map(client, n, make_nothing)

            loop(100), mapped(100)
            ours, theirs = interleaved(repeats, lambda: loop(n_stacks), lambda: mapped(n_stacks))
        rows.append(
            {
                "workers": n_workers,
                "stacks": n_stacks,
                "stacks_per_second": n_stacks / statistics.median(ours),
                "map_per_second": n_stacks / statistics.median(theirs),
                "share": median_ratio(theirs, ours),
            }
        )
    return rows


def rate_of_many_trivial_stacks() -> list[dict[str, Any]]:
    """As `rate_of_trivial_stacks`, but once, with more stacks and workers."""
    return rate_of_trivial_stacks(1, 50_000, (100, 1000))


def growth_of_an_adaptive_cluster(repeats: int) -> dict[str, Any]:
    """Seconds until `adapt(1..16)` has 16 workers, for stacks of 0.5 s."""

    def grown(run: Callable[[Client, Callable[[], None]], Any]) -> float:
        with (
            LocalCluster(n_workers=0, threads_per_worker=1, processes=False, memory_limit=None, dashboard_address=None) as cluster,
            Client(cluster, set_as_default=False) as client,
        ):
            cluster.adapt(minimum=1, maximum=_MAX_WORKERS)
            client.wait_for_workers(1)
            began = time.perf_counter()

            def stop_when_grown() -> None:
                if len(cluster.scheduler.workers) >= _MAX_WORKERS:
                    raise _GrownError(time.perf_counter())

            try:
                run(client, stop_when_grown)
            except _GrownError as grown:
                return grown.when - began
        raise AssertionError("the work ended before the cluster had grown")

    def loop(client: Client, stop_when_grown: Callable[[], None]) -> None:
        _run_loop(client, 2000, make_slowly, stop_when_grown)

    def mapped(client: Client, stop_when_grown: Callable[[], None]) -> None:
        futures = client.map(lambda counter: make_slowly("", "", counter), range(2000), pure=False)
        try:
            while True:
                stop_when_grown()
                time.sleep(0.05)
        finally:
            client.cancel(futures)

    ours, theirs = interleaved(repeats, lambda: grown(loop), lambda: grown(mapped))
    return {
        "conversion_s": statistics.median(ours),
        "map_s": statistics.median(theirs),
        "ratio": median_ratio(ours, theirs),
    }


def streaming(folder: Path, n_images: int = 20_000) -> dict[str, Any]:
    """Images of 128 x 128, streamed without writing, and written. The stacks of the two are compared."""
    particles = write_particles(folder / "in", n_images, 128, n_distinct=2000)

    def conversion() -> Conversion:
        table = particles_from_star(particles.star_file, particles.folder)
        return Conversion(table, particles.descriptor, folder_output=folder / "out", flag_plots=False, overwrite=True)

    for _ in zip(range(2), conversion().stream(), strict=False):
        pass  # loads libraries and makes tables
    began = time.perf_counter()
    n_streamed = sum(len(stack.fourier) for stack in conversion().stream())
    streamed = time.perf_counter() - began
    began = time.perf_counter()
    conversion().run()
    written = time.perf_counter() - began
    for counter, stack in enumerate(conversion().stream()):
        there = load_stack(folder / "out", counter)
        assert torch.equal(stack.fourier, there.fourier)
        assert stack.physical is not None
        assert there.physical is not None
        assert torch.equal(stack.physical, there.physical)
        assert (stack.metadata["defocusU"] == there.metadata["defocusU"]).all()
        n_streamed -= len(there.fourier)
    assert n_streamed == 0
    n_stacks = counter + 1
    quarter, whole = (
        in_a_process("stream", str(particles.star_file), str(particles.folder), "128", str(n))["peak_MB"]
        for n in (n_stacks // 4, n_stacks)
    )
    shutil.rmtree(folder)
    return {
        "images": n_images,
        "stream_s": streamed,
        "written_s": written,
        "ratio": written / streamed,
        "peak MB of a quarter": quarter,
        "peak MB of all": whole,
    }
