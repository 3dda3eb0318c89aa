"""A conversion as a graph of Delayed: order, window and size; computing it in parts or twice; failures."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import cloudpickle
import dask
import numpy as np
import pytest
from dask.base import collections_to_expr
from dask.callbacks import Callback
from distributed.diagnostics.plugin import SchedulerPlugin
from distributed.scheduler import Scheduler

from cryolike_dask.conversion import Conversion
from cryolike_dask.errors import InputError, OutputError
from cryolike_dask.runs.manifest import read_manifest
from cryolike_dask.runs.verify import verify_output
from cryolike_dask.stacks.files import published_counters
from tests.support.clusters import conversion, make_particles, stacks, threads_cluster


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return make_particles(tmp_path_factory.mktemp("particles"))


@pytest.fixture(scope="module")
def serial(data: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("serial") / "out"
    conversion(data, out).run_serially()
    return stacks(out)


def test_delayed_stacks_are_those_of_a_serial_run(data: Any, serial: dict[str, Any], tmp_path: Path) -> None:
    receipts = dask.compute(*conversion(data, tmp_path / "out").to_delayed(window=3))
    assert [receipt.counter for receipt in receipts] == list(range(10))
    assert stacks(tmp_path / "out") == serial
    assert verify_output(tmp_path / "out") == []
    assert read_manifest(tmp_path / "out")["status"] == "complete"  # type: ignore[index]


def test_delayed_stacks_with_pictures(data: Any, tmp_path: Path) -> None:
    dask.compute(*conversion(data, tmp_path / "out", batch_size=20, flag_plots=True).to_delayed())
    assert len(list((tmp_path / "out" / "plots").glob("*.png"))) == 6
    assert verify_output(tmp_path / "out") == []


def test_building_the_graph_makes_no_stack(data: Any, tmp_path: Path) -> None:
    conversion(data, tmp_path / "out").to_delayed()
    assert not (tmp_path / "out" / "fft").exists()


def test_a_stack_is_given_only_when_all_before_it_are_visible(data: Any, tmp_path: Path) -> None:
    delayed = conversion(data, tmp_path / "out").to_delayed(window=3)
    delayed[4].compute()
    assert published_counters(tmp_path / "out") == [0, 1, 2, 3, 4]


def test_a_graph_computed_in_parts_and_again_is_complete(data: Any, serial: dict[str, Any], tmp_path: Path) -> None:
    delayed = conversion(data, tmp_path / "out").to_delayed(window=3)
    dask.compute(delayed[:3])
    dask.compute(delayed)
    assert stacks(tmp_path / "out") == serial
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.pt")}
    (receipts,) = dask.compute(delayed)
    assert all(receipt.kept for receipt in receipts)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.pt")} == before


class _Order(Callback):
    """The order in which tasks end."""

    def __init__(self) -> None:
        self.done: list[Any] = []
        super().__init__(posttask=lambda key, *_: self.done.append(key))


def test_no_more_stacks_than_the_window_are_under_way(data: Any, tmp_path: Path) -> None:
    window = 2
    delayed = conversion(data, tmp_path / "out").to_delayed(window=window)
    with _Order() as order:
        dask.compute(*delayed, scheduler="threads", num_workers=4)
    converted = published = 0
    for key in order.done:
        name = key[0] if isinstance(key, tuple) else key
        converted += name.startswith("convert")
        published += name.startswith("publish")
        assert converted - published <= window
    assert converted == 10


def test_a_graph_becomes_part_of_a_larger_one_on_a_cluster(data: Any, serial: dict[str, Any], tmp_path: Path) -> None:
    with threads_cluster(threads_per_worker=3):
        delayed = conversion(data, tmp_path / "out").to_delayed(retries=2)
        total = dask.delayed(lambda receipts: sum(receipt.n_images for receipt in receipts))(delayed)
        assert total.compute() == 40
    assert stacks(tmp_path / "out") == serial


class _Restrictions(SchedulerPlugin):
    """The resources that each task requested."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self.asked: dict[str, Any] = {}
        self.priorities: dict[str, Any] = {}

    def transition(self, key: Any, start: str, finish: str, *args: Any, **kwargs: Any) -> None:
        if finish == "processing":
            self.asked[str(key)] = self.scheduler.tasks[key].resource_restrictions
            self.priorities[str(key)] = self.scheduler.tasks[key].priority


def test_resources_of_converting_tasks_reach_the_scheduler(data: Any, tmp_path: Path) -> None:
    with threads_cluster(threads_per_worker=2, resources={"GPU": 1}) as client:
        scheduler = client.cluster.scheduler
        seen = _Restrictions(scheduler)
        scheduler.add_plugin(seen)
        dask.compute(*conversion(data, tmp_path / "out").to_delayed(resources={"GPU": 1}))
    converting = [value for key, value in seen.asked.items() if "convert-stack" in key]
    others = [value for key, value in seen.asked.items() if "convert-stack" not in key]
    assert converting == [{"GPU": 1}] * 10
    assert len(others) == 12
    assert not any(others)


