"""How far a conversion is, shown to a person: on a terminal, in a log file, or in a notebook."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cryolike_dask.formatting import format_bytes, format_number, format_time, plural, rate
from cryolike_dask.html import render
from cryolike_dask.progress import NoProgress, Progress, StackProgress

if TYPE_CHECKING:
    from rich.console import Console

logger = logging.getLogger(__name__)

Clock = Callable[[], float]

_WIDE_COLUMNS = 120
"""Columns of a terminal that leave room for where the time goes."""


class _Totals:
    """Counts and rates since the start, shared by the ways of showing them."""

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
        """'read 25%, compute 50%, write 25%, GPU 1.2 GB': shares of the workers' time, and the most memory of one device, if any."""
        total = sum(self._step_seconds.values())
        parts = [f"{step} {100 * seconds / total:.0f}%" for step, seconds in self._step_seconds.items()] if total > 0 else []
        if self.device_bytes > 0:
            parts.append(f"GPU {format_bytes(self.device_bytes)}")
        return ", ".join(parts)

    @property
    def seconds_left(self) -> float:
        """Seconds to go at the speed so far; NaN before the first stack."""
        return self.seconds * rate(self.n_images - self.images, self.images)

    def summary(self, error: BaseException | None) -> str:
        """One sentence for the end."""
        done = f"{plural(self.images, 'image')} in {plural(self.stacks, 'stack')}, {format_time(self.seconds)}"
        speed = f" ({self.speed})" if self.speed else ""
        if error is None:
            return f"Converted {done}{speed}."
        return f"Stopped after {done}: {self.n_stacks - self.stacks:,} of {plural(self.n_stacks, 'stack')} not written."


class LogProgress:
    """Plain lines through `logging`, at most one every few seconds: for batch jobs and files.

    Args:
        every: least seconds between two lines.
        clock: monotonic seconds.
    """

    def __init__(self, every: float = 5.0, clock: Clock = time.monotonic) -> None:
        self._every, self._clock = every, clock
        self._totals = _Totals(0, 0, clock)
        self._last = clock()

    def start(self, n_stacks: int, n_images: int) -> None:
        """See `Progress`."""
        self._totals = _Totals(n_stacks, n_images, self._clock)
        self._last = self._clock()
        logger.info("Converting %s to %s.", plural(n_images, "image"), plural(n_stacks, "stack"))

    def stack_done(self, stack: StackProgress) -> None:
        """See `Progress`."""
        totals = self._totals
        totals.add(stack)
        if self._clock() - self._last < self._every or totals.stacks == totals.n_stacks:
            return
        self._last = self._clock()
        share = totals.images / totals.n_images if totals.n_images else 1.0
        logger.info(
            "%s of %s (%.0f%%), %s of %s, %s, about %s left",
            f"{totals.stacks:,}",
            plural(totals.n_stacks, "stack"),
            100 * share,
            f"{totals.images:,}",
            plural(totals.n_images, "image"),
            totals.speed,
            format_time(totals.seconds_left),
        )

    def finish(self, error: BaseException | None) -> None:
        """See `Progress`."""
        if self._totals.n_stacks:
            logger.log(logging.INFO if error is None else logging.ERROR, "%s", self._totals.summary(error))


