r"""A conversion as a Dask graph, for `dask.compute` or as part of a larger one.

    begin -> convert 0 -> publish 0 -> plot 0 ----------.
         \-> convert 1 -> publish 1 (after publish 0) -> plot 1 -> finish
          ...
             convert k (after publish k - window)

Order and bound are edges: stack k is published after stack k - 1, and begun when stack k - window is published. Tasks carry a folder, a
token and a number; the plan waits in the output folder, below `.graph-TOKEN`, until the graph is computed.

Any task may run again, during the graph or after it: what is published is found published.
"""

from __future__ import annotations

import logging
import os
import shutil
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from cryolike_dask.errors import InputError
from cryolike_dask.execution.convert_stack import convert_stack
from cryolike_dask.execution.events import stack_made
from cryolike_dask.execution.tasks import current_plan, plot_stack_task, publish_stacks_task
from cryolike_dask.planning.input_files import refuse_changed_inputs
from cryolike_dask.planning.plan import Plan
from cryolike_dask.planning.store import load_whole_plan, store_plan
from cryolike_dask.runs.folder import RunFolder, acquire, graph_folder, is_current, refuse_output
from cryolike_dask.runs.lock import holds_lock, take_lock
from cryolike_dask.runs.steps import begin_run, finish_run
from cryolike_dask.stacks.durable import make_directory
from cryolike_dask.stacks.files import StackPaths, new_id, read_metadata
from cryolike_dask.stacks.receipt import StackReceipt

logger = logging.getLogger(__name__)

_LEAST_WINDOW = 64


def build_graph(plan: Plan, folder: Path, window: int | None, annotations: dict[str, Any]) -> list[Any]:
    """One Delayed a stack, each giving its receipt once the stack and all before it are published.

    Args:
        plan: of the run; it is written into the output folder.
        folder: output folder.
        window: stacks under way at a time; None for twice the threads of the current client, at least 64.
        annotations: of the tasks that convert, such as resources.

    Raises:
        OutputError: the folder holds output already.
    """
    from dask._task_spec import List, Task, TaskRef
    from dask.delayed import Delayed
    from dask.highlevelgraph import HighLevelGraph

    refuse_output(folder, plan)
    token, n = new_id(), plan.n_stacks
    stored = graph_folder(folder, token)
    make_directory(stored)
    store_plan(plan, stored)
    window = window or max(_LEAST_WINDOW, _threads_of_current_client() * 2)
    where, run = str(folder), plan.fingerprint
    begin, finish = f"begin-conversion-{token}", f"finish-conversion-{token}"
    convert, publish, plot = (f"{step}-stack-{token}" for step in ("convert", "publish", "plot"))
    tasks: dict[Any, Any] = {begin: Task(begin, _begin, where, token)}
    for k in range(n):
        gate = TaskRef((publish, k - window)) if k >= window else TaskRef(begin)
        before = [TaskRef((publish, k - 1))] if k else []
        tasks[convert, k] = Task((convert, k), _convert, where, token, run, k, gate)
        tasks[publish, k] = Task((publish, k), _publish, where, token, run, TaskRef((convert, k)), *before)
        if plan.settings.flag_plots:
            tasks[plot, k] = Task((plot, k), _plot, where, token, TaskRef((publish, k)))
    last = plot if plan.settings.flag_plots else publish
    tasks[finish] = Task(finish, _finish, where, token, List(*(TaskRef((last, k)) for k in range(n))))
    graph = HighLevelGraph.from_collections(finish, tasks)
    if annotations:
        only_converting = {name: _Of(convert, value) for name, value in annotations.items()}
        graph.layers[finish].annotations = only_converting
    keys = [*((last, k) for k in range(n - 1)), finish]
    return [Delayed(key, graph, layer=finish) for key in keys]


