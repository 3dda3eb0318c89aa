"""What every executor offers, and what it reports about a task that has ended."""

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
        lost: how the task was lost without an error of its own: 'worker died', as often as Dask tries it, or 'cut off', if nobody
            knows what became of it; '' if it was not.
        worker: that ran it; '' where that is not known, or there are none.
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
        """Bytes that each thread may use where there is least; None if that is not known."""

    def check_workers(self, folder: str, run_id: str, image_file: str) -> None:
        """Set aside workers that cannot work on this run, now and whenever others join.

        Args:
            folder, run_id: of the run, which has begun.
            image_file: one of those that are read.

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
        """Start `task(*arguments)`, with the next `wait` at the latest, on another worker than the one to `avoid` if there is one.

        Args:
            kind, counters: what it is, and which stacks it is about.
            task: a function of a module, which workers import.
            arguments: of types that a scheduler knows without this package.
        """

    def call_everywhere(self, function: Callable[..., Any], *arguments: Any, patience: float = USUAL_PATIENCE) -> None:
        """Call a function of a module at once, in each process that runs tasks.

        Args:
            function, arguments: as for `submit`.
            patience: seconds to wait for processes that do not answer.
        """

    def wait(self, seconds: float) -> list[TaskResult]:
        """Tasks that ended, waiting for at least one of them up to this long."""

    def state(self) -> str:
        """Which tasks run where, and what may be missing, for a user who sees no progress."""

    def close(self) -> None:
        """Drop what has not begun, and wait for what has. May be called again."""
