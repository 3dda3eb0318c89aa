"""Tasks on the workers of a Dask cluster."""

from __future__ import annotations

import asyncio
import concurrent.futures
import math
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Literal, TypeAlias

import dask
import distributed
from distributed.comm.core import CommClosedError

from cryolike_dask import config
from cryolike_dask.errors import ConversionError, CryolikeError
from cryolike_dask.execution.executors.interface import USUAL_PATIENCE, TaskKind, TaskResult
from cryolike_dask.execution.executors.remote import remote_call_beside_tasks, remote_task
from cryolike_dask.execution.executors.returned import TOPIC, Returned, ReturnedValues
from cryolike_dask.execution.executors.workers import ClusterWorkers
from cryolike_dask.formatting import is_or_are, plural
from cryolike_dask.settings import Device

_dask: Any = dask  # its type information lacks annotations

Calls: TypeAlias = list[tuple[tuple[int, ...], tuple[Any, ...]]]
"""Counters of stacks; module and name of a function, and its arguments."""

_NO_ANSWER = (concurrent.futures.CancelledError, TimeoutError, CommClosedError)
_CLIENT_CLOSED = ("closing", "closed")
_BACKLOG_SECONDS = 120.0
"""Least amount of work for the scheduler, in seconds for one worker. Adaptive clusters grow with the waiting tasks."""
_ASSUMED_SECONDS = 0.5
"""Assumed time per stack before the first one is made, the same as the scheduler assumes for unknown tasks."""
_MAX_BACKLOG = 1000
"""Largest number of stacks in the backlog."""
_SHARE_OF_A_ROUND = 1 / 4
"""Share of the tasks in progress to wait for, so that each round brings some results to the client and new tasks to the scheduler."""
_ROUND_SECONDS = 0.1
"""How long to wait for others after one has ended."""
_LOOK_SECONDS = 0.02
"""Pause between two checks for tasks that have ended."""
_STRANDED_SECONDS = 1.0
"""How often tasks that wait for certain workers are checked. Dask tries for half a minute to reach a worker that died."""
_PRIORITIES: dict[TaskKind, int] = {"convert": 0, "plot": -10}
"""Pictures are drawn after everything else. Publishing is not a task."""