class _Of:
    """The value of an annotation for the tasks of one name, as Dask asks for it."""

    def __init__(self, name: str, value: Any) -> None:
        self.name, self.value = name, value

    def __call__(self, key: Any) -> Any:
        return self.value if isinstance(key, tuple) and key[0] == self.name else None


def _threads_of_current_client() -> int:
    try:
        from distributed import default_client

        return int(sum(default_client().nthreads().values()))
    except (ImportError, ValueError):
        return 0


def _begin(folder: str, token: str) -> None:
    path = Path(folder)
    run, stored = RunFolder(path, token), graph_folder(path, token)
    if not (stored / "plan.json").exists():
        return  # Finished earlier; or given up for another run, of which the next tasks tell.
    begun = stored / "begun"
    if begun.exists() and is_current(path, token):
        if not holds_lock(run.lock, token):
            take_lock(run.lock, token, of_process=False)
        return
    if holds_lock(run.lock, token):
        run.lock.unlink()  # of a worker that died while it began
    plan = load_whole_plan(stored)
    if begun.exists():
        plan = replace(plan, settings=replace(plan.settings, skip_exist=True, overwrite=False))
    refuse_changed_inputs(plan)
    run = acquire(path, token)
    try:
        with run.heartbeat():
            begin_run(run, plan)
        begun.touch()
    except BaseException:
        run.release()
        raise


def _convert(folder: str, token: str, fingerprint: str, counter: int, *_after: Any) -> StackReceipt:
    path = Path(folder)
    receipt = _published(path, counter, fingerprint)
    if receipt is not None:
        return receipt
    run = RunFolder(path, token)
    _touch(run)

    def cancelled() -> bool:
        _touch(run)
        return not is_current(path, token)

    try:
        receipt = convert_stack(current_plan(path, token).stack(counter), path, cancelled)
    except BaseException:
        _let_others_take_over(run)
        raise
    stack_made(receipt)
    return receipt


def _publish(folder: str, token: str, fingerprint: str, receipt: StackReceipt, *_after: Any) -> StackReceipt:
    path = Path(folder)
    published = receipt if not receipt.attempt else _published(path, receipt.counter, fingerprint)
    if published is None:
        try:
            publish_stacks_task(folder, token, (receipt.counter,), (receipt.attempt,))
        except BaseException:
            _let_others_take_over(RunFolder(path, token))
            raise
    return replace(receipt, attempt="")


def _plot(folder: str, token: str, receipt: StackReceipt) -> StackReceipt:
    try:
        plot_stack_task(folder, token, receipt.counter)
    except (OSError, ValueError, RuntimeError) as error:
        line = f"The pictures of stack {receipt.counter:06d} could not be drawn: {error}"
        logger.warning(line)
        return replace(receipt, warnings=(*receipt.warnings, line))
    return receipt


def _finish(folder: str, token: str, receipts: list[StackReceipt]) -> StackReceipt:
    path = Path(folder)
    run, stored = RunFolder(path, token), graph_folder(path, token)
    if is_current(path, token):
        if not holds_lock(run.lock, token):
            take_lock(run.lock, token, of_process=False)  # given up when a task failed, which Dask tried again
        with run.heartbeat():
            warnings = finish_run(run, load_whole_plan(stored), receipts)
        for line in warnings:
            logger.warning(line)
        shutil.rmtree(stored)
        run.release()
    return receipts[-1]


def _published(folder: Path, counter: int, fingerprint: str) -> StackReceipt | None:
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
        return StackReceipt(counter, int(metadata["n_images"]), n_bytes, *crcs, kept=True)
    except (InputError, KeyError, OSError):
        return None


def _touch(run: RunFolder) -> None:
    with suppress(OSError):
        if holds_lock(run.lock, run.token):
            os.utime(run.lock)


def _let_others_take_over(run: RunFolder) -> None:
    """After a failure the graph is most likely given up; a task that Dask tries again still finds its token."""
    with suppress(OSError):
        if holds_lock(run.lock, run.token):
            run.lock.unlink()
