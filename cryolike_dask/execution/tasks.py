"""The tasks of a conversion, as workers run them: a folder, a token and stack numbers in, small receipts out."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from cryolike_dask.errors import OutputError, RunStoppedError, output_error
from cryolike_dask.execution.convert_stack import convert_stack
from cryolike_dask.execution.events import stack_made
from cryolike_dask.planning.store import StoredPlan, load_plan
from cryolike_dask.runs.folder import CONVERSION, is_current, publishing
from cryolike_dask.settings import store_location
from cryolike_dask.stacks.files import StackPaths, publish
from cryolike_dask.stacks.receipt import StackReceipt
from cryolike_dask.stacks.zarr_store import commit


def convert_stack_task(folder: str, token: str, counter: int) -> StackReceipt:
    """Make and stage one stack."""
    path = Path(folder)
    receipt = convert_stack(current_plan(path, token).stack(counter), path, cancelled=lambda: not is_current(path, token))
    stack_made(receipt)
    return receipt


def publish_stacks_task(folder: str, token: str, counters: Sequence[int], attempts: Sequence[str]) -> None:
    """Make staged stacks visible, in this order.

    Args:
        folder, token: of the run.
        counters: stacks.
        attempts: which of the attempts at each stack.

    Raises:
        OutputError: the file system refuses.
        RunOverError: the run of this token is over.
    """
    path = Path(folder)
    plan = current_plan(path, token)
    try:
        with publishing(path, token):
            for counter, attempt in zip(counters, attempts, strict=True):
                publish(StackPaths(path, counter).data(plan.settings), attempt)
            if plan.settings.output_format == "zarr":
                commit(store_location(plan.settings, path), counters[-1] + 1, plan.bounds[counters[-1]][1])
    except OSError as error:
        raise output_error(error, path) from error


def plot_stack_task(folder: str, token: str, counter: int) -> None:
    """Draw the pictures of one published stack."""
    from cryolike_dask.pictures.stack_plots import plot_stack

    path = Path(folder)
    if is_current(path, token):
        plot_stack(path, counter, current_plan(path, token).settings.zarr_store)


def current_plan(folder: Path, token: str) -> StoredPlan:
    """The plan of the run that is on in this folder.

    Raises:
        RunOverError: the run of this token is over.
        OutputError: the folder is not there.
    """
    # The plan may be remembered from when the run was on, so the run itself is asked for first.
    if is_current(folder, token):
        with suppress(FileNotFoundError):
            return load_plan(folder / CONVERSION, token)
    if folder.exists():
        raise RunStoppedError(f"The run in {folder} is over.")
    raise OutputError(
        f"{folder} does not exist on this worker. The output folder must be on a file system that all workers share, under the "
        "same path."
    )
