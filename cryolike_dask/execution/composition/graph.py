r"""A conversion as a Dask graph, for `dask.compute` or as part of a larger one.

    begin -> convert 0 -> publish 0 -> plot 0 ----------.
         \-> convert 1 -> publish 1 (after publish 0) -> plot 1 -> finish
          ...                                        all receipts (after finish)
             convert k (after publish k - window)

Edges define the order and the number of stacks in progress: stack k is published after stack k - 1, and begun after stack k - window was
published. Tasks carry a folder, a run ID and a number; the plan is stored in the output folder, in `.graph-RUN_ID`, until the graph is
computed.

Any task may run again, while the graph is computed or later, because it first looks whether its stack is published already.
"""

from __future__ import annotations

import logging
import operator
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from cryolike_dask.errors import InputError
from cryolike_dask.execution.convert_stack import convert_stack
from cryolike_dask.execution.events import log_converted_stack
from cryolike_dask.execution.executors.remote import remote_call
from cryolike_dask.execution.tasks import current_plan, plot_stack_task, publish_stacks_task
from cryolike_dask.filesystem.pinned import create_file, pinned, pinned_place
from cryolike_dask.planning.input_files import check_inputs_unchanged
from cryolike_dask.planning.plan import Plan
from cryolike_dask.planning.store import load_whole_plan, store_plan
from cryolike_dask.runs.active import is_active
from cryolike_dask.runs.differences import check_output
from cryolike_dask.runs.folder import RunFolder, acquire_folder, graph_folder
from cryolike_dask.runs.lock import acquire_lock, holds_lock
from cryolike_dask.runs.steps import begin_run, finish_run
from cryolike_dask.stacks.durable import make_directory, make_directory_below
from cryolike_dask.stacks.files import StackPaths, new_id, read_metadata
from cryolike_dask.stacks.receipt import StackReceipt

logger = logging.getLogger(__name__)

_MIN_WINDOW = 64


def build_graph(plan: Plan, folder: Path, window: int | None, annotations: dict[str, Any]) -> tuple[list[Any], Any]:
    """One Delayed per stack, each giving its receipt once the stack and all before it are published; and one that gives all receipts.

    Args:
        plan: of the run; it is written into the output folder.
        folder: output folder.
        window: number of stacks in progress at a time; None for twice the threads of the current client, at least 64.
        annotations: of the tasks that convert, such as resources.

    Raises:
        OutputError: the folder already holds output.
    """
    from dask._task_spec import List, Task, TaskRef
    from dask.delayed import Delayed
    from dask.highlevelgraph import HighLevelGraph

    check_output(folder, plan)
    run_id, n = new_id(), plan.n_stacks
    plan_folder = graph_folder(folder, run_id)
    make_directory(folder)
    make_directory_below(plan_folder, folder)
    with pinned(plan_folder, folder) as place:
        store_plan(plan, place)
    window = window or max(_MIN_WINDOW, _threads_of_current_client() * 2)
    folder_name, fingerprint = str(folder), plan.fingerprint
    begin, finish = f"begin-conversion-{run_id}", f"finish-conversion-{run_id}"
    convert, publish, plot = (f"{step}-stack-{run_id}" for step in ("convert", "publish", "plot"))
    call = remote_call()

    def task(key: Any, function: Callable[..., Any], *arguments: Any) -> Any:
        return Task(key, call, __name__, function.__name__, folder_name, run_id, *arguments)

    tasks: dict[Any, Any] = {begin: task(begin, _begin)}
    for k in range(n):
        may_begin = TaskRef((publish, k - window)) if k >= window else TaskRef(begin)
        after_previous = [TaskRef((publish, k - 1))] if k else []
        tasks[convert, k] = task((convert, k), _convert, fingerprint, k, may_begin)
        tasks[publish, k] = task((publish, k), _publish, fingerprint, TaskRef((convert, k)), *after_previous)
        if plan.settings.flag_plots:
            tasks[plot, k] = task((plot, k), _plot, TaskRef((publish, k)))
    last = plot if plan.settings.flag_plots else publish
    receipts = List(*(TaskRef((last, k)) for k in range(n)))
    tasks[finish] = task(finish, _finish, receipts)
    everything = f"receipts-{run_id}"
    tasks[everything] = Task(everything, operator.getitem, List(receipts, TaskRef(finish)), 0)
    graph = HighLevelGraph.from_collections(finish, tasks)
    of_converting = {
        name: _annotation_of_tasks({convert: value}, None) for name, value in annotations.items() if name != "priority"
    }
    # As in a run, publishing comes first and pictures come last.
    base = annotations.get("priority", 0)
    priorities = {convert: base, publish: base + 10, plot: base - 10}
    graph.layers[finish].annotations = of_converting | {"priority": _annotation_of_tasks(priorities, base)}
    keys = [*((last, k) for k in range(n - 1)), finish]
    return [Delayed(key, graph, layer=finish) for key in keys], Delayed(everything, graph, layer=finish)


