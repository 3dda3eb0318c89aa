"""Tasks in threads of this process."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable
from typing import Any

import psutil

from cryolike_dask.config import available_cores
from cryolike_dask.execution.executors.interface import USUAL_PATIENCE, TaskKind, TaskResult
from cryolike_dask.formatting import is_or_are, plural


class ThreadExecutor:
    """Threads of this process. The work holds Python's global lock only for a small part of the time.

    Args:
        n_threads: number of stacks converted at a time; by default the number of cores that this process may use.
    """

    is_this_process = True

    def __init__(self, n_threads: int | None = None) -> None:
        n_threads = n_threads or available_cores()
        self._n_threads = n_threads
        self.memory_per_thread = psutil.virtual_memory().available // n_threads
        self._workers = concurrent.futures.ThreadPoolExecutor(n_threads, thread_name_prefix="cryolike-convert")
        # Publishing waits for the disk, so it has a thread of its own.
        self._publisher = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="cryolike-publish")
        self._running: dict[concurrent.futures.Future[Any], tuple[TaskKind, tuple[int, ...]]] = {}

    def check_workers(self, folder: str, run_id: str, image_file: str) -> None:
        """There are none but this process."""

    def window(self, seconds_per_stack: float | None) -> int:
        """See `Executor`."""
        return 2 * self._n_threads

    def submit(
        self,
        kind: TaskKind,
        counters: tuple[int, ...],
        task: Callable[..., Any],
        *arguments: Any,
        avoid: str = "",
    ) -> None:
        """See `Executor`."""
        pool = self._publisher if kind == "publish" else self._workers
        self._running[pool.submit(task, *arguments)] = (kind, counters)

    def call_everywhere(self, function: Callable[..., Any], *arguments: Any, patience: float = USUAL_PATIENCE) -> None:
        """See `Executor`."""
        function(*arguments)

    def wait(self, seconds: float) -> list[TaskResult]:
        """See `Executor`."""
        finished, _ = concurrent.futures.wait(self._running, seconds, concurrent.futures.FIRST_COMPLETED)
        results = []
        for future in finished:
            kind, counters = self._running.pop(future)
            error = future.exception()
            results.append(TaskResult(kind, counters, None if error else future.result(), error))
        return results

    def state(self) -> str:
        """See `Executor`."""
        return f"{plural(len(self._running), 'task')} {is_or_are(len(self._running))} in progress in {plural(self._n_threads, 'thread')}."

    def close(self) -> None:
        """See `Executor`."""
        self._workers.shutdown(cancel_futures=True)
        self._publisher.shutdown(cancel_futures=True)