def test_a_failed_graph_leaves_the_folder_to_the_next_run(data: Any, serial: dict[str, Any], tmp_path: Path) -> None:
    broken = conversion(data, tmp_path / "out")
    file = sorted(data.folder_mrc.iterdir())[0]
    whole = file.read_bytes()
    delayed = broken.to_delayed(window=2)
    try:
        file.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(InputError, match=file.name):
            dask.compute(*delayed)
    finally:
        file.write_bytes(whole)
    conversion(data, tmp_path / "out", overwrite=True).run_serially()
    assert stacks(tmp_path / "out") == serial


def test_a_graph_of_a_folder_in_use_is_refused(data: Any, tmp_path: Path) -> None:
    conversion(data, tmp_path / "out").run_serially()
    with pytest.raises(OutputError, match="already holds a conversion"):
        conversion(data, tmp_path / "out").to_delayed()


def test_a_graph_continues_an_interrupted_run(data: Any, serial: dict[str, Any], tmp_path: Path) -> None:
    conversion(data, tmp_path / "out", n_stacks_max=4).run_serially()
    kept = [receipt.kept for receipt in dask.compute(*conversion(data, tmp_path / "out", skip_exist=True).to_delayed())]
    assert kept == [True] * 4 + [False] * 6
    assert stacks(tmp_path / "out") == serial


def of_ten_thousand_stacks(data: Any, folder: Path) -> Conversion:
    small = conversion(data, folder, batch_size=1, flag_plots=True)
    rows = np.tile(small.plan.table.rows, 250)
    first = np.arange(len(rows))
    small.plan = replace(
        small.plan,
        table=replace(small.plan.table, rows=rows),
        bounds=np.stack([first, first + 1], axis=1),
        pixel_size=np.full(len(rows), small.plan.pixel_size[0]),
    )
    return small


def test_ten_thousand_stacks_make_a_small_graph_quickly(data: Any, tmp_path: Path) -> None:
    large = of_ten_thousand_stacks(data, tmp_path / "out")
    began = time.perf_counter()
    delayed = large.to_delayed()
    seconds = time.perf_counter() - began
    assert len(delayed) == 10_000
    assert seconds < 10
    assert len(cloudpickle.dumps(delayed)) < 10e6
    assert len(cloudpickle.dumps(delayed[0].dask)) < 10e6


def test_ten_thousand_stacks_are_optimised_and_passed_on_whole_in_seconds(data: Any, tmp_path: Path) -> None:
    receipts = of_ten_thousand_stacks(data, tmp_path / "out").to_delayed_receipts()
    began = time.perf_counter()
    (optimised,) = dask.optimize(receipts)
    counted = dask.delayed(len)(receipts)
    assert len(optimised.dask) == 30_003
    assert len(counted.dask) == 30_004
    assert time.perf_counter() - began < 10


def test_all_receipts_as_one(data: Any, serial: dict[str, Any], tmp_path: Path) -> None:
    receipts = conversion(data, tmp_path / "out").to_delayed_receipts(window=3)
    counters = dask.delayed(lambda made: [receipt.counter for receipt in made])(receipts)
    assert counters.compute() == list(range(10))
    assert stacks(tmp_path / "out") == serial
    assert read_manifest(tmp_path / "out")["status"] == "complete"  # type: ignore[index]


def test_publishing_goes_before_conversions_and_pictures_after(data: Any, tmp_path: Path) -> None:
    with threads_cluster() as client:
        scheduler = client.cluster.scheduler
        seen = _Restrictions(scheduler)
        scheduler.add_plugin(seen)
        dask.compute(*conversion(data, tmp_path / "out", batch_size=20, flag_plots=True).to_delayed(priority=3))
    urgency = {key.split("-stack")[0].strip("('"): -values[0] for key, values in seen.priorities.items() if "-stack-" in key}
    assert urgency == {"convert": 3, "publish": 13, "plot": -7}


def test_a_scheduler_without_this_package_can_pass_the_graph_on(data: Any, tmp_path: Path) -> None:
    delayed = conversion(data, tmp_path / "out").to_delayed(resources={"GPU": 1})
    file = tmp_path / "graph"
    file.write_bytes(cloudpickle.dumps(collections_to_expr(delayed).finalize_compute().optimize()))
    program = f"""
import pickle, sys
sys.modules["cryolike_dask"] = None
graph = pickle.load(open({str(file)!r}, "rb"))
print(sorted(graph.__dask_annotations__()), len(graph.__dask_graph__()), {{"torch", "numba"}} & sys.modules.keys())
"""
    printed = subprocess.check_output([sys.executable, "-c", program], text=True)
    assert printed.strip() == "['priority', 'resources'] 22 set()"
