"""Functions that are sent to workers by value, so that a scheduler does not need this package.

A scheduler unpickles everything that passes through it. A function of a module would make it import that module, and with it all libraries
that compute images. A function defined inside another one is sent as code, and imports what it needs where it runs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

_PAUSES_SECONDS = (0.0, 0.5, 2.0, 5.0)
_MAX_EVENT_BYTES = 1 << 14
"""Largest size of a result that is sent in an event. A scheduler remembers a thousand events."""


def remote_task(topic: str, run_id: str, share: Mapping[str, float] | None = None) -> Callable[..., tuple[str, Any]]:
    """`run(module, name, *arguments)`, which calls a function on a worker, and returns the worker's address and the function's value.

    An error for the user is returned, not raised, because a worker would log it with a traceback.

    Args:
        topic: of the event that contains the returned value, if that is small.
        run_id: in this event.
        share: of the worker's resources that the task takes. As many tasks run at a time as the resources allow, even on a worker with
            fewer threads, such as dask-cuda's with one: the task then leaves the worker's thread pool.
    """

    def run(module: str, name: str, *arguments: Any) -> tuple[str, Any]:
        import pickle
        from importlib import import_module

        from dask.sizeof import sizeof
        from distributed import get_worker, secede

        from cryolike_dask.errors import CryolikeError

        worker = get_worker()
        # Only if necessary: the scheduler takes tasks that left the pool for short ones, so that an adaptive cluster grows less.
        if any(worker.state.nthreads < worker.state.total_resources[name] / part for name, part in (share or {}).items()):
            secede()
        try:
            returned = worker.address, getattr(import_module(module), name)(*arguments)
        except CryolikeError as error:
            returned = worker.address, error
        if sizeof(returned) < _MAX_EVENT_BYTES and len(pickled := pickle.dumps(returned)) < _MAX_EVENT_BYTES:
            worker.log_event(topic, {"run": run_id, "key": worker.get_current_task(), "returned": pickled})
        return returned

    return run


def remote_call_beside_tasks() -> Callable[..., Coroutine[Any, Any, tuple[str, Any]]]:
    """`call(module, name, *arguments)`, which does the same as `run` of `remote_task`, but on a thread of its own, beside all tasks."""

    async def call(module: str, name: str, *arguments: Any, dask_worker: Any) -> tuple[str, Any]:
        import asyncio

        def call_here() -> Any:
            from importlib import import_module

            from cryolike_dask.errors import CryolikeError

            try:
                return getattr(import_module(module), name)(*arguments)
            except CryolikeError as error:
                return error

        return dask_worker.address, await asyncio.to_thread(call_here)

    return call


def remote_call() -> Callable[..., Any]:
    """`call(module, name, *arguments)`, which calls a function where it runs, and returns its value."""

    def call(module: str, name: str, *arguments: Any) -> Any:
        from importlib import import_module

        return getattr(import_module(module), name)(*arguments)

    return call


def remote_check() -> Callable[..., Coroutine[Any, Any, str]]:
    """`check(version, *arguments)`, which checks on a worker the version of this package, then calls `check_this_process`. Returns the
    problem, or ''."""

    async def check(version: str, *arguments: Any) -> str:
        import asyncio

        try:
            import cryolike_dask
        except ImportError as error:
            return f"it cannot import cryolike_dask ({error}): install the package there"
        found = cryolike_dask.__version__
        if found != version:
            return f"it has cryolike_dask {found}, and this run was planned with {version}: install the same version everywhere"

        def check_here() -> str:
            # Imported on this thread, because importing takes seconds, during which the worker must answer its scheduler.
            from cryolike_dask.execution.executors.remote import check_this_process

            return check_this_process(*arguments)

        return await asyncio.to_thread(check_here)

    return check


def check_this_process(folder: str, run_id: str, image_file: str, device: str) -> str:
    """Why this process cannot work on a run, and what to do; '' if it can.

    Args:
        folder, run_id: of the run, which has begun.
        image_file: one of the files that the run reads.
        device: 'cpu', 'cuda' or 'auto'.
    """
    from pathlib import Path

    from cryolike_dask.errors import ConversionError
    from cryolike_dask.runs.active import is_active
    from cryolike_dask.transform.device import resolve_device

    path = Path(folder)
    if not path.is_dir():
        return f"it does not see the output folder {folder}, which must be on a file system that all workers share"
    # A network file system may show a new file only some seconds later.
    for pause in _PAUSES_SECONDS:
        time.sleep(pause)
        if is_active(path, run_id):
            break
    else:
        return f"its folder {folder} is another one: the output folder must be on a file system that all workers share"
    try:
        with open(image_file, "rb") as file:
            file.read(1)
    except OSError as error:
        return f"it cannot read {image_file} ({error.strerror}): the images must be on a file system that all workers share"
    try:
        resolve_device(device)  # type: ignore[arg-type]
    except ConversionError as error:
        return str(error)
    return ""
