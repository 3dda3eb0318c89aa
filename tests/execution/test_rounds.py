"""How tasks and what they return pass between the client and the scheduler: many at a time, and none waits for the others."""

from __future__ import annotations

import threading
import time
from collections import Counter

import pytest
from distributed import Client

from cryolike_dask.execution.executors.cluster import ClusterExecutor
from cryolike_dask.execution.run_loop import Outcome, RunLoop
from cryolike_dask.stacks.receipt import StackReceipt
from tests.support.clusters import threads_cluster

N_STACKS = 400
_may_end = threading.Event()
_published: list[int] = []
_more_published = threading.Semaphore(0)


def make_nothing(folder: str, run_id: str, counter: int) -> StackReceipt:
    return StackReceipt(counter, 1, 1, 0, 0)


def wait_unless_first(counter: int) -> int:
    if counter:
        assert _may_end.wait(60)
    return counter


def wait_until_all_before_are_published(folder: str, run_id: str, counter: int) -> StackReceipt:
    while counter > len(_published):
        assert _more_published.acquire(timeout=30), "no thread was left to publish on"
    return StackReceipt(counter, 1, 1, 0, 0)


def publish_nothing(folder: str, run_id: str, counters: tuple[int, ...], attempts: tuple[str, ...]) -> None:
    """In place of `publish_stacks_task`."""


def n_messages(client: Client) -> Counter[str]:
    """What the scheduler was asked for, by kind."""
    events = [*client.get_events("scheduler"), *client.get_events("all")]
    return Counter(event["action"] for _, event in events if "action" in event)


def test_tasks_are_handed_over_and_receipts_fetched_many_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cryolike_dask.execution.run_loop.convert_stack_task", make_nothing)
    monkeypatch.setattr("cryolike_dask.execution.run_loop.publish_stacks_task", publish_nothing)
    told: list[int] = []
    with threads_cluster(n_workers=2, threads_per_worker=2) as client:
        before = n_messages(client)
        executor = ClusterExecutor(client)
        RunLoop(executor, "", "", range(N_STACKS), None, lambda receipt: told.append(receipt.counter), Outcome()).run(lambda: None)
        executor.close()
        sent = n_messages(client) - before
    assert told == list(range(N_STACKS))
    assert 1 <= sent["update-graph"] <= N_STACKS / 8
    assert sent["gather"] <= N_STACKS / 8


def test_what_has_ended_is_handed_on_though_others_go_on() -> None:
    _may_end.clear()
    with threads_cluster(threads_per_worker=2) as client:
        executor = ClusterExecutor(client)
        try:
            for counter in range(40):
                executor.submit("convert", (counter,), wait_unless_first, counter)
            began = time.monotonic()
            (result,) = executor.wait(30)
            assert time.monotonic() - began < 10
            assert (result.counters, result.value) == ((0,), 0)
        finally:
            _may_end.set()
            executor.close()


def test_nothing_that_ends_within_the_time_is_no_result() -> None:
    _may_end.clear()
    with threads_cluster() as client:
        executor = ClusterExecutor(client)
        try:
            executor.submit("convert", (1,), wait_unless_first, 1)
            assert executor.wait(0.1) == []
        finally:
            _may_end.set()
            executor.close()


def test_stacks_are_published_while_all_threads_are_busy_with_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cryolike_dask.execution.run_loop.convert_stack_task", wait_until_all_before_are_published)
    monkeypatch.setattr("cryolike_dask.execution.run_loop.publish_stacks_task", publish_nothing)
    _published.clear()

    def publish(receipt: StackReceipt) -> None:
        _published.append(receipt.counter)
        _more_published.release()

    outcome = Outcome()
    with threads_cluster() as client:
        executor = ClusterExecutor(client)
        RunLoop(executor, "", "", range(4), None, publish, outcome).run(lambda: None)
        executor.close()
    assert outcome.failures == {}
    assert _published == [0, 1, 2, 3]
