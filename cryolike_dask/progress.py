"""The progress that conversions and other long operations report; `progress_bars` shows it.

A conversion calls `step` for work before, between and after stacks, `start` once, `stack_done` for each stack in the order of the counters,
and `finish` once in any case. If it fails before it starts, it does not call `start`. Other work, such as a verification, calls only `step`
and `finish`. All calls come from one thread at a time of the process that does the work.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from cryolike_dask.formatting import format_bytes, format_number, rate

Clock = Callable[[], float]
"""Returns monotonic seconds."""


@dataclass(frozen=True)
class StackProgress:
    """One stack that is complete and visible.

    Args:
        counter: number of the stack, from 0.
        n_images: number of its images.
        read_seconds, compute_seconds, write_seconds: time that its worker spent on each step.
        n_bytes: size of its files.
        device_bytes: peak of the CUDA memory of its worker's tensors so far; 0 on a CPU.
    """

    counter: int
    n_images: int
    read_seconds: float
    compute_seconds: float
    write_seconds: float
    n_bytes: int
    device_bytes: int = 0


class Progress(Protocol):
    """The calls by which a conversion reports its progress. Derive your own class from `NoProgress`."""

    def step(self, what: str, done: int = 0, total: int = 0) -> None:
        """Work other than the making of stacks is in progress.

        Args:
            what: name of the work, such as 'Verifying stacks'.
            done, total: number of parts that are done, and of all parts; 0 if the work has no parts.
        """

    def start(self, n_stacks: int, n_images: int) -> None:
        """The conversion begins, and will write this many stacks and images. Stacks that a resumed run keeps are not counted."""

    def stack_done(self, stack: StackProgress) -> None:
        """One more stack is complete."""

    def finish(self, error: BaseException | None) -> None:
        """The conversion ended. With an error it stopped early, possibly before it started."""


ProgressOption = bool | Progress | None
"""What the `progress` argument of public functions may be: see `progress_bars.progress_from`."""


class NoProgress:
    """Progress that is not shown."""

    def step(self, what: str, done: int = 0, total: int = 0) -> None:
        """See `Progress`."""

    def start(self, n_stacks: int, n_images: int) -> None:
        """See `Progress`."""

    def stack_done(self, stack: StackProgress) -> None:
        """See `Progress`."""

    def finish(self, error: BaseException | None) -> None:
        """See `Progress`."""


class Totals:
    """Counts and rates since the start, which all kinds of progress display use."""

    def __init__(self, n_stacks: int, n_images: int, clock: Clock) -> None:
        self.n_stacks, self.n_images = n_stacks, n_images
        self.stacks = self.images = self.n_bytes = self.device_bytes = 0
        self._step_seconds = {"read": 0.0, "compute": 0.0, "write": 0.0}
        self._clock, self._began = clock, clock()

    def add(self, stack: StackProgress) -> None:
        self.stacks += 1
        self.images += stack.n_images
        self.n_bytes += stack.n_bytes
        self.device_bytes = max(self.device_bytes, stack.device_bytes)
        self._step_seconds["read"] += stack.read_seconds
        self._step_seconds["compute"] += stack.compute_seconds
        self._step_seconds["write"] += stack.write_seconds

    @property
    def seconds(self) -> float:
        return self._clock() - self._began

    @property
    def speed(self) -> str:
        """'1,234 images/s, 56 MB/s', or nothing before the first stack."""
        if not self.images or self.seconds <= 0:
            return ""
        return f"{format_number(rate(self.images, self.seconds))} images/s, {format_bytes(rate(self.n_bytes, self.seconds))}/s"

    @property
    def work(self) -> str:
        """'read 25%, compute 50%, write 25%, GPU 1.2 GB': shares of the workers' time, and the largest memory of one device, if any."""
        total = sum(self._step_seconds.values())
        parts = [f"{step} {100 * seconds / total:.0f}%" for step, seconds in self._step_seconds.items()] if total > 0 else []
        if self.device_bytes > 0:
            parts.append(f"GPU {format_bytes(self.device_bytes)}")
        return ", ".join(parts)

    @property
    def seconds_left(self) -> float:
        """Remaining seconds at the speed so far; NaN before the first stack."""
        return self.seconds * rate(self.n_images - self.images, self.images)
