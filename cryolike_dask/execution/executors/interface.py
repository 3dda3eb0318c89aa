"""The interface of all executors, and the outcome of a task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

USUAL_PATIENCE = 8.0
"""Seconds to wait for a process that may be dead."""

TaskKind = Literal["convert", "publish", "plot"]


@dataclass(frozen=True)
class TaskResult:
    """The outcome of a task: a value, or an error.

    Args:
        kind: of the task.
        counters: the stacks of the task.
        value: what it returned.
        error: what it raised, or what happened to the worker.
        lost: '' for a task that ended by itself. 'worker died': its workers died as often as Dask tries a task. 'cut off': it is not known
            how the task ended.
        worker: that ran the task; '' if it is not known, or if there are no workers.
    """

    kind: TaskKind
    counters: tuple[int, ...]
    value: Any = None
    error: BaseException | None = None
    lost: Literal["", "worker died", "cut off"] = ""
    worker: str = ""


class Executor(Protocol):
    """Runs tasks."""

    @property
    def is_this_process(self) -> bool:
        """Whether tasks run in this process, and in no other."""

    @property
    def memory_per_thread(self) -> int | None:
        """Bytes that each thread may use, on the worker with the least memory; None if that is not known."""

    def check_workers(self, folder: str, run_id: str, image_file: str) -> None:
        """Exclude workers that cannot work on this run, now and whenever others join.

        Args:
            folder, run_id: of the run, which has begun.
            image_file: one of the files that the run reads.

        Raises:
            ConversionError: there are workers, but none can be used.
        """

    def window(self, seconds_per_stack: float | None) -> int:
        """How many stacks should be in progress at a time, if one takes this long; None if that is not known yet."""

    def submit(
        self,
        kind: TaskKind,
        counters: tuple[int, ...],
        task: Callable[..., Any],
        *arguments: Any,
        avoid: str = "",
    ) -> None:
        """Start `task(*arguments)`, with the next `wait` at the latest.

        Args:
            kind, counters: the kind of the task, and its stacks.
            task: a function of a module that workers can import.
            arguments: of types that a scheduler knows without this package.
            avoid: address of a worker on which the task should not run if there are others.
        """

    def call_everywhere(self, function: Callable[..., Any], *arguments: Any, patience: float = USUAL_PATIENCE) -> None:
        """Call a function of a module immediately, in each process that runs tasks.

        Args:
            function, arguments: as for `submit`.
            patience: seconds to wait for processes that do not answer.
        """

    def wait(self, seconds: float) -> list[TaskResult]:
        """Tasks that have ended. Waits for at least one of them, for at most so many seconds."""

    def state(self) -> str:
        """A text for a user who sees no progress: which tasks run where, and what may be missing."""

    def close(self) -> None:
        """Drop tasks that have not begun, and wait for the others. May be called again."""
