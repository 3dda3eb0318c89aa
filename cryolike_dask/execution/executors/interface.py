"""What every executor offers, and what it reports about a task that has ended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

TaskKind = Literal["convert", "publish", "plot"]


@dataclass(frozen=True)
class TaskResult:
    """What became of a task: a value, or an error.

    Args:
        kind: of the task.
        counters: the stacks it was about.
        value: what it returned.
        error: what it raised, or what befell the worker.
        lost: the task was lost with its worker, through no fault of its own that is known; another try may help.
    """

    kind: TaskKind
    counters: tuple[int, ...]
    value: Any = None
    error: BaseException | None = None
    lost: bool = False


class Executor(Protocol):
    """Runs tasks."""

    @property
    def window(self) -> int:
        """How many conversions should be under way at a time."""

    @property
    def memory_per_thread(self) -> int | None:
        """Bytes that each thread may use where there is least; None if that is not known."""

    def submit(
        self, kind: TaskKind, task: Callable[..., Any], folder: str, run_id: str, counters: tuple[int, ...], *more: Any
    ) -> None:
        """Start `task(folder, run_id, counter or counters, *more)`."""

    def wait(self, seconds: float) -> list[TaskResult]:
        """Tasks that ended, waiting for at least one of them up to this long."""

    def close(self) -> None:
        """Drop what has not begun, and wait for what has. May be called again."""


def task_argument(kind: TaskKind, counters: tuple[int, ...]) -> int | tuple[int, ...]:
    """The third argument of a task: all its stacks for publishing, else its one stack."""
    return counters if kind == "publish" else counters[0]