class RichProgress:
    """A bar on the terminal with images/s, MB/s and the time left; on a wide one also where the time goes, and device memory.

    `NO_COLOR` in the environment keeps it plain.

    Args:
        console: where to draw; standard error if not given, so that standard output stays free for results.
        clock: monotonic seconds.
    """

    def __init__(self, console: Console | None = None, clock: Clock = time.monotonic) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        self._clock = clock
        self._totals = _Totals(0, 0, clock)
        self._console = console or Console(stderr=True)
        self._bar = Progress(
            SpinnerColumn(finished_text="[green]✓[/]"),
            TextColumn("{task.fields[stacks]}"),
            BarColumn(bar_width=None, complete_style="cyan", finished_style="green"),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[speed]}", style="dim"),
            TextColumn("{task.fields[work]}", style="dim"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=self._console,
            expand=True,
        )

    def start(self, n_stacks: int, n_images: int) -> None:
        """See `Progress`."""
        self._totals = _Totals(n_stacks, n_images, self._clock)
        self._task = self._bar.add_task("", total=n_images, stacks=f"0/{plural(n_stacks, 'stack')}", speed="", work="", left="")
        self._bar.start()

    def stack_done(self, stack: StackProgress) -> None:
        """See `Progress`."""
        totals = self._totals
        totals.add(stack)
        done = totals.stacks == totals.n_stacks
        self._bar.update(
            self._task,
            completed=totals.images,
            stacks=f"{totals.stacks:,}/{plural(totals.n_stacks, 'stack')}",
            speed=totals.speed,
            work=totals.work if self._console.width >= _WIDE_COLUMNS else "",
            left="" if done else f"{format_time(totals.seconds_left)} left",
        )

    def finish(self, error: BaseException | None) -> None:
        """See `Progress`."""
        self._bar.stop()
        if error is not None and self._totals.n_stacks:
            self._console.print(self._totals.summary(error), style="red", highlight=False)


class NotebookProgress:
    """A bar in a notebook's output cell, redrawn in place.

    Args:
        every: least seconds between two drawings.
        clock: monotonic seconds.
        display: shows an object under a handle and returns the handle; IPython's own if not given.
    """

    def __init__(self, every: float = 0.2, clock: Clock = time.monotonic, display: Callable[[Any], Any] | None = None) -> None:
        self._every, self._clock = every, clock
        self._display = display or _ipython_display
        self._totals = _Totals(0, 0, clock)
        self._last = clock()
        self._handle: Any = None

    def start(self, n_stacks: int, n_images: int) -> None:
        """See `Progress`."""
        self._totals = _Totals(n_stacks, n_images, self._clock)
        self._last = self._clock()
        self._handle = self._display(self._drawn("running", f"Converting {plural(n_images, 'image')}"))

    def stack_done(self, stack: StackProgress) -> None:
        """See `Progress`."""
        self._totals.add(stack)
        if self._clock() - self._last >= self._every:
            self._last = self._clock()
            left = f"about {format_time(self._totals.seconds_left)} left"
            done = f"{self._totals.images:,} of {plural(self._totals.n_images, 'image')}, {self._totals.speed}, {left}"
            self._show("running", done, self._totals.work)

    def finish(self, error: BaseException | None) -> None:
        """See `Progress`."""
        self._show("done" if error is None else "failed", self._totals.summary(error))

    def _show(self, state: str, *lines: str) -> None:
        if self._handle is not None:
            self._handle.update(self._drawn(state, *lines))

    def _drawn(self, state: str, *lines: str) -> _Html:
        share = self._totals.images / self._totals.n_images if self._totals.n_images else 0.0
        return _Html(render("progress", state=state, percent=100 * share, lines=lines))


@dataclass(frozen=True)
class _Html:
    """Shown by its markup where there is a browser, and as nothing much elsewhere."""

    markup: str

    def _repr_html_(self) -> str:
        return self.markup


def progress_for_terminal(quiet: bool = False) -> Progress:
    """What suits this process: a bar on a terminal, plain log lines elsewhere, nothing when `quiet`."""
    if quiet:
        return NoProgress()
    return RichProgress() if sys.stderr.isatty() else LogProgress()


def progress_or_default(progress: Progress | None) -> Progress:
    """The one given; for None a bar inside a notebook, and nothing elsewhere."""
    if progress is not None:
        return progress
    return NotebookProgress() if _in_notebook() else NoProgress()


def _in_notebook() -> bool:
    # Asking IPython only where it is already imported: a script pays nothing.
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and hasattr(shell, "kernel")


def _ipython_display(shown: Any) -> Any:
    from IPython.display import display

    return display(shown, display_id=True)
