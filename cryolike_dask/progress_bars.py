"""Shows the progress of conversions and other long operations: on a terminal, in a log file, or in a notebook."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cryolike_dask.errors import InputError
from cryolike_dask.formatting import format_time, plural, printable
from cryolike_dask.html import render
from cryolike_dask.progress import Clock, NoProgress, Progress, ProgressOption, StackProgress, Totals

if TYPE_CHECKING:
    from rich.console import Console

logger = logging.getLogger(__name__)

_WIDE_COLUMNS = 120
"""Width of a terminal from which on the shares of reading, computing and writing are shown, too."""


class LogProgress:
    """Plain lines, at most one every few seconds: for batch jobs and files.

    Args:
        every: minimum number of seconds between two lines about the same work.
        clock: monotonic seconds.
        say: prints a line; by default it goes through `logging`, at the level INFO.
    """

    def __init__(self, every: float = 5.0, clock: Clock = time.monotonic, say: Callable[[str], None] = logger.info) -> None:
        self._every, self._clock, self._say = every, clock, say
        self._totals = Totals(0, 0, clock)
        self._last = clock()
        self._step = ""

    def step(self, what: str, done: int = 0, total: int = 0) -> None:
        """See `Progress`."""
        if what != self._step or (done < total and self._is_time()):
            self._say(_step_line(what, done, total))
            self._step, self._last = what, self._clock()

    def start(self, n_stacks: int, n_images: int) -> None:
        """See `Progress`."""
        self._totals = Totals(n_stacks, n_images, self._clock)
        self._last = self._clock()
        if n_stacks:
            self._say(f"Converting {plural(n_images, 'image')} to {plural(n_stacks, 'stack')}.")

    def stack_done(self, stack: StackProgress) -> None:
        """See `Progress`."""
        totals = self._totals
        totals.add(stack)
        done = totals.stacks == totals.n_stacks
        if not done and not self._is_time():
            return
        self._last = self._clock()
        share = totals.images / totals.n_images if totals.n_images else 1.0
        parts = [
            f"{totals.stacks:,} of {plural(totals.n_stacks, 'stack')} ({100 * share:.0f}%)",
            f"{totals.images:,} of {plural(totals.n_images, 'image')}",
            totals.speed,
            "" if done else f"about {format_time(totals.seconds_left)} left",
        ]
        self._say(", ".join(filter(None, parts)))

    def finish(self, error: BaseException | None) -> None:
        """See `Progress`. The report, or the error, tells the rest."""

    def _is_time(self) -> bool:
        return self._clock() - self._last >= self._every


class RichProgress:
    """A bar on the terminal with images/s, MB/s and the time left; on a wide terminal also the shares of each step, and device memory.

    With `NO_COLOR` in the environment, it has no colours.

    Args:
        console: where to draw; by default standard error, so that standard output stays free for results.
        clock: monotonic seconds.
    """

    def __init__(self, console: Console | None = None, clock: Clock = time.monotonic) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        self._clock = clock
        self._totals = Totals(0, 0, clock)
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
        self._step: Any = None

    def step(self, what: str, done: int = 0, total: int = 0) -> None:
        """See `Progress`."""
        line = _step_line(what, done, total)
        if self._step is None:
            self._step = self._bar.add_task("", total=total or None, completed=done, stacks=line, speed="", work="", left="")
            self._bar.start()
        else:
            self._bar.update(self._step, stacks=line, completed=done, total=total or None)

    def start(self, n_stacks: int, n_images: int) -> None:
        """See `Progress`."""
        self._totals = Totals(n_stacks, n_images, self._clock)
        self._end_step()
        if n_stacks:
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
        """See `Progress`. The report, or the error, tells the rest."""
        self._end_step()
        self._bar.stop()

    def _end_step(self) -> None:
        if self._step is not None:
            self._bar.remove_task(self._step)
            self._step = None


class NotebookProgress:
    """A bar in a notebook's output cell, redrawn in place.

    Args:
        every: minimum number of seconds between two drawings.
        clock: monotonic seconds.
        display: shows an object under a handle, and returns the handle; by default IPython's own function.
    """

    def __init__(self, every: float = 0.2, clock: Clock = time.monotonic, display: Callable[[Any], Any] | None = None) -> None:
        self._every, self._clock = every, clock
        self._display = display or _ipython_display
        self._totals = Totals(0, 0, clock)
        self._last = clock()
        self._handle: Any = None
        self._what = ""

    def step(self, what: str, done: int = 0, total: int = 0) -> None:
        """See `Progress`."""
        if what != self._what or self._is_time():
            self._what = what
            self._show("running", done / total if total else self._share, _step_line(what, done, total))

    def start(self, n_stacks: int, n_images: int) -> None:
        """See `Progress`."""
        self._totals = Totals(n_stacks, n_images, self._clock)
        if n_stacks:
            self._show("running", 0.0, f"Converting {plural(n_images, 'image')}")

    def stack_done(self, stack: StackProgress) -> None:
        """See `Progress`."""
        self._totals.add(stack)
        if self._is_time():
            left = f"about {format_time(self._totals.seconds_left)} left"
            done = f"{self._totals.images:,} of {plural(self._totals.n_images, 'image')}, {self._totals.speed}, {left}"
            self._show("running", self._share, done, self._totals.work)

    def finish(self, error: BaseException | None) -> None:
        """See `Progress`. The report, or the error, tells the rest."""
        if self._handle is None:
            return
        totals = self._totals
        stacks = f"{totals.stacks:,} of {plural(totals.n_stacks, 'stack')}"
        lines = [stacks, totals.speed] if totals.n_stacks else [self._what]
        self._show("done" if error is None else "failed", 1.0 if error is None else self._share, ", ".join(filter(None, lines)))

    @property
    def _share(self) -> float:
        return self._totals.images / self._totals.n_images if self._totals.n_images else 0.0

    def _is_time(self) -> bool:
        return self._clock() - self._last >= self._every

    def _show(self, state: str, share: float, *lines: str) -> None:
        self._last = self._clock()
        drawn = _Html(render("progress", state=state, percent=100 * share, lines=lines))
        if self._handle is None:
            self._handle = self._display(drawn)
        else:
            self._handle.update(drawn)


@dataclass(frozen=True)
class _Html:
    """An object that a notebook shows by its markup."""

    markup: str

    def _repr_html_(self) -> str:
        return self.markup


def progress_from(progress: ProgressOption) -> Progress:
    """The progress display for the `progress` argument of a public function.

    Args:
        progress: True for a bar in a notebook or on a terminal, and lines on standard error elsewhere; False for nothing; an object with
            the methods of `Progress`; None for a bar in a notebook or on a terminal, and elsewhere lines through `logging` only.

    Raises:
        InputError: it is none of these.
    """
    if progress is False:
        return NoProgress()
    if progress is None or progress is True:
        if _in_notebook():
            return NotebookProgress()
        if sys.stderr.isatty():
            return RichProgress()
        return LogProgress(say=logger.info if progress is None or _log_is_shown() else _print_line)
    if missing := [name for name in ("step", "start", "stack_done", "finish") if not callable(getattr(progress, name, None))]:
        raise InputError(
            f"progress is {progress!r}, which has no method {missing[0]}: give True, False, or an object derived from "
            "cryolike_dask.progress.NoProgress."
        )
    return progress


@contextmanager
def showing(progress: ProgressOption) -> Iterator[Progress]:
    """A context with the progress display for a `progress` argument. Its `finish` is always called at the end."""
    shown = progress_from(progress)
    error: BaseException | None = None
    try:
        yield shown
    except BaseException as failure:
        error = failure
        raise
    finally:
        shown.finish(error)


def _log_is_shown() -> bool:
    return logger.hasHandlers() and logger.isEnabledFor(logging.INFO)


def _print_line(text: str) -> None:
    sys.stderr.write(f"{printable(text)}\n")
    sys.stderr.flush()


def _step_line(what: str, done: int, total: int) -> str:
    """'Verifying stacks: 3 of 16', or 'Closing the cluster ...'."""
    return f"{what}: {min(done, total):,} of {total:,}" if total else f"{what} ..."


def _in_notebook() -> bool:
    # A notebook has imported IPython. Otherwise it is not imported, so that scripts start fast.
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and hasattr(shell, "kernel")


def _ipython_display(shown: Any) -> Any:
    from IPython.display import display

    return display(shown, display_id=True)
