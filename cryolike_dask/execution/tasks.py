"""The tasks of a conversion, as workers run them: a folder, a run ID and stack numbers in, small receipts out."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from cryolike_dask.errors import CryolikeError, OutputError, RunStoppedError, output_error
from cryolike_dask.execution.events import log_converted_stack
from cryolike_dask.planning.store import StoredPlan, load_plan
from cryolike_dask.runs.active import HIDDEN_FOLDER, is_active, publishing
from cryolike_dask.runs.store_lock import check_store_lock, touch_store_lock
from cryolike_dask.settings import store_location
from cryolike_dask.stacks.files import LEFTOVER, StackPaths, publish
from cryolike_dask.stacks.object_store import open_object_store
from cryolike_dask.stacks.receipt import StackReceipt
from cryolike_dask.stacks.writer import install_shards
from cryolike_dask.stacks.zarr_store import commit


def convert_stack_task(folder: str, run_id: str, counter: int) -> StackReceipt:
    """Make and stage one stack."""
    # Loads the compiler and FFTs, which the client of a cluster does not need.
    from cryolike_dask.execution.convert_stack import convert_stack

    path = Path(folder)
    receipt = convert_stack(current_plan(path, run_id).stack(counter), path, cancelled=lambda: not is_active(path, run_id))
    log_converted_stack(receipt)
    return receipt


def prepare_task(folder: str, run_id: str, counter: int) -> None:
    """Load libraries, make tables and compile in this process, before the first stack of a run.

    Args:
        folder, run_id: of the run.
        counter: of one of its stacks. Errors are ignored here, because the task of this stack raises them again.
    """
    from cryolike_dask.execution.convert_stack import prepare_process  # with compiler and FFTs, as in `convert_stack_task`

    with suppress(CryolikeError, OSError):
        stack = current_plan(Path(folder), run_id).stack(counter)
        prepare_process(stack.settings.device, stack.descriptor)


def publish_stacks_task(folder: str, run_id: str, counters: Sequence[int], attempts: Sequence[str]) -> None:
    """Make staged stacks visible, in this order.

    Args:
        folder, run_id: of the run.
        counters: stacks.
        attempts: the attempt at each stack that is published.

    Raises:
        OutputError: the file system refuses it.
        RunStoppedError: this run has ended.
    """
    path = Path(folder)
    plan = current_plan(path, run_id)
    try:
        with publishing(path, run_id):
            location = store_location(plan.settings, path) if plan.settings.output_format == "zarr" else ""
            if plan.settings.zarr_store:
                _keep_store(plan.settings.zarr_store, run_id)
            for counter, attempt in zip(counters, attempts, strict=True):
                if location and attempt not in ("", LEFTOVER):
                    install_shards(open_object_store(location), counter, attempt, plan.settings.save_phys)
                publish(StackPaths(path, counter).data(plan.settings), attempt)
            if location:
                commit(location, counters[-1] + 1, plan.end_of(counters[-1]))
    except OSError as error:
        raise output_error(error, path) from error


def _keep_store(location: str, run_id: str) -> None:
    try:
        check_store_lock(location, run_id)
    except OutputError as error:
        raise RunStoppedError(str(error)) from error
    touch_store_lock(location, run_id)


def plot_stack_task(folder: str, run_id: str, counter: int) -> None:
    """Draw the pictures of one published stack."""
    from cryolike_dask.pictures.stack_plots import plot_stack

    path = Path(folder)
    if is_active(path, run_id):
        plot_stack(path, counter, current_plan(path, run_id).settings.zarr_store)


def current_plan(folder: Path, run_id: str) -> StoredPlan:
    """The plan of the run in progress in this folder.

    Raises:
        RunStoppedError: this run has ended.
        OutputError: the folder does not exist.
    """
    # The plan may be cached from a run that has ended, so the run itself is checked first.
    if is_active(folder, run_id):
        with suppress(FileNotFoundError):
            return load_plan(folder / HIDDEN_FOLDER, run_id)
    if folder.exists():
        raise RunStoppedError(f"The run in {folder} has ended.")
    raise OutputError(
        f"{folder} does not exist on this worker. The output folder must be on a file system that all workers share, under the "
        "same path."
    )
