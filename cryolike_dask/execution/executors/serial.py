"""One task after the other, in this thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psutil

from cryolike_dask.execution.executors.interface import Done, Kind, subject_of


class SerialExecutor:
    """One task after the other in the calling thread: the oracle for the other executors."""

    window = 1

    def __init__(self) -> None:
        self.memory_a_thread = psutil.virtual_memory().available
        self._done: list[Done] = []

    def submit(self, kind: Kind, task: Callable[..., Any], folder: str, token: str, counters: tuple[int, ...], *more: Any) -> None:
        """See `Executor`."""
        try:
            self._done.append(Done(kind, counters, task(folder, token, subject_of(kind, counters), *more)))
        except Exception as error:  # noqa: BLE001  # whatever a task raises is the driver's to judge
            self._done.append(Done(kind, counters, error=error))

    def wait(self, seconds: float) -> list[Done]:
        """See `Executor`."""
        done, self._done = self._done, []
        return done

    def close(self) -> None:
        """See `Executor`."""
