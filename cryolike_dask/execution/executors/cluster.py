"""Tasks on the workers of a Dask cluster."""

from __future__ import annotations

import concurrent.futures
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import dask
import distributed
from distributed.comm.core import CommClosedError

from cryolike_dask import config
from cryolike_dask.errors import ConversionError, CryolikeError
from cryolike_dask.execution.executors.interface import TaskKind, TaskResult, task_argument
from cryolike_dask.settings import Device

_dask: Any = dask  # whose type information leaves out annotations

_WORKER_BYTES = 400 << 20
"""What a worker process takes once all libraries are loaded."""
_WORKERS_CACHE_SECONDS = 1.0
"""How long what the scheduler said of its workers is taken for true."""
_CLIENT_CLOSED = ("closing", "closed")
_DEAD_WORKER_TIMEOUT_SECONDS = 8.0
"""How long a worker is waited for that may be dead."""


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
        self._window_factor = config.positive_integer("window")
        self._gpu = config.text("gpu.resource") if device != "cpu" else ""
        self._stacks_per_gpu = config.positive_integer("gpu.stacks")
        self._workers: list[dict[str, Any]] = []
        self._workers_read_at = -_WORKERS_CACHE_SECONDS

    @property
    def window(self) -> int:
        """`cryolike.window` times the stacks that the cluster can work on as it is now; it may grow and shrink."""
        # Beyond a window the scheduler would hold the whole run, and tasks with resources are never queued by it.
        workers = self._read_workers()
        gpus = self._gpu_workers(workers)
        if gpus:
            slots = sum(min(w["nthreads"], int(w["resources"][self._gpu] * self._stacks_per_gpu)) for w in gpus)
        else:
            slots = sum(w["nthreads"] for w in workers)
        return self._window_factor * max(1, int(slots))

    @property
    def memory_per_thread(self) -> int | None:
        """Of the workers that are there now, less what a worker needs before it does anything."""
        workers = self._read_workers()
        limits = [
            (w["memory_limit"] - _WORKER_BYTES) // max(1, w["nthreads"])
            for w in self._gpu_workers(workers) or workers
            if w.get("memory_limit")
        ]
        return min(limits, default=None)

    def _read_workers(self) -> list[dict[str, Any]]:
        with self._scheduler_needed():
            if time.monotonic() - self._workers_read_at >= _WORKERS_CACHE_SECONDS:
                self._workers = list(self._client.scheduler_info(n_workers=-1)["workers"].values())
                self._workers_read_at = time.monotonic()
        return self._workers

    def _gpu_workers(self, workers: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [w for w in workers if self._gpu and w.get("resources", {}).get(self._gpu, 0) > 0]

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
        self, kind: TaskKind, task: Callable[..., Any], folder: str, run_id: str, counters: tuple[int, ...], *more: Any
    ) -> None:
        """See `Executor`."""
        self._n_submitted += 1
        # A digit behind the first dash-separated words makes the dashboard show one group a kind of task.
        key = f"{task.__name__.removesuffix('_task').replace('_', '-')}-{self._n_submitted}-{run_id}-{counters[0]:06d}"
        needs_gpu = kind == "convert" and self._gpu_workers(self._read_workers())
        resources = {self._gpu: 1 / self._stacks_per_gpu} if needs_gpu else None
        with self._scheduler_needed(), _dask.annotate(span=self._span):
            future = self._client.submit(
                _return_user_errors,
                task,
                folder,
                run_id,
                task_argument(kind, counters),
                *more,
                key=key,
                pure=False,
                # What is nearly finished goes first: staged stacks become visible, and pictures wait.
                priority={"publish": 10, "convert": 0, "plot": -10}[kind],
                resources=resources,
            )
        self._running[future] = (kind, counters)

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
            return [self._result(future) for future in finished]

    def _result(self, future: Any) -> TaskResult:
        kind, counters = self._running.pop(future)
        try:
            error = None if future.status == "finished" else future.exception(_DEAD_WORKER_TIMEOUT_SECONDS)
            # The worker that holds the receipt may be dead, and none there to make it again: it is not waited for.
            value = future.result(_DEAD_WORKER_TIMEOUT_SECONDS) if error is None else None
        except Exception as failure:  # noqa: BLE001  # the cluster itself failed; the run loop decides
            error, value = failure, None
        else:
            if isinstance(value, CryolikeError):
                error, value = value, None
        finally:
            # Released at once: what the client holds, a dying worker makes the scheduler compute again.
            future.release()
        lost = isinstance(error, (distributed.KilledWorker, concurrent.futures.CancelledError, TimeoutError, CommClosedError))
        return TaskResult(kind, counters, value, error, lost)

    def close(self) -> None:
        """See `Executor`. A worker that does not answer is not waited for long."""
        running = list(self._running)
        self._running.clear()
        if not running or self._client.status in _CLIENT_CLOSED:
            return
        with suppress(TimeoutError, concurrent.futures.CancelledError), self._client.as_current():
            distributed.wait(running, timeout=_DEAD_WORKER_TIMEOUT_SECONDS)
        self._client.cancel(running)


def _return_user_errors(task: Callable[..., Any], *arguments: Any) -> Any:
    """What the task returns, or the error that it raises for the user: a worker would log a raised one with a traceback."""
    try:
        return task(*arguments)
    except CryolikeError as error:
        return error
