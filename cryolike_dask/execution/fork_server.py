"""Worker processes that start with all libraries imported.

Importing libraries and loading compiled code takes a worker longer than converting hundreds of images. A server process does this once,
while its parent reads tables, and the workers are forked from it. The server is that of Python's `multiprocessing`, which Dask can use.
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
    """Start the server for CPU workers, unless it is running already, and do not wait for it.

    It ends with this process. It is not started if Dask is configured to start workers in another way, nor on systems whose libraries
    cannot be forked.
    """
    import dask.config

    if not _serves(dask.config.get(_METHOD, "spawn")):
        return
    multiprocessing.get_context("forkserver").set_forkserver_preload(_PRELOADED)
    # Libraries read these variables when they are imported, which the server does for the workers. PYTHONPATH lets it find the libraries
    # of this process.
    settings = dask.config.get("distributed.nanny.pre-spawn-environ", {})
    with _environment(
        {name: str(value) for name, value in settings.items()} | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    ):
        # The server needs the tracker. Started by the server, it would receive interrupts again.
        resource_tracker.ensure_running()
        with _without_interrupts():
            forkserver.ensure_running()


@contextmanager
def forked_workers() -> Iterator[None]:
    """Within this context, worker processes are forked from the server."""
    import dask.config

    start_fork_server()
    method = dask.config.get(_METHOD, "spawn")
    with dask.config.set({_METHOD: "forkserver" if _serves(method) else method}):
        yield


def _serves(method: str) -> bool:
    return sys.platform.startswith("linux") and method in ("spawn", "forkserver")


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Processes started within this context never see Ctrl-C. A terminal sends it to all processes; the parent handles it."""
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
