"""Clusters on this machine: one process per GPU, or processes that share the cores."""

from __future__ import annotations

import copy
import importlib.util
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from distributed import LocalCluster
from distributed.system import MEMORY_LIMIT

from cryolike_dask import config
from cryolike_dask.config import available_cores
from cryolike_dask.errors import InputError
from cryolike_dask.execution.fork_server import forked_workers
from cryolike_dask.execution.plugin import WorkerSetup
from cryolike_dask.metadata.image_descriptor import ImageDescriptor
from cryolike_dask.settings import Device
from cryolike_dask.transform.cpu import say_if_compiling
from cryolike_dask.transform.device import may_have_gpu, resolve_device

_MIN_WORKER_MEMORY = 1 << 30
"""Bytes that a worker process needs for its libraries, and for a stack on each of a few threads."""


def local_cluster(
    device: Device = "auto",
    n_workers: int | None = None,
    threads_per_worker: int | None = None,
    memory_limit: int | str | None = "auto",
    params: ImageDescriptor | str | Path | None = None,
    **options: Any,
) -> Any:
    """Start a Dask cluster on this machine. Use it as a context manager, or close it.

    Args:
        device: 'cuda' for one process per GPU, each of which sees only its own GPU; 'cpu' for processes that share the cores; 'auto' for
            GPUs if there are any.
        n_workers: number of processes. By default one per GPU, or as many as cores and memory allow.
        threads_per_worker: threads of each process. By default `cryolike.gpu.threads` on GPUs, else an equal share of the cores.
        memory_limit: of each process, in bytes or as text such as '16 GiB'; 'auto' divides the memory of this machine; None for no limit.
        params: descriptor of the images that will be made, or the path of its params `.npz`. Workers then prepare for these images when
            they start.
        options: for `distributed.LocalCluster`, such as dashboard_address.

    Returns:
        a `LocalCluster`; with dask-cuda installed and GPUs, its `LocalCUDACluster`.

    Raises:
        InputError: there are fewer GPUs than asked for, or none.

    Example:
        >>> from cryolike_dask import convert_particle_stacks_from_indexed_star_file
        >>> if __name__ == "__main__":  # worker processes begin by importing the script
        ...     with local_cluster("cpu", n_workers=1) as cluster:
        ...         report = convert_particle_stacks_from_indexed_star_file(
        ...             None, "particles.star", "mrc", "stacks", client=cluster
        ...         )
    """
    if n_workers is not None and n_workers < 1:
        raise InputError(f"n_workers is {n_workers}: it must be at least 1.")
    gpus = visible_gpus() if device == "cuda" or (device == "auto" and _has_cuda()) else []
    if device == "cuda" and not gpus:
        raise InputError("device='cuda' was requested, but no CUDA device is visible on this machine. Use device='auto' or 'cpu'.")
    if len(gpus) < (n_workers or 1) and gpus:
        raise InputError(
            f"{n_workers} workers were requested, but there are only {len(gpus)} GPUs, with one worker each. Request at most that many, "
            "or use device='cpu'."
        )
    n_workers = n_workers or len(gpus) or _cpu_workers(threads_per_worker)
    if memory_limit == "auto":
        memory_limit = MEMORY_LIMIT // n_workers
    options_of_all = {"dashboard_address": "127.0.0.1:0", "memory_limit": memory_limit, **options}
    descriptor = None if params is None else ImageDescriptor.ensure(params)
    setup = WorkerSetup("cuda" if gpus and _has_cuda() else "cpu", descriptor, leaves_interrupts=True)
    if not gpus:
        threads = threads_per_worker or max(1, available_cores() // n_workers)
        if options_of_all.get("processes", True):
            # The environment of the server dates from its start, so workers get the present one.
            options_of_all["env"] = {"PYTHONPATH": "", **os.environ, **options.get("env", {})}
        with forked_workers():
            # Only after the server has been started, because this call loads the compiler.
            say_if_compiling()
            return _start(LocalCluster, n_workers=n_workers, threads_per_worker=threads, plugins={setup}, **options_of_all)
    options_of_all |= {
        "threads_per_worker": threads_per_worker or config.positive_integer("gpu.threads"),
        "resources": {config.text("gpu.resource"): 1},
        "plugins": {setup},
    }
    if importlib.util.find_spec("dask_cuda") is not None:
        from dask_cuda import LocalCUDACluster

        return _start(LocalCUDACluster, CUDA_VISIBLE_DEVICES=gpus[:n_workers], **options_of_all)
    return _start(LocalGpuCluster, gpus[:n_workers], **options_of_all)


def _start(kind: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Start a cluster of this kind. After Ctrl-C during the start it is closed once it has started, because it cannot be closed earlier."""
    with _interrupts_wait() as interrupted:
        cluster = kind(*arguments, **options)
        if interrupted.is_set():
            cluster.close()
        return cluster


@contextmanager
def _interrupts_wait() -> Iterator[threading.Event]:
    """Within this context, the first Ctrl-C is noted, and raised at the end.

    The second one is raised immediately, and so is the first if another handler than Python's is installed.
    """
    noted = threading.Event()
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    ):
        yield noted
        return

    def note(*_: object) -> None:
        noted.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    signal.signal(signal.SIGINT, note)
    try:
        yield noted
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if noted.is_set():
        raise KeyboardInterrupt


class LocalGpuCluster(LocalCluster):
    """Nannies whose workers see one GPU each, as number 0.

    Args:
        gpus: their names in CUDA_VISIBLE_DEVICES.
        options: for `LocalCluster`.
    """

    def __init__(self, gpus: list[str], **options: Any) -> None:
        self.gpus = gpus
        super().__init__(n_workers=0, processes=True, **options)
        self.scale(len(gpus))
        self.sync(self._correct_state)

    def new_worker_spec(self) -> dict[str, Any]:
        """The next worker, on the first GPU without a worker."""
        free = [gpu for gpu in self.gpus if _worker_name(gpu) not in self.worker_spec]
        if not free:
            raise InputError(f"Each of the {len(self.gpus)} GPUs has a worker already: the cluster cannot grow.")
        spec = copy.deepcopy(self.new_spec)
        spec["options"]["env"] = {**spec["options"].get("env", {}), "CUDA_VISIBLE_DEVICES": free[0]}
        return {_worker_name(free[0]): spec}


def _worker_name(gpu: str) -> str:
    return f"gpu-{gpu}"


def visible_gpus() -> list[str]:
    """The GPUs of this machine that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is None:
        if not may_have_gpu():
            return []
        import torch

        return [str(number) for number in range(torch.cuda.device_count())]
    gpus = []
    for name in (part.strip() for part in named.split(",")):
        if name in ("", "-1"):
            break  # CUDA also stops at the first name that is not valid.
        gpus.append(name)
    return gpus


def _has_cuda() -> bool:
    return resolve_device("auto") != "cpu"


def _cpu_workers(threads_per_worker: int | None) -> int:
    threads = threads_per_worker or config.positive_integer("cpu.threads")
    by_cores = -(-available_cores() // threads)
    return max(1, min(by_cores, MEMORY_LIMIT // _MIN_WORKER_MEMORY))
