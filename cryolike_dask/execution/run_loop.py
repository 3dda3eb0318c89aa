"""The algorithm that runs a conversion, the same for all executors.

A window of stacks is in progress. Stacks may finish in any order, and are published in the order of their counters; those that are ready
together are published by one task. The result of a task is dropped as soon as it is handled, so that the scheduler, the client and the disk
hold only a window of the work, never the complete run.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from cryolike_dask.errors import ConversionError, CryolikeError, RunStoppedError
from cryolike_dask.execution.executors.interface import Executor, TaskResult
from cryolike_dask.execution.executors.waiting import PatientWait
from cryolike_dask.execution.tasks import convert_stack_task, plot_stack_task, publish_stacks_task
from cryolike_dask.formatting import is_or_are, plural
from cryolike_dask.stacks.receipt import WRITTEN_AS_ZEROS, StackReceipt

logger = logging.getLogger(__name__)

_MAX_CUT_OFF = 20
"""How often a task may be lost for an unknown reason."""
_MAX_LOST_ALONE = 2
"""How often a stack may be lost with its worker while nothing else was in progress. After that, the stack is assumed to kill workers."""
_MAX_FAILURES = 20
"""Number of failed stacks after which no new ones begin, because something is probably wrong with all of them."""
_MAX_LISTED = 10


@dataclass
class Outcome:
    """The result of a run.

    Args:
        published: receipts of the stacks that are visible, by counter.
        staged: counters of complete stacks that must wait, because one before them failed.
        failures: what went wrong, by counter.
        warnings: pictures that could not be drawn.
    """

    published: dict[int, StackReceipt] = field(default_factory=dict)
    staged: list[int] = field(default_factory=list)
    failures: dict[int, BaseException] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


class RunLoop:
    """Converts and publishes stacks: decides which tasks to begin, and handles the results of those that ended.

    Args:
        executor: runs the tasks; closed by the caller.
        folder, run_id: of the run.
        counters: stacks to make, ascending. All stacks before them are published.
        without_plots: stacks published earlier that lack pictures, which are then drawn as for new stacks; None to draw no pictures at all.
        on_published: called for each stack, in counter order.
        outcome: filled in during the run, also if it ends with an error. Invariant: if stack k is published, so is every stack of
            `counters` before it.
    """

    def __init__(
        self,
        executor: Executor,
        folder: str,
        run_id: str,
        counters: Sequence[int],
        without_plots: Sequence[int] | None,
        on_published: Callable[[StackReceipt], None],
        outcome: Outcome,
    ) -> None:
        self.executor, self.folder, self.run_id, self.outcome = executor, folder, run_id, outcome
        self.draws = without_plots is not None
        self.on_published = on_published
        self.to_convert, self.to_publish, self.to_plot = deque(counters), deque(counters), deque(without_plots or ())
        self.ready: dict[int, StackReceipt] = {}
        """Receipts of complete stacks that wait to be published."""
        self.n_running = Counter({"convert": 0, "publish": 0, "plot": 0})
        self.suspects: deque[int] = deque()
        """Stacks that were in progress each time a worker died. Each is tried alone, so that no other stack is lost with it."""
        self.alone: int | None = None
        self.n_lost_alone: Counter[int] = Counter()
        self.n_cut_off: Counter[int] = Counter()
        self.tried_elsewhere: set[int] = set()
        self.publishing_failed = False
        self.n_made, self.seconds = 0, 0.0

    def run(self, on_poll: Callable[[], None]) -> None:
        """Run until all work is done, or until nothing more can be done.

        Args:
            on_poll: called every few seconds.

        Raises:
            ConversionError: the executor can no longer run tasks.
        """
        results = PatientWait(self.executor)
        while self.begin_tasks():
            for result in results.next():
                self.handle(result)
            on_poll()
        self.outcome.staged = sorted(self.ready)

    def begin_tasks(self) -> bool:
        """Begin all tasks that may begin now. Returns whether any task is in progress."""
        window = self.executor.window(self.seconds / self.n_made if self.n_made else None)
        if self.suspects and not self.n_running["convert"]:
            self.alone = self.suspects.popleft()
            self._convert(self.alone)
        while self._may_convert() and self.n_running["convert"] < window:
            self._convert(self.to_convert.popleft())
        if not self.n_running["publish"] and not self.publishing_failed:
            self._publish()
        while self.to_plot and self.n_running["plot"] < window:
            self.n_running["plot"] += 1
            self.executor.submit("plot", (counter := self.to_plot.popleft(),), plot_stack_task, self.folder, self.run_id, counter)
        return any(self.n_running.values())

    def handle(self, result: TaskResult) -> None:
        """Handle the result of a task that has ended."""
        self.n_running[result.kind] -= 1
        if result.kind == "convert":
            self._handle_converted(result)
        elif result.kind == "publish":
            self._handle_published(result)
        elif result.error is not None:
            self.outcome.warnings.append(f"The pictures of stack {result.counters[0]:06d} could not be drawn: {result.error}")

    def _may_convert(self) -> bool:
        return bool(self.to_convert) and not self.suspects and self.alone is None and len(self.outcome.failures) < _MAX_FAILURES

    def _convert(self, counter: int, avoid: str = "") -> None:
        self.n_running["convert"] += 1
        self.executor.submit("convert", (counter,), convert_stack_task, self.folder, self.run_id, counter, avoid=avoid)

    def _publish(self) -> None:
        counters = []
        while self.to_publish and self.to_publish[0] in self.ready:
            counters.append(self.to_publish.popleft())
        if counters:
            self.n_running["publish"] += 1
            attempts = tuple(self.ready[counter].attempt for counter in counters)
            self.executor.submit(
                "publish", tuple(counters), publish_stacks_task, self.folder, self.run_id, tuple(counters), attempts
            )

    def _handle_converted(self, result: TaskResult) -> None:
        (counter,) = result.counters
        was_alone = counter == self.alone
        if was_alone:
            self.alone = None
        if result.error is None:
            receipt: StackReceipt = result.value
            self.ready[counter] = receipt
            if not receipt.kept:
                self.n_made += 1
                self.seconds += receipt.read_seconds + receipt.compute_seconds + receipt.write_seconds
        elif result.lost == "worker died":
            self._handle_lost(counter, was_alone, result.error)
        elif result.lost and self.n_cut_off[counter] < _MAX_CUT_OFF:
            self.n_cut_off[counter] += 1
            logger.warning("Stack %06d was lost with its worker (%s); making it again.", counter, result.error)
            self._convert(counter)
        elif result.worker and counter not in self.tried_elsewhere and not isinstance(result.error, RunStoppedError):
            # The cause may be the worker: it may not see a file, or its disk may be full.
            self.tried_elsewhere.add(counter)
            logger.info("Stack %06d failed on %s (%s); trying it once more.", counter, result.worker, result.error)
            self._convert(counter, avoid=result.worker)
        else:
            self._fail(counter, result.error)

    def _handle_lost(self, counter: int, was_alone: bool, error: BaseException) -> None:
        self.n_lost_alone[counter] += was_alone
        if self.n_lost_alone[counter] < _MAX_LOST_ALONE:
            logger.warning("Stack %06d was in progress each time a worker died (%s); trying it alone.", counter, error)
            self.suspects.append(counter)
        else:
            stops = ConversionError(
                f"each worker that made it died, {_MAX_LOST_ALONE} times while nothing else was in progress. Their logs say why: most "
                "likely they had too little memory."
            )
            self._fail(counter, stops)

    def _fail(self, counter: int, error: BaseException) -> None:
        # The failure on the first worker was already logged; the error that ends the run lists this one.
        logger.error("Stack %06d failed%s", counter, " again." if counter in self.tried_elsewhere else f": {error}")
        self.outcome.failures[counter] = error

    def _handle_published(self, result: TaskResult) -> None:
        if result.error is None:
            for counter in result.counters:
                receipt = self.ready.pop(counter)
                self.outcome.published[counter] = receipt
                self.on_published(receipt)
                if self.draws:
                    self.to_plot.append(counter)
        elif result.lost:
            # Publishing is idempotent: it skips what the lost task has already done.
            self.to_publish.extendleft(reversed(result.counters))
        else:
            self.outcome.failures[result.counters[0]] = result.error
            self.publishing_failed = True


def log_warnings(outcome: Outcome) -> None:
    """Log the warnings that the report and the manifest record."""
    zeroed = [line for receipt in outcome.published.values() for line in receipt.zeroed]
    if zeroed:
        lines = "".join(f"\n  {line}" for line in zeroed[:_MAX_LISTED])
        more = f"\n  and {len(zeroed) - _MAX_LISTED:,} more: manifest.json lists all" if len(zeroed) > _MAX_LISTED else ""
        logger.warning(
            "%s %s %s:%s%s", plural(len(zeroed), "image"), "was" if len(zeroed) == 1 else "were", WRITTEN_AS_ZEROS, lines, more
        )
    for line in outcome.warnings:
        logger.warning("%s", line)


def raise_failures(outcome: Outcome, n_left: int) -> None:
    """Raise an error if any stack failed.

    Raises:
        ConversionError: naming each failed stack.
    """
    if not outcome.failures:
        return
    unexpected = next((error for error in outcome.failures.values() if not isinstance(error, CryolikeError)), None)
    lines = "".join(f"\n  stack {counter:06d}: {error}" for counter, error in sorted(outcome.failures.items()))
    n_staged = len(outcome.staged)
    waiting = f" {plural(n_staged, 'later stack')} {is_or_are(n_staged)} complete but not visible before them." if n_staged else ""
    raise ConversionError(
        f"{plural(len(outcome.failures), 'stack')} could not be made; {n_left} {is_or_are(n_left)} not visible yet."
        f"{waiting} Remove the cause, then run again with skip_exist=True (--skip-exist) to continue.{lines}"
    ) from unexpected
