"""Tasks on the workers of a Dask cluster."""

from __future__ import annotations

import concurrent.futures
import logging
import math
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Literal

import dask
import distributed
from distributed.comm.core import CommClosedError

from cryolike_dask import __version__, config
from cryolike_dask.errors import ConversionError, CryolikeError
from cryolike_dask.execution.executors.interface import TaskKind, TaskResult
from cryolike_dask.execution.executors.remote import remote_call, remote_check, remote_task
from cryolike_dask.formatting import is_or_are, plural
from cryolike_dask.settings import Device

logger = logging.getLogger(__name__)

_dask: Any = dask  # whose type information leaves out annotations

_WORKER_BYTES = 400 << 20
"""What a worker process takes once all libraries are loaded."""
_WORKERS_CACHE_SECONDS = 1.0
"""How long what the scheduler said of its workers is taken for true."""
_CLIENT_CLOSED = ("closing", "closed")
_DEAD_WORKER_TIMEOUT_SECONDS = 8.0
"""How long a worker is waited for that may be dead."""
_CHECK_TIMEOUT_SECONDS = 60.0
"""How long workers may take to say whether they can work on a run: they import all libraries for that."""
_BACKLOG_SECONDS = 120.0
"""Work that the scheduler is offered at least: an adaptive cluster grows by what it sees waiting."""
_MAX_BACKLOG = 1000
"""Stacks that are offered for the sake of the backlog, at most."""


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
        self._client = client
        self._address = client.scheduler.address
        self._running: dict[Any, tuple[TaskKind, tuple[int, ...]]] = {}
        self._n_submitted = 0
        self._id = uuid.uuid4().hex[:12]
        self._window_factor = config.positive_integer("window")
        self._device = device
        self._gpu = config.text("gpu.resource") if device != "cpu" else ""
        self._stacks_per_gpu = config.positive_integer("gpu.stacks")
        self._workers: dict[str, dict[str, Any]] = {}
        self._workers_read_at = -_WORKERS_CACHE_SECONDS
        self._run_task = remote_task()
        self._check: tuple[str, str, str] | None = None
        self._checked: set[str] = set()
        self._unusable: dict[str, str] = {}
        self._seen: set[str] = set()

    def check_workers(self, folder: str, run_id: str, image_file: str) -> None:
        """See `Executor`."""
        self._check = (folder, run_id, image_file)
        self._read_workers()

    def window(self, seconds_per_stack: float | None) -> int:
        """`cryolike.window` times the stacks that the cluster can work on as it is now, and more where they are short.

        With GPUs nothing is added: tasks with resources are never queued by the scheduler, which would send all of them out.
        """
        workers = self._read_workers()
        gpus = self._gpu_workers(workers)
        if gpus:
            slots = sum(min(w["nthreads"], int(w["resources"][self._gpu] * self._stacks_per_gpu)) for w in gpus)
        else:
            slots = sum(w["nthreads"] for w in workers.values())
        window = self._window_factor * max(1, int(slots))
        if gpus or not seconds_per_stack:
            return window
        return max(window, min(_MAX_BACKLOG, math.ceil(_BACKLOG_SECONDS / seconds_per_stack)))

    @property
    def memory_per_thread(self) -> int | None:
        """Of the workers that are there now, less what a worker needs before it does anything."""
        workers = self._read_workers()
        limits = [
            (w["memory_limit"] - _WORKER_BYTES) // max(1, w["nthreads"])
            for w in self._gpu_workers(workers) or workers.values()
            if w.get("memory_limit")
        ]
        return min(limits, default=None)

    def _read_workers(self) -> dict[str, dict[str, Any]]:
        """The workers that can be used, as the scheduler knows them, by address."""
        with self._scheduler_needed():
            if time.monotonic() - self._workers_read_at >= _WORKERS_CACHE_SECONDS:
                self._workers = dict(self._client.scheduler_info(n_workers=-1)["workers"])
                self._workers_read_at = time.monotonic()
                self._seen |= self._workers.keys()
            if self._check is not None and not self._workers.keys() <= self._checked:
                self._set_unusable_aside(self._workers.keys() - self._checked, self._check)
        return {address: worker for address, worker in self._workers.items() if address not in self._unusable}

    def _set_unusable_aside(self, addresses: set[str], arguments: tuple[str, str, str]) -> None:
        self._checked |= addresses
        # Where some workers declare GPUs, the others only publish and draw.
        gpus = {address for address, worker in self._workers.items() if self._gpu_workers({address: worker})}
        computing = addresses & (gpus or addresses)

        async def ask() -> dict[str, Any]:
            answers: dict[str, Any] = {}
            for device, asked in ((self._device, computing), ("cpu", addresses - computing)):
                if asked:
                    check = (remote_check(), __version__, *arguments, device)
                    answers |= await self._client.run(*check, workers=sorted(asked), on_error="return")
            return answers

        try:
            answers = self._client.sync(ask, callback_timeout=_CHECK_TIMEOUT_SECONDS)
        except TimeoutError:
            logger.warning("Workers did not say within %g s whether they can work on this run.", _CHECK_TIMEOUT_SECONDS)
            return
        for address, answer in answers.items():
            # A worker that went away meanwhile answers with an error of its connection.
            if answer and not isinstance(answer, OSError):
                name = self._workers.get(address, {}).get("name", address)
                self._unusable[address] = f"Worker {name} ({address}) is not used: {answer}."
                logger.warning(self._unusable[address])
        if self._workers and self._workers.keys() <= self._unusable.keys():
            reasons = sorted({self._unusable[address] for address in self._workers})
            more = f"\n  and {len(reasons) - 3} more" if len(reasons) > 3 else ""
            raise ConversionError(
                f"None of the {plural(len(self._workers), 'worker')} at {self._address} can work on this run:"
                + "".join(f"\n  {reason}" for reason in reasons[:3])
                + more
            )

    def _gpu_workers(self, workers: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
        return [w for w in workers.values() if self._gpu and w.get("resources", {}).get(self._gpu, 0) > 0]

    @contextmanager
    def _scheduler_needed(self) -> Iterator[None]:
        """Turns whatever Dask says when its scheduler is gone into one clear error."""
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
            f"The Dask scheduler at {self._address} is gone. What is complete stays: start a cluster, then run again with "
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
        self._n_submitted += 1
        # A digit behind the first dash-separated words makes the dashboard show one group a kind of task.
        key = f"{task.__name__.removesuffix('_task').replace('_', '-')}-{self._n_submitted}-{self._id}-{counters[0]:06d}"
        workers = self._read_workers()
        needs_gpu = kind == "convert" and self._gpu_workers(workers)
        resources = {self._gpu: 1 / self._stacks_per_gpu} if needs_gpu else None
        # Named only where it matters: tasks that may run anywhere are queued by the scheduler, and follow workers that come and go.
        others = [address for address in workers if address != avoid]
        allowed = others if others and (self._unusable or avoid in workers) else None
        with self._scheduler_needed(), _dask.annotate(span=self._span):
            future = self._client.submit(
                self._run_task,
                task.__module__,
                task.__name__,
                *arguments,
                key=key,
                pure=False,
                workers=allowed,
                # What is nearly finished goes first: staged stacks become visible, and pictures wait.
                priority={"publish": 10, "convert": 0, "plot": -10}[kind],
                resources=resources,
            )
        self._running[future] = (kind, counters)

    def call_everywhere(self, function: Callable[..., Any], *arguments: Any) -> None:
        """See `Executor`. Workers that do not answer are not waited for."""

        async def call() -> None:
            await self._client.run(remote_call(), function.__module__, function.__name__, *arguments, on_error="ignore")

        with suppress(TimeoutError):
            self._client.sync(call, callback_timeout=_DEAD_WORKER_TIMEOUT_SECONDS)

    def wait(self, seconds: float) -> list[TaskResult]:
        """See `Executor`."""
        with self._scheduler_needed():
            try:
                with self._client.as_current():
                    finished = distributed.wait(list(self._running), timeout=seconds, return_when="FIRST_COMPLETED").done
            except TimeoutError:
                return []
            except concurrent.futures.CancelledError:
                # Futures are cancelled when the connection to the scheduler is lost, or when somebody restarts the cluster.
                finished = [future for future in self._running if future.status != "pending"]
            returned = self._gather([future for future in finished if future.status == "finished"])
            # What died with its worker, result and all, is made again by the cluster, and waited for like any other.
            return [self._result(future, returned.get(future)) for future in finished if future.status != "pending"]

    def _gather(self, futures: list[Any]) -> dict[Any, tuple[str, Any]]:
        """What these tasks returned, fetched in one go; what cannot be had soon is left out."""

        async def gather() -> list[Any]:
            # A worker that holds a receipt may be dead, and none there to make it again: it is not waited for.
            return list(await self._client.gather(futures))

        if not futures:
            return {}
        try:
            return dict(zip(futures, self._client.sync(gather, callback_timeout=_DEAD_WORKER_TIMEOUT_SECONDS), strict=True))
        except Exception:  # noqa: BLE001  # one of them is lost: each is asked for alone, and says what became of it
            return {}

    def _result(self, future: Any, returned: tuple[str, Any] | None) -> TaskResult:
        kind, counters = self._running.pop(future)
        worker, value, error = "", None, None
        try:
            # What is not finished may have become so since, when it was made again.
            error = None if future.status == "finished" else future.exception(_DEAD_WORKER_TIMEOUT_SECONDS)
            if error is None:
                worker, value = returned or future.result(_DEAD_WORKER_TIMEOUT_SECONDS)
        except Exception as failure:  # noqa: BLE001  # the cluster itself failed; the run loop decides
            error, value = failure, None
        finally:
            # Released at once: what the client holds, a dying worker makes the scheduler compute again.
            future.release()
        if isinstance(value, CryolikeError):
            error, value = value, None
        lost: Literal["", "worker died", "cut off"] = ""
        if isinstance(error, distributed.KilledWorker):
            lost = "worker died"
        elif isinstance(error, (concurrent.futures.CancelledError, TimeoutError, CommClosedError)):
            lost = "cut off"
        return TaskResult(kind, counters, value, error, lost, worker)

    def state(self) -> str:
        """See `Executor`."""
        workers = self._read_workers()
        aside = f" {plural(len(self._unusable), 'worker')} {is_or_are(len(self._unusable))} not used." if self._unusable else ""
        n_gone = len(self._seen - self._workers.keys())
        gone = f" {plural(n_gone, 'worker')} {is_or_are(n_gone)} gone: if they died, their logs say why." if n_gone else ""
        if not workers:
            return (
                f"The cluster at {self._address} has no workers.{gone}{aside} Start some (`dask worker {self._address}`), or look why "
                "those that were asked for do not come up: in the queue of the batch system, or in their logs."
            )
        return (
            f"{plural(len(workers), 'worker')} at {self._address} {is_or_are(len(workers))} busy with "
            f"{plural(len(self._running), 'task')}.{gone}{aside} Dask's dashboard shows what they do: {self._client.dashboard_link}"
        )

    def close(self) -> None:
        """See `Executor`. A worker that does not answer is not waited for long."""
        running = list(self._running)
        self._running.clear()
        if not running or self._client.status in _CLIENT_CLOSED:
            return
        with suppress(TimeoutError, concurrent.futures.CancelledError), self._client.as_current():
            distributed.wait(running, timeout=_DEAD_WORKER_TIMEOUT_SECONDS)
        self._client.cancel(running)
