"""Worker processes that begin with everything imported.

Importing libraries and loading compiled code takes a worker longer than converting hundreds of images. A server process does that once,
while its parent reads tables, and the workers are forked from it. Python's own `multiprocessing` has such a server, and Dask can use it.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import forkserver, resource_tracker

_METHOD = "distributed.worker.multiprocessing-method"
_PRELOADED = ["distributed", "cryolike_dask.execution.tasks", "cryolike_dask.execution.warmed_up"]


def start_fork_server() -> None:
    """Start the server of CPU workers, unless it runs already, and do not wait for it.

    It ends with this process. Where Dask was told to start workers in another way, and on systems whose libraries cannot be forked,
    there is none.
    """
    import dask.config

    if not _serves(dask.config.get(_METHOD, "spawn")):
        return
    multiprocessing.get_context("forkserver").set_forkserver_preload(_PRELOADED)
    # Libraries read these when they are imported, which the server does for the workers. It must find the libraries that this process has.
    settings = dask.config.get("distributed.nanny.pre-spawn-environ", {})
    with _environment(
        {name: str(value) for name, value in settings.items()} | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    ):
        resource_tracker.ensure_running()  # which the server needs; where it starts it, it lets interrupts through again
        with _without_interrupts():
            forkserver.ensure_running()


@contextmanager
def forked_workers() -> Iterator[None]:
    """Within it, worker processes are forked from the server."""
    import dask.config

    start_fork_server()
    method = dask.config.get(_METHOD, "spawn")
    with dask.config.set({_METHOD: "forkserver" if _serves(method) else method}):
        yield


def _serves(method: str) -> bool:
    return sys.platform.startswith("linux") and method in ("spawn", "forkserver")


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Processes that are started within it never see Ctrl-C, which a terminal sends to all; it is for the one that started them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
