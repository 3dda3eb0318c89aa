"""All executors make the same stacks, and use the right client."""

from __future__ import annotations

import contextlib
import copy
import gc
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from cryolike_dask import (
    Conversion,
    ConversionError,
    InputError,
    ParticleTable,
    convert_particle_stacks_from_indexed_star_file,
    particles_from_star,
)
from cryolike_dask.execution.executors.interface import TaskResult
from cryolike_dask.execution.executors.serial import SerialExecutor
from cryolike_dask.execution.executors.threads import ThreadExecutor
from cryolike_dask.progress import NoProgress, StackProgress
from tests.support.conversions import files_of
from tests.support.independent_reader import read_arrays, read_stacks
from tests.support.particle_sets import NO_PLOTS, ParticleSet, assert_holds, params, traced

if TYPE_CHECKING:
    from distributed import LocalCluster

BATCH = 7


def conversion(particles: ParticleSet, folder: Path, **options: object) -> Conversion:
    table = particles_from_star(particles.star, particles.mrc)
    return Conversion(table, params(), folder_output=folder, **{"batch_size": BATCH, **NO_PLOTS, **options})


@pytest.fixture(scope="module")
def serially(scattered: ParticleSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of a serial run, for comparison."""
    folder = tmp_path_factory.mktemp("serially")
    conversion(scattered, folder).run_serially()
    return folder


def assert_same_stacks(folder: Path, oracle: Path) -> None:
    found, wanted = files_of(folder), files_of(oracle)
    assert set(found) == set(wanted)
    for name, content in wanted.items():
        if name.endswith(".pt"):
            assert found[name] == content, name
        elif name.endswith(".npz"):
            ours, theirs = read_arrays(folder / name), read_arrays(oracle / name)
            assert list(ours) == list(theirs)
            for key, value in theirs.items():
                np.testing.assert_array_equal(ours[key], value, err_msg=f"{name}: {key}")
                assert ours[key].dtype == value.dtype


def test_serial_stacks_hold_every_image_in_the_order_of_the_table(scattered: ParticleSet, serially: Path) -> None:
    stacks = read_stacks(serially)
    assert [len(stack.fourier) for stack in stacks] == [7, 7, 7, 7, 3]
    assert_holds(stacks, scattered.images, scattered.listed)
    defocus = np.concatenate([stack.metadata["defocusU"] for stack in stacks])
    np.testing.assert_array_equal(defocus, [10000.5 + 10 * i for i in range(31)])
    np.testing.assert_array_equal(np.concatenate([stack.metadata["row"] for stack in stacks]), range(31))


def test_threads_of_this_process(scattered: ParticleSet, serially: Path, tmp_path: Path) -> None:
    report = conversion(scattered, tmp_path).run()
    assert [stack.counter for stack in report.stacks] == list(range(5))
    assert_same_stacks(tmp_path, serially)


def test_local_cluster_of_two_processes(scattered: ParticleSet, serially: Path, tmp_path: Path, cluster: LocalCluster) -> None:
    conversion(scattered, tmp_path).run(cluster)
    assert_same_stacks(tmp_path, serially)
    assert len(cluster.workers) == 2, "the cluster is not ours to close"
    assert all(worker.status.name == "running" for worker in cluster.workers.values())


def test_scheduler_address(scattered: ParticleSet, serially: Path, tmp_path: Path, cluster: LocalCluster) -> None:
    conversion(scattered, tmp_path).run(cluster.scheduler_address)
    assert_same_stacks(tmp_path, serially)
    assert cluster.status.name == "running"


def test_client_that_is_not_the_current_one(scattered: ParticleSet, serially: Path, tmp_path: Path, cluster: LocalCluster) -> None:
    from distributed import Client

    with Client(cluster, set_as_default=False) as client:
        conversion(scattered, tmp_path).run(client)
        assert client.status == "running", "the client is not ours to close"
        assert not client.futures, "nothing is left on the cluster"
    assert_same_stacks(tmp_path, serially)


def test_current_client_is_used_without_being_named(
    scattered: ParticleSet, serially: Path, tmp_path: Path, cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    from distributed import Client

    def no_threads(*arguments: object) -> None:
        raise AssertionError("threads of this process were used although there is a client")

    monkeypatch.setattr(ThreadExecutor, "__init__", no_threads)
    with Client(cluster) as client:
        convert_particle_stacks_from_indexed_star_file(
            params(), scattered.star, scattered.mrc, folder_output=tmp_path, batch_size=BATCH, **NO_PLOTS
        )
        assert client.status == "running"
    assert_same_stacks(tmp_path, serially)


def test_without_a_client_no_cluster_is_started(scattered: ParticleSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import distributed

    def no_cluster(*arguments: object, **options: object) -> None:
        raise AssertionError("a cluster or client was made although none was asked for")

    for name in ("Client", "LocalCluster"):
        monkeypatch.setattr(distributed, name, no_cluster)
    threads = set(threading.enumerate())
    conversion(scattered, tmp_path).run()
    assert len(read_stacks(tmp_path)) == 5
    assert not [thread.name for thread in set(threading.enumerate()) - threads if "cryolike" in thread.name]


def test_an_invalid_client_is_refused_before_anything_is_written(scattered: ParticleSet, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    with pytest.raises(InputError, match="client is of the type int"):
        conversion(scattered, folder).run(3)
    assert not folder.exists() or not files_of(folder)


def test_scheduler_that_does_not_answer_is_named(scattered: ParticleSet, tmp_path: Path) -> None:
    import dask

    with (
        dask.config.set({"distributed.comm.timeouts.connect": "200ms"}),
        pytest.raises(InputError, match=r"No Dask scheduler answers at 'tcp://127\.0\.0\.1:9'"),
    ):
        conversion(scattered, tmp_path / "out").run("tcp://127.0.0.1:9")


def test_a_failed_connection_leaves_no_client(scattered: ParticleSet, tmp_path: Path) -> None:
    import dask
    from distributed import Client

    def clients() -> set[int]:
        return {id(found) for found in gc.get_objects() if type(found) is Client}

    before = clients()
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "200ms"}),
        pytest.raises(InputError, match="No Dask scheduler answers") as raised,
    ):
        conversion(scattered, tmp_path / "out").run("tcp://127.0.0.1:9")
    assert clients() <= before, raised  # even while the error is kept


def test_nothing_given_is_changed(scattered: ParticleSet, tmp_path: Path) -> None:
    table = particles_from_star(scattered.star, scattered.mrc)
    descriptor = params(pixel_size=3.0)
    before: tuple[ParticleTable, object] = copy.deepcopy(table), copy.deepcopy(descriptor)
    options = {"batch_size": 4, "pixel_size": 2.0, "order": "file", **NO_PLOTS}
    given = dict(options)
    Conversion(table, descriptor, folder_output=tmp_path, **options).run()
    assert options == given
    assert descriptor == before[1]
    assert table.rows.tobytes() == before[0].rows.tobytes()  # absent values are NaN, which equal nothing
    assert (table.files, table.sources) == (before[0].files, before[0].sources)
    assert read_stacks(tmp_path)[0].metadata["pixel_size"].tolist() == [2.0, 2.0]


def test_planning_writes_nothing(scattered: ParticleSet, tmp_path: Path) -> None:
    planned = conversion(scattered, tmp_path / "out")
    assert "31 images to 5 stacks" in repr(planned)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("batch_size", [1, 7, 31, 1000])
def test_stacks_are_full_but_for_the_last(scattered: ParticleSet, tmp_path: Path, batch_size: int) -> None:
    conversion(scattered, tmp_path, batch_size=batch_size).run()
    stacks = read_stacks(tmp_path)
    sizes = [len(stack.fourier) for stack in stacks]
    assert sum(sizes) == 31
    assert all(size == batch_size for size in sizes[:-1])
    assert traced(stacks) == list(scattered.listed)


def test_many_stacks_keep_their_order_on_two_processes(scattered: ParticleSet, tmp_path: Path, cluster: LocalCluster) -> None:
    report = conversion(scattered, tmp_path, batch_size=1).run(cluster)
    assert [stack.counter for stack in report.stacks] == list(range(31))
    assert_holds(read_stacks(tmp_path), scattered.images, scattered.listed)


class BackwardsExecutor(SerialExecutor):
    """Runs all tasks of the window, the last one first."""

    def window(self, seconds_per_stack: float | None) -> int:
        return 100

    def wait(self, seconds: float) -> list[TaskResult]:
        return [self._results.pop()]


class FailingExecutor(BackwardsExecutor):
    """The same, with one stack that cannot be made."""

    def __init__(self, bad: int) -> None:
        super().__init__()
        self.bad = bad

    def submit(self, kind: Any, counters: tuple[int, ...], task: Any, *arguments: Any, avoid: str = "") -> None:
        if kind == "convert" and counters == (self.bad,):
            self._results.append(TaskResult(kind, counters, error=InputError("a bad image")))
        else:
            super().submit(kind, counters, task, *arguments)


class VisibleStacks(NoProgress):
    """Records the visible stacks each time a stack is reported complete."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.told: list[int] = []
        self.seen: list[list[str]] = []

    def stack_done(self, stack: StackProgress) -> None:
        self.told.append(stack.counter)
        self.seen.append(sorted(path.stem[-6:] for path in self.folder.glob("fft/particles_*.npz")))


@pytest.mark.parametrize("bad", [None, 3])
def test_stacks_appear_in_order_however_they_are_done(scattered: ParticleSet, tmp_path: Path, bad: int | None) -> None:
    planned, progress = conversion(scattered, tmp_path, batch_size=4), VisibleStacks(tmp_path)
    executor = BackwardsExecutor() if bad is None else FailingExecutor(bad)
    with pytest.raises(ConversionError, match="stack 000003") if bad is not None else contextlib.nullcontext():
        planned._run(contextlib.nullcontext(executor), progress)
    n = 8 if bad is None else bad
    assert progress.told == list(range(n))
    for k, seen in enumerate(progress.seen):
        assert seen == [f"{i:06d}" for i in range(len(seen))]
        assert len(seen) > k
    assert sorted(path.stem[-6:] for path in tmp_path.glob("fft/particles_*.npz")) == [f"{i:06d}" for i in range(n)]


def test_pictures_are_drawn_by_the_workers(abc: ParticleSet, tmp_path: Path, cluster: LocalCluster) -> None:
    conversion(abc, tmp_path, batch_size=10, flag_plots=True).run(cluster)
    assert {path.name for path in (tmp_path / "plots").iterdir()} == {
        f"{kind}_stack_{counter:06d}.png"
        for counter in (0, 1)
        for kind in ("particles_phys", "particles_fourier", "power_spectrum")
    }
