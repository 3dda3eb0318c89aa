"""What a conversion reports while it runs; `progress_bars` shows it.

The conversion calls `start` once, `stack_done` for each stack in counter order, and `finish` once, whatever happened; where it fails
before it starts, only `finish`. All calls come from one thread of the process that runs the conversion.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class StackProgress:
    """One stack that is complete and visible.

    Args:
        counter: its number, from 0.
        n_images: images in it.
        read_seconds, compute_seconds, write_seconds: time its worker spent on each.
        n_bytes: bytes written.
        device_bytes: the most CUDA memory that its worker's tensors have taken at once so far; 0 on a CPU.
    """

    counter: int
    n_images: int
    read_seconds: float
    compute_seconds: float
    write_seconds: float
    n_bytes: int
    device_bytes: int = 0


class Progress(Protocol):
    """What a conversion reports about itself."""

    def start(self, n_stacks: int, n_images: int) -> None:
        """The conversion begins; it will write this many stacks and images (what a resumed run keeps is not counted)."""

    def stack_done(self, stack: StackProgress) -> None:
        """One more stack is complete."""

    def finish(self, error: BaseException | None) -> None:
        """The conversion ended; with an error it stopped early, perhaps before it started."""


class NoProgress:
    """Tells nothing."""

    def start(self, n_stacks: int, n_images: int) -> None:
        """See `Progress`."""

    def stack_done(self, stack: StackProgress) -> None:
        """See `Progress`."""

    def finish(self, error: BaseException | None) -> None:
        """See `Progress`."""
