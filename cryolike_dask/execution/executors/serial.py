"""One task after the other, in this thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psutil

from cryolike_dask.execution.executors.interface import USUAL_PATIENCE, TaskKind, TaskResult


class SerialExecutor:
    """One task after the other in the calling thread: the reference for the other executors."""

    is_this_process = True

    def __init__(self) -> None:
        self.memory_per_thread = psutil.virtual_memory().available
        self._results: list[TaskResult] = []

    def check_workers(self, folder: str, run_id: str, image_file: str) -> None:
        """There are none."""

    def window(self, seconds_per_stack: float | None) -> int:
        """See `Executor`."""
        return 1

    def submit(
        self,
        kind: TaskKind,
        counters: tuple[int, ...],
        task: Callable[..., Any],
        *arguments: Any,
        avoid: str = "",
    ) -> None:
        """See `Executor`."""
        try:
            self._results.append(TaskResult(kind, counters, task(*arguments)))
        except Exception as error:  # noqa: BLE001  # the run loop handles all errors of tasks
            self._results.append(TaskResult(kind, counters, error=error))

    def call_everywhere(self, function: Callable[..., Any], *arguments: Any, patience: float = USUAL_PATIENCE) -> None:
        """See `Executor`."""
        function(*arguments)

    def wait(self, seconds: float) -> list[TaskResult]:
        """See `Executor`."""
        results, self._results = self._results, []
        return results

    def state(self) -> str:
        """See `Executor`."""
        return "One stack is made at a time, in this thread."

    def close(self) -> None:
        """See `Executor`."""
