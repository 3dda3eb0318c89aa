"""Waiting for tasks, with a log line if there is no progress."""

from __future__ import annotations

import logging
import time

from cryolike_dask.execution.executors.interface import Executor, TaskResult

logger = logging.getLogger(__name__)

POLL_SECONDS = 5.0
SILENT_SECONDS = 30.0
"""After so much time without a result, a log line describes the state."""


class PatientWait:
    """Waits for the tasks of an executor."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._last = time.monotonic()

    def next(self) -> list[TaskResult]:
        """Tasks that ended within the next few seconds, possibly none. After a long time without any, a log line describes the state."""
        results = self._executor.wait(POLL_SECONDS)
        now = time.monotonic()
        if results:
            self._last = now
        elif now - self._last >= SILENT_SECONDS:
            logger.warning("Nothing was completed for %.0f s. %s", SILENT_SECONDS, self._executor.state())
            self._last = now
        return results
