"""Waiting for tasks, with a log line if there is no progress."""

from __future__ import annotations

import logging
import time

from cryolike_dask.execution.executors.interface import Executor, TaskResult

logger = logging.getLogger(__name__)

POLL_SECONDS = 5.0
SILENT_SECONDS = 30.0
"""After this time without a result, a log line says why."""


class PatientWait:
    """Waits for what an executor runs."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._last = time.monotonic()

    def next(self) -> list[TaskResult]:
        """Tasks that ended within the next few seconds, perhaps none. A long time without any is explained in the log."""
        results = self._executor.wait(POLL_SECONDS)
        now = time.monotonic()
        if results:
            self._last = now
        elif now - self._last >= SILENT_SECONDS:
            logger.warning("Nothing was completed for %.0f s. %s", SILENT_SECONDS, self._executor.state())
            self._last = now
        return results
