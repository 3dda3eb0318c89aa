"""Tasks and their results pass between the client and the scheduler many at a time, and none waits for the others."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from distributed import Client

from cryolike_dask.errors import ConversionError, InputError
from cryolike_dask.execution.executors.cluster import ClusterExecutor
from cryolike_dask.execution.executors.interface import TaskResult
from cryolike_dask.execution.run_loop import Outcome, RunLoop
from cryolike_dask.stacks.receipt import StackReceipt
from tests.support.chaos import until
from tests.support.clusters import conversion, make_particles, threads_cluster

N_STACKS = 400
_may_end = threading.Event()
_published: list[int] = []
_both = threading.Barrier(4)
"""Window for two stacks on each of two GPUs."""
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
    """Replaces `publish_stacks_task`."""


def n_messages(client: Client) -> Counter[str]:
    """Counts the requests to the scheduler, by kind."""
    events = [*client.get_events("scheduler"), *client.get_events("all")]
    return Counter(event["action"] for _, event in events if "action" in event)


def return_bytes(n: int) -> bytes:
    return bytes(n)


def fail(counter: int) -> None:
    raise InputError(f"stack {counter} is bad")


def results_of(executor: ClusterExecutor, n: int) -> list[TaskResult]:
    results: list[TaskResult] = []
    while len(results) < n:
        results += executor.wait(30)
    return results


def test_tasks_are_handed_over_many_at_a_time_and_no_receipt_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
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
    assert sent["gather"] == 0


def test_a_result_too_large_for_an_event_is_fetched() -> None:
    with threads_cluster() as client:
        executor = ClusterExecutor(client)
        for counter, n_bytes in enumerate((10, 1_000_000)):
            executor.submit("convert", (counter,), return_bytes, n_bytes)
        returned = {result.counters: result.value for result in results_of(executor, 2)}
        told = [event["key"] for _, event in client.get_events("cryolike-receipts")]
        executor.close()
    assert returned == {(0,): bytes(10), (1,): bytes(1_000_000)}
    assert len(told) == 1


def test_an_error_for_the_user_is_sent_in_an_event() -> None:
    with threads_cluster() as client:
        executor = ClusterExecutor(client)
        executor.submit("convert", (3,), fail, 3)
        before = n_messages(client)
        (result,) = results_of(executor, 1)
        assert (n_messages(client) - before)["gather"] == 0
        executor.close()
    assert isinstance(result.error, InputError)
    assert str(result.error) == "stack 3 is bad"
    assert result.worker


def test_executors_of_one_client_have_their_own_results() -> None:
    with threads_cluster() as client:
        first, second = ClusterExecutor(client), ClusterExecutor(client)
        first.submit("convert", (0,), return_bytes, 1)
        second.submit("convert", (0,), return_bytes, 2)
        before = n_messages(client)
        assert [result.value for result in results_of(first, 1)] == [bytes(1)]
        first.close()
        second.submit("convert", (1,), return_bytes, 3)
        assert sorted(result.value for result in results_of(second, 2)) == [bytes(2), bytes(3)]
        assert (n_messages(client) - before)["gather"] == 0
        second.close()


def test_a_user_may_follow_the_events_of_stacks_meanwhile(tmp_path: Path) -> None:
    """A client has one handler per topic. That of this package must not replace the user's."""
    data = make_particles(tmp_path / "particles", n_images=8)
    followed: list[int] = []
    with threads_cluster() as client:
        client.subscribe_topic("cryolike", lambda event: followed.append(event[1]["stack"]))
        conversion(data, tmp_path / "out").run(client)
        until(lambda: len(followed) == 2, "the events of both stacks")
    assert sorted(followed) == [0, 1]


def test_finished_tasks_are_returned_while_others_run() -> None:
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


def meet_another(counter: int) -> None:
    _both.wait(30)


def test_a_gpu_has_its_stacks_at_a_time_also_on_a_worker_of_one_thread() -> None:
    with threads_cluster(n_workers=2, resources={"GPU": 1}) as client:
        executor = ClusterExecutor(client)
        assert executor.window(None) == 2 * 2 * 2
        for counter in range(8):
            executor.submit("convert", (counter,), meet_another, counter)
        results = results_of(executor, 8)
        executor.close()
    assert [result.error for result in results] == [None] * 8
    assert Counter(result.worker for result in results).most_common(1)[0][1] <= 5


def test_finished_tasks_are_not_lost_if_no_worker_can_be_used_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left() -> dict[str, object]:
        raise ConversionError("none of them can be used")

    with threads_cluster() as client:
        executor = ClusterExecutor(client)
        executor.submit("convert", (0,), return_bytes, 1)
        executor._send()
        (future,) = executor._running
        until(future.done, "the end of the task")
        with monkeypatch.context() as patch:
            patch.setattr(executor._workers, "usable", none_left)
            with pytest.raises(ConversionError, match="none of them"):
                executor.wait(30)
        assert [result.value for result in results_of(executor, 1)] == [bytes(1)]
        executor.close()


def test_publishing_does_not_wait_for_a_worker_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dask itself tries for half a minute to reach it."""

    async def never(address: str, call: tuple[object, ...]) -> None:
        await asyncio.Event().wait()

    with threads_cluster(n_workers=2) as client:
        executor = ClusterExecutor(client)
        monkeypatch.setattr(executor, "_on_worker", never)
        executor.submit("publish", (0, 1), publish_nothing, "", "", (0, 1), ("", ""))
        assert executor.wait(0.1) == []
        (addresses,) = executor._allowed.values()
        client.retire_workers(list(addresses))
        (result,) = results_of(executor, 1)
        executor.close()
    assert (result.kind, result.counters, result.lost) == ("publish", (0, 1), "cut off")
