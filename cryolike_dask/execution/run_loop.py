"""The one algorithm that runs a conversion, whatever runs its tasks.

A window of stacks is under way; stacks may finish in any order; they are published in counter order, those that are ready together
in one task; what a task returned is dropped at once. So the scheduler, the client and the disk hold a window of work, never the run.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from cryolike_dask.errors import ConversionError, CryolikeError
from cryolike_dask.execution.executors.interface import Executor, TaskResult
from cryolike_dask.execution.tasks import convert_stack_task, plot_stack_task, publish_stacks_task
from cryolike_dask.formatting import is_or_are, plural
from cryolike_dask.stacks.receipt import StackReceipt

logger = logging.getLogger(__name__)

_MAX_ATTEMPTS = 20
"""How often a stack may be lost with its worker. More means that the stack itself kills workers."""
_MAX_FAILURES = 20
"""Failed stacks after which no new ones are begun: something is wrong with all of them."""
_POLL_SECONDS = 5.0


@dataclass
class Outcome:
    """What a run achieved.

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


def convert_and_publish(
    executor: Executor,
    folder: str,
    run_id: str,
    counters: Sequence[int],
    without_plots: Sequence[int] | None,
    on_published: Callable[[StackReceipt], None],
    on_poll: Callable[[], None],
    outcome: Outcome,
) -> None:
    """Convert and publish these stacks.

    Args:
        executor: runs the tasks; closed by the caller.
        folder, run_id: of the run.
        counters: stacks to make, ascending, none published yet before them missing.
        without_plots: stacks published earlier that lack pictures, which are drawn as for new ones; None to draw none at all.
        on_published: called for each stack, in counter order.
        on_poll: called every few seconds.
        outcome: receives what is achieved, also if this ends with an error. Invariant: if stack k is published, so is every stack
            of `counters` before it.

    Raises:
        ConversionError: the executor can run nothing any more.
    """
    to_convert, to_publish, to_plot = deque(counters), deque(counters), deque(without_plots or ())
    ready: dict[int, StackReceipt] = {}
    attempts: dict[int, int] = {}
    n_running = {"convert": 0, "publish": 0, "plot": 0}
    publishing_failed = False

    def submit_convert(counter: int) -> None:
        n_running["convert"] += 1
        attempts[counter] = attempts.get(counter, 0) + 1
        executor.submit("convert", convert_stack_task, folder, run_id, (counter,))

    def submit_publish() -> None:
        publishable = []
        while to_publish and to_publish[0] in ready:
            publishable.append(to_publish.popleft())
        if publishable:
            n_running["publish"] += 1
            attempts = tuple(ready[counter].attempt for counter in publishable)
            executor.submit("publish", publish_stacks_task, folder, run_id, tuple(publishable), attempts)

    def handle_result(result: TaskResult) -> None:
        nonlocal publishing_failed
        n_running[result.kind] -= 1
        first = result.counters[0]
        if result.kind == "convert":
            if result.error is None:
                ready[first] = result.value
            elif result.lost and attempts[first] < _MAX_ATTEMPTS:
                logger.warning("Stack %06d was lost with its worker (%s); it is made again.", first, result.error)
                submit_convert(first)
            else:
                logger.error("Stack %06d failed: %s", first, result.error)
                outcome.failures[first] = result.error
        elif result.kind == "publish":
            if result.error is None:
                for counter in result.counters:
                    receipt = ready.pop(counter)
                    outcome.published[counter] = receipt
                    on_published(receipt)
                    if without_plots is not None:
                        to_plot.append(counter)
            elif result.lost:
                # Publishing is idempotent: whatever the lost task did is found done.
                to_publish.extendleft(reversed(result.counters))
            else:
                outcome.failures[first] = result.error
                publishing_failed = True
        elif result.error is not None:
            outcome.warnings.append(f"The pictures of stack {first:06d} could not be drawn: {result.error}")

    while True:
        window = executor.window
        while to_convert and n_running["convert"] < window and len(outcome.failures) < _MAX_FAILURES:
            submit_convert(to_convert.popleft())
        if not n_running["publish"] and not publishing_failed:
            submit_publish()
        while to_plot and n_running["plot"] < window:
            n_running["plot"] += 1
            executor.submit("plot", plot_stack_task, folder, run_id, (to_plot.popleft(),))
        if not any(n_running.values()):
            break
        for result in executor.wait(_POLL_SECONDS):
            handle_result(result)
        on_poll()
    outcome.staged = sorted(ready)


def raise_failures(outcome: Outcome, n_left: int) -> None:
    """Tell what went wrong, if anything did.

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
        f"{waiting} Mend the cause, then run again with skip_exist=True (--skip-exist) to go on from here.{lines}"
    ) from unexpected
