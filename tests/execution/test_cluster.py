"""The size of a local cluster, and what its workers do before their first stack."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import dask
import prometheus_client
import pytest
from distributed import Client, LocalCluster

from cryolike_dask.errors import InputError
from cryolike_dask.execution import cluster as cluster_module
from cryolike_dask.execution.cluster import local_cluster, visible_gpus
from cryolike_dask.execution.executors.cluster import ClusterExecutor
from cryolike_dask.execution.plugin import WorkerSetup
from cryolike_dask.metadata.image_descriptor import ImageDescriptor
from cryolike_dask.progress import NoProgress
from cryolike_dask.transform.cpu import _compiled_interpolation
from tests.support.clusters import conversion, make_particles, stacks, threads_cluster

GIB = 1 << 30


class _Recorded:
    """Stands for a cluster class and keeps its arguments."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self.args, self.options = args, options


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that makes this machine look like another one."""

    def look_like(cores: int, memory: int, gpus: str = "", cuda: bool = False) -> None:
        monkeypatch.setattr(cluster_module, "available_cores", lambda: cores)
        monkeypatch.setattr(cluster_module, "MEMORY_LIMIT", memory)
        monkeypatch.setattr(cluster_module, "_has_cuda", lambda: cuda)
        monkeypatch.setattr(cluster_module, "LocalCluster", _Recorded)
        monkeypatch.setattr(cluster_module, "LocalGpuCluster", _Recorded)
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", gpus)

    return look_like


@pytest.mark.parametrize(
    ("cores", "memory", "n_workers", "threads", "limit"),
    [
        (64, 256 * GIB, 16, 4, 16 * GIB),
        (6, 64 * GIB, 2, 3, 32 * GIB),
        (1, 4 * GIB, 1, 1, 4 * GIB),
        (64, 3 * GIB, 3, 21, GIB),  # little memory: fewer processes, of more threads each
    ],
)
def test_processes_fit_cores_and_memory(machine: Any, cores: int, memory: int, n_workers: int, threads: int, limit: int) -> None:
    machine(cores, memory)
    options = local_cluster("auto").options
    assert options["n_workers"] == n_workers
    assert options["threads_per_worker"] == threads
    assert options["memory_limit"] == limit


def test_given_values_are_used(machine: Any) -> None:
    machine(16, 64 * GIB)
    options = local_cluster("cpu", n_workers=2, threads_per_worker=5, memory_limit="3 GiB", protocol="tcp").options
    assert options["n_workers"] == 2
    assert options["threads_per_worker"] == 5
    assert options["memory_limit"] == "3 GiB"
    assert options["protocol"] == "tcp"


def test_one_process_per_gpu(machine: Any) -> None:
    machine(32, 128 * GIB, gpus="GPU-a,GPU-b,2,-1,5", cuda=True)
    made = local_cluster("auto")
    assert made.args == (["GPU-a", "GPU-b", "2"],)
    assert made.options["threads_per_worker"] == 3
    assert made.options["resources"] == {"GPU": 1}
    assert made.options["memory_limit"] == 128 * GIB // 3


def test_a_cpu_cluster_on_a_machine_with_gpus(machine: Any) -> None:
    machine(8, 16 * GIB, gpus="0", cuda=True)
    assert local_cluster("cpu").options["n_workers"] == 2


def test_threads_and_resource_come_from_the_configuration(machine: Any) -> None:
    machine(32, 128 * GIB, gpus="0", cuda=True)
    with dask.config.set({"cryolike.gpu.threads": 5, "cryolike.gpu.resource": "H200"}):
        options = local_cluster().options
    assert options["threads_per_worker"] == 5
    assert options["resources"] == {"H200": 1}


@pytest.mark.parametrize("value", [0, "three", True, 1.5])
def test_a_configured_number_that_is_none_is_refused(machine: Any, value: Any) -> None:
    machine(32, 128 * GIB, gpus="0", cuda=True)
    with dask.config.set({"cryolike.gpu.threads": value}), pytest.raises(InputError, match=r"cryolike\.gpu\.threads"):
        local_cluster()


def test_dask_cuda_is_used_where_it_is_installed(machine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(32, 128 * GIB, gpus="0,1", cuda=True)
    fake = types.ModuleType("dask_cuda")
    fake.__spec__ = types.SimpleNamespace(name="dask_cuda")  # type: ignore[assignment]
    fake.LocalCUDACluster = _Recorded  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "dask_cuda", fake)
    options = local_cluster().options
    assert options["CUDA_VISIBLE_DEVICES"] == ["0", "1"]
    assert options["resources"] == {"GPU": 1}
    assert options["threads_per_worker"] == 3


def test_missing_gpus_are_refused(machine: Any) -> None:
    machine(4, GIB)
    with pytest.raises(InputError, match="no CUDA device"):
        local_cluster("cuda")
    machine(4, GIB, gpus="0,1", cuda=True)
    with pytest.raises(InputError, match="3 workers were requested, but there are only 2 GPUs"):
        local_cluster(n_workers=3)
    with pytest.raises(InputError, match="at least 1"):
        local_cluster(n_workers=0)


@pytest.mark.parametrize(("named", "gpus"), [("", []), ("-1", []), ("0,3", ["0", "3"]), (" 1 , MIG-x ", ["1", "MIG-x"])])
def test_visible_gpus_are_read_as_cuda_reads_them(named: str, gpus: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    assert visible_gpus() == gpus


def test_a_worker_makes_the_tables_of_its_images_when_it_starts(tmp_path: Path) -> None:
    descriptor = ImageDescriptor.from_individual_values(n_pixels=22, pixel_size=1.7)
    before = _compiled_interpolation.cache_info().misses
    with threads_cluster(plugins={WorkerSetup("cpu", descriptor)}) as client:
        (told,) = (worker["cryolike"] for worker in client.scheduler_info()["workers"].values())
    assert _compiled_interpolation.cache_info().misses == before + 1
    hits = _compiled_interpolation.cache_info().hits
    _compiled_interpolation(descriptor)
    assert _compiled_interpolation.cache_info().hits == hits + 1
    assert told["device"] == "cpu"
    assert told["device_name"] == "CPU"


def test_the_preload_prepares_workers_of_any_cluster(tmp_path: Path) -> None:
    params = tmp_path / "params.npz"
    ImageDescriptor.from_individual_values(n_pixels=18, pixel_size=1.3).save(params)
    with (
        dask.config.set({"cryolike.worker.params": str(params)}),
        threads_cluster(preload=["cryolike_dask.execution.plugin"]) as client,
    ):
        (told,) = (worker["cryolike"] for worker in client.scheduler_info()["workers"].values())
    assert told["device"] == "cpu"


@pytest.mark.usefixtures("no_backlog")
def test_workers_may_come_and_go_while_a_conversion_runs(tmp_path: Path) -> None:
    data = make_particles(tmp_path / "particles", n_images=60)
    conversion(data, tmp_path / "serial", batch_size=1).run_serially()
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster) as client,
    ):
        largest = 0

        class ComeAndGo(NoProgress):
            """Progress that changes the size of the cluster, and counts the tasks that the scheduler holds."""

            def start(self, n_stacks: int, n_images: int) -> None:
                """See `Progress`."""

            def stack_done(self, stack: Any) -> None:
                nonlocal largest
                largest = max(largest, sum(key.startswith("convert-stack") for key in map(str, list(cluster.scheduler.tasks))))
                if stack.counter == 10:
                    cluster.scale(3)
                elif stack.counter == 30:
                    cluster.scale(1)

            def finish(self, error: BaseException | None) -> None:
                """See `Progress`."""

        report = conversion(data, tmp_path / "out", batch_size=1).run(client, ComeAndGo())
    assert len(report.stacks) == 60
    assert stacks(tmp_path / "out") == stacks(tmp_path / "serial")
    # Twice as many stacks as threads are in progress. The scheduler forgets tasks a moment after they have ended.
    assert 2 <= largest <= 3 * 2 + 3


@pytest.fixture
def no_backlog(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scheduler never gets more stacks than the window, however short they are."""
    monkeypatch.setattr("cryolike_dask.execution.executors.cluster._BACKLOG_SECONDS", 0.0)


