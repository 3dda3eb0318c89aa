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

_dask: Any = dask  # whose type information leaves out annotations

Calls: TypeAlias = list[tuple[tuple[int, ...], tuple[Any, ...]]]
"""Counters of stacks; module and name of a function, and its arguments."""

_NO_ANSWER = (concurrent.futures.CancelledError, TimeoutError, CommClosedError)
_CLIENT_CLOSED = ("closing", "closed")
_BACKLOG_SECONDS = 120.0
"""Least work that the scheduler is given: an adaptive cluster grows with the waiting tasks."""
_ASSUMED_SECONDS = 0.5
"""Assumed time per stack before the first one is made, the same as the scheduler assumes for unknown tasks."""
_MAX_BACKLOG = 1000
"""Largest number of stacks in the backlog."""
_SHARE_OF_A_ROUND = 1 / 4
"""Share of the tasks in progress to wait for, so that each round brings some results to the client and new tasks to the scheduler."""
_ROUND_SECONDS = 0.1
"""How long to wait for the others, once one has ended."""
_LOOK_SECONDS = 0.02
"""Between two checks for tasks that have ended."""
_STRANDED_SECONDS = 1.0
"""How often tasks that wait for certain workers are checked. Dask tries for half a minute to reach a worker that died."""
_PRIORITIES: dict[TaskKind, int] = {"convert": 0, "plot": -10}
"""Pictures wait."""


class ClusterExecutor:
    """Workers of a Dask cluster.

    Stacks are made on workers that declare the resource of GPUs, if any does and the device is not 'cpu'; else on all.

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
        """Of tasks that may not run anywhere, and of publishing: the workers that they wait for."""
        self._to_send: dict[tuple[TaskKind, str], Calls] = {}
        """What was submitted since the last round, by kind and the worker to avoid."""
        self._n_submitted = 0
        self._window_factor = config.positive_integer("window")
        self._workers = ClusterWorkers(client, device)
        self._returned = ReturnedValues(client)  # after what can fail: it is closed with the executor
        self._call_beside_tasks = remote_call_beside_tasks()

    def check_workers(self, folder: str, run_id: str, image_file: str) -> None:
        """See `Executor`."""
        with self._scheduler_needed():
            self._workers.check(folder, run_id, image_file)

    def window(self, seconds_per_stack: float | None) -> int:
        """`cryolike.window` times the number of stacks that the cluster can work on at present, and more if stacks are short.

        With GPUs, or workers that must not be used, nothing is added: such tasks are never queued by the scheduler, which would send all
        of them out.
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
            "skip_exist=True (--skip-exist) to go on from here."
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
        """Begin what was submitted; tasks alike in one message: one by one, they cost the client 2 ms each."""
        for kind, avoid in list(self._to_send):
            with self._scheduler_needed():
                workers = self._workers.usable()
            if kind != "publish":
                self._send_tasks(kind, workers, avoid, self._to_send.pop((kind, avoid)))
            elif workers:
                self._publish(sorted(workers), self._to_send.pop((kind, avoid)))

    def _send_tasks(self, kind: TaskKind, workers: Iterable[str], avoid: str, submitted: Calls) -> None:
        counters, calls = zip(*submitted, strict=True)
        # Named only if necessary: the scheduler queues tasks that may run anywhere, and assigns them to workers as they come and go.
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
        """Publish on one of these workers. It is no task: tasks wait for a thread, and all may be busy with stacks for minutes."""
        for counters, call in submitted:
            # Another worker each time: if one cannot publish, the next one does.
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
        # A digit behind the first dash-separated words makes the dashboard show one group a kind of task.
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
            # Before any result is taken: where no worker can be used any more, this is an error, and they would be lost with it.
            usable = self._workers.usable().keys()
            returned = self._returned.take([future for future in _tasks(ended) if future.status == "finished"])
            # What died with its worker, result and all, is made again by the cluster, and waited for like any other.
            ended = [future for future in ended if future.done()]
            try:
                return [self._result(future, returned.get(future)) for future in ended] + self._take_back_stranded(usable)
            finally:
                # Released at once: what the client holds, a dying worker makes the scheduler compute again. Released on the client's loop,
                # so that it is woken once, and not for each.
                self._client.loop.add_callback(lambda: [future.release() for future in _tasks(ended)])

    def _next_ended(self, seconds: float) -> list[Any]:
        """Futures that have ended, whatever the end, waiting for the first up to so long.

        Where many are under way, a part of them is waited for a moment longer: a round costs nearly the same for one as for a hundred.
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
        """Tasks whose workers are all gone, while there are others that could do them. (Restrictions that Dask may overrule would let idle
        workers steal such tasks, and those are the very ones that are not to have them.)"""
        stranded = [future for future, allowed in self._allowed.items() if usable and allowed.isdisjoint(usable)]
        results = []
        for future in stranded:
            del self._allowed[future]
            kind, counters = self._running.pop(future)
            future.cancel()
            error = ConversionError("the workers that it was meant for are gone")
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
            # Publishing turns its own OSErrors into other errors, so this one is from the connection to the worker.
            lost = "cut off"
        return TaskResult(kind, counters, value, error, lost, worker)

    def state(self) -> str:
        """See `Executor`."""
        with self._scheduler_needed():
            n_usable, workers = len(self._workers.usable()), self._workers.state()
        if not n_usable:
            return (
                f"The cluster at {self._address} has no workers to use. {workers} Start some (`dask worker {self._address}`), or look "
                "why those that were asked for do not come up: in the queue of the batch system, or in their logs."
            )
        tasks = f"{plural(len(self._running), 'task')} {is_or_are(len(self._running))} under way at {self._address}."
        return f"{tasks} {workers} Dask's dashboard shows what they do: {self._client.dashboard_link}"

    def close(self) -> None:
        """See `Executor`. A worker that does not answer is not waited for long."""
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
    """Those of these futures that are tasks."""
    return [future for future in futures if isinstance(future, distributed.Future)]


def _publishing(futures: Iterable[Any]) -> list[concurrent.futures.Future[Any]]:
    """The others of them, which are no tasks."""
    return [future for future in futures if isinstance(future, concurrent.futures.Future)]