class ClusterExecutor:
    """Workers of a Dask cluster.

    Stacks are made on the workers that declare the GPU resource, if there are any and the device is not 'cpu'; otherwise on all.

    Args:
        client: a synchronous `distributed.Client`; it is not closed here.
        device: that stacks are made on.
    """

    def __init__(self, client: Any, device: Device = "auto") -> None:
        with distributed.span("cryolike"):
            self._span = _dask.get_annotations()["span"]
        self._client, self.is_this_process = client, False
        self._address = client.scheduler.address
        self._running: dict[Any, tuple[TaskKind, tuple[int, ...]]] = {}
        self._allowed: dict[Any, set[str]] = {}
        """For publishing, and for tasks that are restricted to certain workers: these workers."""
        self._to_send: dict[tuple[TaskKind, str], Calls] = {}
        """What was submitted since the last round, by kind and the worker to avoid."""
        self._n_submitted = 0
        self._window_factor = config.positive_integer("window")
        self._workers = ClusterWorkers(client, device)
        self._returned = ReturnedValues(client)  # after everything that can fail, because only `close` removes it
        self._call_beside_tasks = remote_call_beside_tasks()

    def check_workers(self, folder: str, run_id: str, image_file: str) -> None:
        """See `Executor`."""
        with self._scheduler_needed():
            self._workers.check(folder, run_id, image_file)

    def window(self, seconds_per_stack: float | None) -> int:
        """`cryolike.window` times the number of stacks that the cluster can work on at present, and more if stacks are short.

        With GPUs, or with workers that must not be used, nothing is added: the scheduler never queues tasks that are restricted to certain
        workers, and would send out all of them.
        """
        with self._scheduler_needed():
            window = self._window_factor * max(1, self._workers.n_slots())
            bounded = bool(self._workers.with_gpus() or self._workers.unusable)
        if bounded:
            return window
        return max(window, min(_MAX_BACKLOG, math.ceil(_BACKLOG_SECONDS / (seconds_per_stack or _ASSUMED_SECONDS))))

    @property
    def memory_per_thread(self) -> int | None:
        """See `Executor`."""
        with self._scheduler_needed():
            return self._workers.memory_per_thread()

    @contextmanager
    def _scheduler_needed(self) -> Iterator[None]:
        """Turns every error that Dask raises after the loss of its scheduler into one clear error."""
        try:
            yield
        except Exception as error:
            if self._client.status in _CLIENT_CLOSED:
                raise self._scheduler_gone() from error
            raise
        if self._client.status in _CLIENT_CLOSED:
            raise self._scheduler_gone()

    def _scheduler_gone(self) -> ConversionError:
        return ConversionError(
            f"The Dask scheduler at {self._address} is gone. Complete stacks are kept: start a cluster, then run again with "
            "skip_exist=True (--skip-exist) to continue."
        )

    def submit(
        self,
        kind: TaskKind,
        counters: tuple[int, ...],
        task: Callable[..., Any],
        *arguments: Any,
        avoid: str = "",
    ) -> None:
        """See `Executor`."""
        self._to_send.setdefault((kind, avoid), []).append((counters, (task.__module__, task.__name__, *arguments)))

    def _send(self) -> None:
        """Start what was submitted. Tasks of one kind go in one message, because one by one they cost the client 2 ms each."""
        for kind, avoid in list(self._to_send):
            with self._scheduler_needed():
                workers = self._workers.usable()
            if kind != "publish":
                self._send_tasks(kind, workers, avoid, self._to_send.pop((kind, avoid)))
            elif workers:
                self._publish(sorted(workers), self._to_send.pop((kind, avoid)))

    def _send_tasks(self, kind: TaskKind, workers: Iterable[str], avoid: str, submitted: Calls) -> None:
        counters, calls = zip(*submitted, strict=True)
        # Workers are named only if necessary: tasks that may run anywhere are queued by the scheduler until a worker is free.
        others = [address for address in workers if address != avoid]
        allowed = others if others and (self._workers.unusable or avoid in workers) else None
        with self._scheduler_needed(), _dask.annotate(span=self._span):
            resources = self._workers.gpu_resources() if kind == "convert" else None
            futures = self._client.map(
                remote_task(TOPIC, self._returned.id, resources),
                *zip(*calls, strict=True),
                key=[self._new_key(name, of) for (_, name, *_), of in zip(calls, counters, strict=True)],
                pure=False,
                workers=allowed,
                priority=_PRIORITIES[kind],
                resources=resources,
            )
        for future, of in zip(futures, counters, strict=True):
            self._running[future] = (kind, of)
            if allowed is not None:
                self._allowed[future] = set(allowed)

    def _publish(self, workers: list[str], submitted: Calls) -> None:
        """Publish on one of these workers. This is not a task, because all threads of the worker may be busy with stacks for minutes."""
        for counters, call in submitted:
            # Another worker each time, so that a worker that cannot publish is followed by one that can.
            self._n_submitted += 1
            on_worker = self._on_worker(workers[self._n_submitted % len(workers)], call)
            future = asyncio.run_coroutine_threadsafe(on_worker, self._client.loop.asyncio_loop)
            self._running[future] = ("publish", counters)
            self._allowed[future] = {workers[self._n_submitted % len(workers)]}

    async def _on_worker(self, address: str, call: tuple[Any, ...]) -> Returned:
        answers: dict[str, Returned] = await self._client.run(self._call_beside_tasks, *call, workers=[address])
        return answers[address]

    def _new_key(self, task: str, counters: tuple[int, ...]) -> str:
        self._n_submitted += 1
        # The dashboard groups tasks by the words before the first number.
        return f"{task.removesuffix('_task').replace('_', '-')}-{self._n_submitted}-{self._returned.id}-{counters[0]:06d}"

    def call_everywhere(self, function: Callable[..., Any], *arguments: Any, patience: float = USUAL_PATIENCE) -> None:
        """See `Executor`. Workers that do not answer are not waited for."""

        async def call() -> None:
            await self._client.run(
                remote_call_beside_tasks(), function.__module__, function.__name__, *arguments, on_error="ignore"
            )

        with suppress(TimeoutError):
            self._client.sync(call, callback_timeout=patience)

    def wait(self, seconds: float) -> list[TaskResult]:
        """See `Executor`."""
        self._send()
        with self._scheduler_needed():
            ended = self._next_ended(min(seconds, _STRANDED_SECONDS) if self._allowed else seconds)
            # Before any result is taken: if no worker can be used any more, this raises an error, and taken results would be lost.
            usable = self._workers.usable().keys()
            returned = self._returned.take([future for future in _tasks(ended) if future.status == "finished"])
            # The cluster computes tasks again whose results were lost with a worker: these have not ended.
            ended = [future for future in ended if future.done()]
            try:
                return [self._result(future, returned.get(future)) for future in ended] + self._take_back_stranded(usable)
            finally:
                # Released now, because the scheduler computes a result again that the client holds and whose worker dies. Released on the
                # client's event loop, so that it wakes up once, and not once per future.
                self._client.loop.add_callback(lambda: [future.release() for future in _tasks(ended)])

    def _next_ended(self, seconds: float) -> list[Any]:
        """Futures that have ended in any way. Waits for the first one for at most so many seconds.

        If many are in progress, it then waits a moment for more of them: a round costs nearly the same for one as for a hundred.
        """
        until = time.monotonic() + seconds
        enough = 0
        while True:
            # Polled rather than awaited: a poll takes a fraction of a microsecond per task, waiting takes some hundred microseconds.
            ended = [future for future in self._running if future.done()]
            if ended and not enough:
                enough, until = math.ceil(len(self._running) * _SHARE_OF_A_ROUND), time.monotonic() + _ROUND_SECONDS
            if (enough and len(ended) >= enough) or time.monotonic() >= until:
                return ended
            time.sleep(_LOOK_SECONDS)

    def _take_back_stranded(self, usable: Collection[str]) -> list[TaskResult]:
        """Take back tasks whose permitted workers are all gone, while others could do them. (With restrictions that Dask may overrule, it
        would not be necessary, but idle workers would steal tasks that they must not have.)"""
        stranded = [future for future, allowed in self._allowed.items() if usable and allowed.isdisjoint(usable)]
        results = []
        for future in stranded:
            del self._allowed[future]
            kind, counters = self._running.pop(future)
            future.cancel()
            error = ConversionError("the workers on which it could run are gone")
            results.append(TaskResult(kind, counters, error=error, lost="cut off"))
        return results

    def _result(self, future: Any, returned: Returned | None) -> TaskResult:
        kind, counters = self._running.pop(future)
        self._allowed.pop(future, None)
        worker, value, error = "", None, None
        try:
            if returned is None:
                error = future.exception(USUAL_PATIENCE)
            if error is None:
                worker, value = returned or future.result(USUAL_PATIENCE)
        except Exception as failure:  # noqa: BLE001  # the cluster itself failed; the run loop decides
            error, value = failure, None
        if isinstance(value, CryolikeError):
            error, value = value, None
        lost: Literal["", "worker died", "cut off"] = ""
        if isinstance(error, distributed.KilledWorker):
            lost = "worker died"
        elif isinstance(error, _NO_ANSWER) or (kind == "publish" and isinstance(error, OSError)):
            # Publishing turns its own OSErrors into other errors, so this one comes from the connection to the worker.
            lost = "cut off"
        return TaskResult(kind, counters, value, error, lost, worker)

    def state(self) -> str:
        """See `Executor`."""
        with self._scheduler_needed():
            n_usable, workers = len(self._workers.usable()), self._workers.state()
        if not n_usable:
            return (
                f"The cluster at {self._address} has no workers to use. {workers} Start some (`dask worker {self._address}`), or find out "
                "why the requested ones do not start: look at the queue of the batch system, or at their logs."
            )
        tasks = f"{plural(len(self._running), 'task')} {is_or_are(len(self._running))} in progress at {self._address}."
        return f"{tasks} {workers} Dask's dashboard shows what they do: {self._client.dashboard_link}"

    def close(self) -> None:
        """See `Executor`. Waits only a few seconds for workers that do not answer."""
        running = list(self._running)
        self._running.clear()
        self._allowed.clear()
        self._to_send.clear()
        self._returned.close()
        if not running or self._client.status in _CLIENT_CLOSED:
            return
        tasks = _tasks(running)
        with suppress(TimeoutError, concurrent.futures.CancelledError), self._client.as_current():
            distributed.wait(tasks, timeout=USUAL_PATIENCE)
        self._client.cancel(tasks)
        for future in concurrent.futures.wait(_publishing(running), USUAL_PATIENCE).not_done:
            future.cancel()


def _tasks(futures: Iterable[Any]) -> list[Any]:
    """Those of the futures that are Dask tasks."""
    return [future for future in futures if isinstance(future, distributed.Future)]


def _publishing(futures: Iterable[Any]) -> list[concurrent.futures.Future[Any]]:
    """The other futures: calls that publish."""
    return [future for future in futures if isinstance(future, concurrent.futures.Future)]