@pytest.mark.parametrize(("seconds", "n_offered"), [(None, 240), (200.0, 8), (20.0, 8), (10.0, 12), (0.5, 240), (0.001, 1000)])
def test_short_stacks_are_offered_in_larger_numbers_so_that_adaptive_clusters_grow(seconds: float | None, n_offered: int) -> None:
    with threads_cluster(n_workers=2, threads_per_worker=2) as client:
        assert ClusterExecutor(client).window(seconds) == n_offered


def test_tasks_with_resources_are_bounded_by_the_gpus() -> None:
    with threads_cluster(n_workers=2, threads_per_worker=3, resources={"GPU": 1}) as client:
        assert ClusterExecutor(client).window(0.001) == 2 * 2 * 2


@pytest.mark.usefixtures("no_backlog")
def test_the_scheduler_holds_no_more_than_the_window(tmp_path: Path) -> None:
    from distributed.diagnostics.plugin import SchedulerPlugin

    class Held(SchedulerPlugin):
        """The number of unfinished converting tasks on the scheduler."""

        def __init__(self) -> None:
            self.now: set[str] = set()
            self.most = 0

        def transition(self, key: Any, start: str, finish: str, *args: Any, **kwargs: Any) -> None:
            if not str(key).startswith("convert-stack"):
                return
            if finish in ("waiting", "processing", "queued", "no-worker"):
                self.now.add(str(key))
                self.most = max(self.most, len(self.now))
            else:
                self.now.discard(str(key))

    data = make_particles(tmp_path / "particles", n_images=50)
    with threads_cluster(n_workers=2, threads_per_worker=2) as client:
        held = Held()
        client.cluster.scheduler.add_plugin(held)
        conversion(data, tmp_path / "out", batch_size=1).run(client)
    assert 4 <= held.most <= 2 * 4


