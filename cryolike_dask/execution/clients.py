"""Where a conversion runs: what the `client` argument means."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryolike_dask.errors import ConversionError, InputError
from cryolike_dask.execution.executors.interface import Executor
from cryolike_dask.execution.executors.threads import ThreadExecutor
from cryolike_dask.settings import Device


@contextmanager
def open_executor(client: Any, device: Device = "auto", performance_report: str | Path | None = None) -> Iterator[Executor]:
    """The executor for a `client` argument. Only what was opened here is closed here.

    Args:
        client: None for the current `distributed.Client` if there is one, and otherwise for threads of this process on all its cores; a
            Client; a Cluster; or the address of a scheduler.
        device: that stacks are made on.
        performance_report: path of an HTML file for Dask's performance report; None for none.

    Raises:
        InputError: it is none of these, or the scheduler does not answer; or no client is given, and this process cannot do what the
            other arguments ask for.
    """
    if client is None:
        client = _current_client()
    if client is None:
        check_this_process(device, performance_report)
        executor: Executor = ThreadExecutor()
        try:
            yield executor
        finally:
            executor.close()
        return
    # Imported here, because a run in this process does not need Dask's scheduler and comms.
    from cryolike_dask.execution.executors.cluster import ClusterExecutor

    with _seceded(), _connect(client) as connected, _performance_report(connected, performance_report):
        executor = ClusterExecutor(connected, device)
        try:
            yield executor
        finally:
            executor.close()


def check_this_process(device: Device, performance_report: str | Path | None = None) -> None:
    """Check that stacks can be made in this process, without a cluster.

    Args:
        device, performance_report: as for `open_executor`.

    Raises:
        InputError: there is no such device, or only a cluster can write the report.
    """
    if performance_report is not None:
        raise InputError("A performance report describes the work of a Dask cluster: give a client, or --workers.")
    if device != "cuda":
        return
    # Imported here, because the client of a cluster need not load the compiler.
    from cryolike_dask.transform.device import resolve_device

    try:
        resolve_device(device)
    except ConversionError as error:
        raise InputError(
            "device='cuda' (--device cuda) was requested, but no CUDA device is visible on this machine, or torch is a build without "
            "CUDA. Use device='auto' or 'cpu', or a cluster whose workers have GPUs (client, --scheduler)."
        ) from error


def check_scheduler(address: str) -> None:
    """Check that a scheduler answers.

    Raises:
        InputError: it does not.
    """
    with _connect(address):
        pass


@contextmanager
def _performance_report(client: Any, file: str | Path | None) -> Iterator[None]:
    if file is None:
        yield
        return
    from distributed import performance_report

    with client.as_current(), performance_report(str(Path(file).expanduser())):
        yield


@dataclass(frozen=True)
class Scheduler:
    """The address of a scheduler, and the credentials to connect to it.

    Args:
        address: such as 'tls://10.0.0.1:8786'.
        security: a `distributed.Security`, or None.
    """

    address: str
    security: Any


def synchronous(client: Any) -> Any:
    """A `client` argument that another thread can use. An asynchronous client is replaced by the address of its scheduler."""
    if client is None:
        client = _current_client()
    if not getattr(client, "asynchronous", False):
        return client
    is_cluster = hasattr(client, "scheduler_address")
    return Scheduler(client.scheduler_address if is_cluster else client.scheduler.address, client.security)


@contextmanager
def _seceded() -> Iterator[None]:
    """In a task of a worker, release the thread to other tasks. Without this, the tasks that it waits for could wait for its thread."""
    from distributed import get_worker, worker_client

    try:
        get_worker()
    except ValueError:
        yield
    else:
        with worker_client():
            yield


def _current_client() -> Any:
    if "distributed" not in sys.modules:
        return None  # without the import there is no client
    from distributed import get_client

    try:
        # A worker's own client inside a task, else the latest one of this process.
        return get_client(timeout=1)
    except ValueError:
        return None


@contextmanager
def _connect(client: Any) -> Iterator[Any]:
    from distributed import Client

    if isinstance(client, Client):
        if client.asynchronous:
            raise InputError("client is asynchronous: use `await conversion.run_async(client)` with it.")
        if client.status in ("closing", "closed"):
            raise InputError("The client is closed: give one that is connected, such as inside its `with` block.")
        yield client
    elif isinstance(client, str | Scheduler) or hasattr(client, "scheduler_address"):
        where = client.address if isinstance(client, Scheduler) else client
        security = client.security if isinstance(client, Scheduler) else None
        if isinstance(where, str):
            _check_certificate(where, security)
        with _new_client(where, security) as connected:
            yield connected
    else:
        raise InputError(
            f"client is of the type {type(client).__name__}: give a distributed Client, a Cluster, or a scheduler's address."
        )


def _new_client(where: Any, security: Any) -> Any:
    from distributed import Client

    try:
        return Client(where, security=security, set_as_default=False)
    except (OSError, ValueError) as error:
        reason = str(error)
    # The error and reference cycles keep the failed client alive. It must not be deleted later: if that happened while another cluster
    # starts, distributed would wait forever for a lock of its own. So it is deleted now, and the error is raised without its cause.
    gc.collect()
    raise InputError(f"No Dask scheduler answers at {where!r} ({reason}). Check the address.")


def _check_certificate(address: str, security: Any) -> None:
    from distributed import Security

    if not address.startswith("tls://"):
        return
    if (security or Security()).get_connection_args("client").get("ssl_context") is None:
        raise InputError(
            f"The Dask scheduler at {address} accepts only clients with a certificate, and Dask's configuration names none. Set "
            "distributed.comm.tls as described in deploy/tls/README.md, or give a Client with its own Security."
        )