def _annotation_of_tasks(values: dict[str, Any], default: Any) -> Callable[[Any], Any]:
    """An annotation that depends on the names of tasks, as a function for Dask. It works on a scheduler without this package."""

    def value(key: Any) -> Any:
        return values.get(key[0], default) if isinstance(key, tuple) else default

    return value


def _threads_of_current_client() -> int:
    try:
        from distributed import default_client

        return int(sum(default_client().nthreads().values()))
    except (ImportError, ValueError):
        return 0


def _begin(folder: str, run_id: str) -> None:
    path = Path(folder)
    run, plan_folder = RunFolder(path, run_id), graph_folder(path, run_id)
    if not (plan_folder / "plan.json").exists():
        return  # The graph was finished earlier, or another run has taken over, which the next tasks report.
    begun_marker = plan_folder / "begun"
    if begun_marker.exists() and is_active(path, run_id):
        if not holds_lock(run.lock, run_id):
            acquire_lock(run.lock, run_id, tied_to_process=False)
        return
    if holds_lock(run.lock, run_id):
        run.lock.unlink()  # left by a worker that died in this task
    plan = load_whole_plan(plan_folder)
    if begun_marker.exists():
        plan = replace(plan, settings=replace(plan.settings, skip_exist=True, overwrite=False))
    check_inputs_unchanged(plan)
    run = acquire_folder(path, run_id)
    try:
        with run.heartbeat():
            begin_run(run, plan, tied_to_process=False)
        with pinned_place(begun_marker, path) as place:
            os.close(create_file(place))
    except BaseException:
        run.release()
        raise


def _convert(folder: str, run_id: str, fingerprint: str, counter: int, *_after: Any) -> StackReceipt:
    path = Path(folder)
    receipt = _find_published(path, counter, fingerprint)
    if receipt is not None:
        return receipt
    run = RunFolder(path, run_id)
    _touch_lock(run)

    def cancelled() -> bool:
        _touch_lock(run)
        return not is_active(path, run_id)

    try:
        receipt = convert_stack(current_plan(path, run_id).stack(counter), path, cancelled)
    except BaseException:
        _release_lock(run)
        raise
    log_converted_stack(receipt)
    return receipt


def _publish(folder: str, run_id: str, fingerprint: str, receipt: StackReceipt, *_after: Any) -> StackReceipt:
    path = Path(folder)
    published = receipt if not receipt.attempt else _find_published(path, receipt.counter, fingerprint)
    if published is None:
        try:
            publish_stacks_task(folder, run_id, (receipt.counter,), (receipt.attempt,))
        except BaseException:
            _release_lock(RunFolder(path, run_id))
            raise
    return replace(receipt, attempt="")


def _plot(folder: str, run_id: str, receipt: StackReceipt) -> StackReceipt:
    try:
        plot_stack_task(folder, run_id, receipt.counter)
    except (OSError, ValueError, RuntimeError) as error:
        line = f"The pictures of stack {receipt.counter:06d} could not be drawn: {error}"
        logger.warning(line)
        return replace(receipt, warnings=(*receipt.warnings, line))
    return receipt


def _finish(folder: str, run_id: str, receipts: list[StackReceipt]) -> StackReceipt:
    path = Path(folder)
    run, plan_folder = RunFolder(path, run_id), graph_folder(path, run_id)
    if is_active(path, run_id):
        if not holds_lock(run.lock, run_id):
            acquire_lock(run.lock, run_id, tied_to_process=False)  # released when a task failed, which Dask then tried again
        with run.heartbeat():
            warnings = finish_run(run, load_whole_plan(plan_folder), receipts)
        for line in warnings:
            logger.warning(line)
        shutil.rmtree(plan_folder)
        run.release()
    return receipts[-1]


def _find_published(folder: Path, counter: int, fingerprint: str) -> StackReceipt | None:
    """The receipt of a stack that this graph, or the run that it resumes, has published."""
    paths = StackPaths(folder, counter)
    if not paths.metadata.exists():
        return None
    try:
        metadata = read_metadata(paths.metadata)
        if str(metadata["fingerprint"]) != fingerprint:
            return None
        crcs = int(metadata["fourier_crc32"]), int(metadata["phys_crc32"])
        files = (paths.physical, paths.fourier, paths.metadata)
        n_bytes = sum(path.stat().st_size for path in files if path.exists())
        mean_power = float(metadata["power_spectrum"].mean())
        return StackReceipt(counter, int(metadata["n_images"]), n_bytes, *crcs, mean_power=mean_power, kept=True)
    except (InputError, KeyError, OSError):
        return None


def _touch_lock(run: RunFolder) -> None:
    with suppress(OSError):
        if holds_lock(run.lock, run.run_id):
            os.utime(run.lock, follow_symlinks=False)


def _release_lock(run: RunFolder) -> None:
    """Release the lock after a failure, because the graph most likely ends here. A task that Dask tries again still finds its run ID."""
    with suppress(OSError):
        if holds_lock(run.lock, run.run_id):
            run.lock.unlink()