def test_stacks_are_named_in_spans_and_events(tmp_path: Path) -> None:
    data = make_particles(tmp_path / "particles", n_images=20)
    with threads_cluster(threads_per_worker=2) as client:
        conversion(data, tmp_path / "out").run(client)
        spans = {span.name: span for span in client.cluster.scheduler.extensions["spans"].spans.values()}
        events = [event for _, event in client.get_events("cryolike")]
    assert {group.name for group in spans[("cryolike",)].groups} == {"convert-stack"}
    assert sorted(event["stack"] for event in events) == [0, 1, 2, 3, 4]
    assert sum(event["images"] for event in events) == 20
    assert all(event["seconds"]["compute"] > 0 for event in events)


def test_prometheus_counts_images_and_time(tmp_path: Path) -> None:
    def sample(name: str, **labels: str) -> float:
        return prometheus_client.REGISTRY.get_sample_value(name, labels) or 0.0

    data = make_particles(tmp_path / "particles", n_images=20)
    before = [sample("cryolike_images_total"), sample("cryolike_stacks_total"), sample("cryolike_stack_seconds_total", step="read")]
    with threads_cluster() as client:
        conversion(data, tmp_path / "out").run(client)
    assert sample("cryolike_images_total") == before[0] + 20
    assert sample("cryolike_stacks_total") == before[1] + 5
    assert sample("cryolike_stack_seconds_total", step="read") > before[2]


def test_a_performance_report_is_written(tmp_path: Path) -> None:
    data = make_particles(tmp_path / "particles", n_images=20)
    with threads_cluster() as client:
        conversion(data, tmp_path / "out").run(client, performance_report=tmp_path / "report.html")
    assert "convert-stack" in (tmp_path / "report.html").read_text()


def test_a_performance_report_without_a_cluster_is_refused(tmp_path: Path) -> None:
    data = make_particles(tmp_path / "particles", n_images=20)
    with pytest.raises(InputError, match="the work of a Dask cluster"):
        conversion(data, tmp_path / "out").run(performance_report=tmp_path / "report.html")
