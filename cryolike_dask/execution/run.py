"""One run of a plan in one output folder, from taking over the folder to the report."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from cryolike_dask.errors import CryolikeError, RunStoppedError, output_error
from cryolike_dask.execution.executors.interface import Executor
from cryolike_dask.execution.run_loop import Outcome, RunLoop, log_warnings, raise_failures
from cryolike_dask.execution.tasks import prepare_task
from cryolike_dask.formatting import plural
from cryolike_dask.pictures.html_report import REPORT, with_html_report
from cryolike_dask.pictures.stack_plots import missing_plots
from cryolike_dask.planning.input_files import check_inputs_unchanged
from cryolike_dask.planning.plan import Plan
from cryolike_dask.planning.preflight import check_memory
from cryolike_dask.progress import Progress, StackProgress
from cryolike_dask.report import ConversionReport
from cryolike_dask.runs.folder import RunFolder, acquire_folder
from cryolike_dask.runs.info import check_ctf_of_stacks
from cryolike_dask.runs.steps import StarFileWriter, begin_run, finish_run, left_to_make, make_report
from cryolike_dask.stacks.receipt import StackReceipt

logger = logging.getLogger(__name__)

_PREPARATION_PATIENCE = 60.0
"""Seconds to wait for workers that are still preparing; after that, the others begin."""


def run_plan(
    plan: Plan, folder: Path, executor: AbstractContextManager[Executor], progress: Progress, stopped: threading.Event
) -> ConversionReport:
    """Convert the particles of a plan into a folder.

    Args:
        plan: what to do.
        folder: output folder.
        executor: runs the tasks; it is opened after this run has taken over the folder.
        progress: informed of each stack.
        stopped: if set, the run ends early.

    Raises:
        InputError, OutputError, ConversionError: as for `Conversion.run`.
        RunStoppedError: `stopped` was set.
    """
    began = time.perf_counter()
    with run_in(folder, progress) as run:
        with run.heartbeat():
            outcome = _convert(plan, run, executor, progress, stopped)
        log_warnings(outcome)
        raise_failures(outcome, plan.n_stacks - len(outcome.published))
        ctf = check_ctf_of_stacks(folder, sorted(outcome.published))
        if ctf is not None and ctf.verdict == "does not fit":
            outcome.warnings.append(ctf.reason)
        report = replace(make_report(folder, plan, outcome.published, outcome.warnings, time.perf_counter() - began), ctf=ctf)
        page = folder / REPORT
        is_news = report.n_kept < len(report.stacks) or page.is_symlink() or not page.exists()
        if not plan.settings.flag_plots or not is_news:
            return report
        with run.exclusive_changes():
            return with_html_report(plan, report)


def log_ctf_misfit(report: ConversionReport) -> None:
    """Warn if the CTF does not fit the images. The runs of a trial are not worth a warning each, so `run_plan` does not warn."""
    if report.ctf is not None and report.ctf.verdict == "does not fit":
        logger.warning("%s", report.ctf.reason)


@contextmanager
def run_in(folder: Path, progress: Progress) -> Iterator[RunFolder]:
    """A run in an output folder. The folder is taken over on entering, and always released on leaving.

    Args:
        folder: output folder.
        progress: informed of the end, and of the error if there is one.

    Raises:
        OutputError: another run holds the folder; or the system raised an OSError.
    """
    error: BaseException | None = None
    run = acquire_folder(folder)
    try:
        yield run
    except BaseException as failure:
        error = failure
        if isinstance(failure, OSError) and not isinstance(failure, CryolikeError):
            raise output_error(failure, folder) from failure
        raise
    finally:
        run.release()
        progress.finish(error)


def _convert(
    plan: Plan, run: RunFolder, executor: AbstractContextManager[Executor], progress: Progress, stopped: threading.Event
) -> Outcome:
    folder = run.folder
    outcome = Outcome()
    star_file = StarFileWriter(run, plan)
    with executor as opened:
        check_memory(opened.memory_per_thread, plan)
        check_inputs_unchanged(plan)
        complete = begin_run(run, plan, progress)
        kept = {counter: receipt for counter, receipt in complete.items() if not receipt.attempt}
        outcome.published |= kept
        todo = range(len(kept), plan.n_stacks)

        def on_published(receipt: StackReceipt) -> None:
            if receipt.counter in complete:
                return
            progress.stack_done(
                StackProgress(
                    counter=receipt.counter,
                    n_images=receipt.n_images,
                    read_seconds=receipt.read_seconds,
                    compute_seconds=receipt.compute_seconds,
                    write_seconds=receipt.write_seconds,
                    n_bytes=receipt.n_bytes,
                    device_bytes=receipt.device_bytes,
                )
            )

        def on_poll() -> None:
            if stopped.is_set():
                raise RunStoppedError("The conversion was cancelled.")
            run.check_lock()
            # Not earlier, because the workers had no stacks to work on until now.
            star_file.begin()

        try:
            with star_file:
                opened.check_workers(str(folder), run.run_id, next(file.path for file in plan.files if file is not None))
                without_plots = _without_plots(plan, folder, kept)
                if todo:
                    _prepare(opened, run, todo[0], progress)
                    progress.start(*left_to_make(plan, complete))
                RunLoop(opened, str(folder), run.run_id, todo, without_plots, on_published, outcome).run(on_poll)
        except BaseException as error:
            # Tasks that have begun stop when the run has ended, so this comes before the executor waits for them.
            run.stop()
            opened.close()
            with suppress(OSError):
                finish_run(run, plan, outcome.published.values())
            left = plan.n_stacks - len(outcome.published)
            stacks = plural(plan.n_stacks, "stack")
            error.add_note(f"Stopped with {left:,} of {stacks} left; continue with skip_exist=True (--skip-exist).")
            raise
    # If another run has taken over, this raises an error. Otherwise its effects would be reported as failed stacks.
    run.check_lock(now=True)
    try:
        outcome.warnings += finish_run(run, plan, outcome.published.values())
    except OSError:
        # On a full disk, the error about the failed stacks is more useful than that about the manifest.
        if not outcome.failures:
            raise
    return outcome


def _prepare(executor: Executor, run: RunFolder, counter: int, progress: Progress) -> None:
    """Let all processes load libraries and compile, so that the speed shown later is that of making stacks only."""
    if executor.is_this_process:
        # Imported here, because it loads the compiler and FFTs, which the client of a cluster does not need.
        from cryolike_dask.transform.cpu import say_if_compiling

        say_if_compiling(progress.step)
    else:
        progress.step("Preparing the workers")
    executor.call_everywhere(prepare_task, str(run.folder), run.run_id, counter, patience=_PREPARATION_PATIENCE)


def _without_plots(plan: Plan, folder: Path, kept: dict[int, StackReceipt]) -> list[int] | None:
    if not plan.settings.flag_plots:
        return None
    return [counter for counter in kept if missing_plots(folder, counter, plan.settings.save_phys)]
