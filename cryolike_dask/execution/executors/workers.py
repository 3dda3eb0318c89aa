"""The workers of a Dask cluster, and which of them can work on a run."""

from __future__ import annotations

import logging
import math
import time
from typing import Any

from cryolike_dask import __version__, config
from cryolike_dask.errors import ConversionError
from cryolike_dask.execution.executors.remote import remote_check
from cryolike_dask.formatting import is_or_are, plural
from cryolike_dask.settings import Device

logger = logging.getLogger(__name__)

Worker = dict[str, Any]
"""The scheduler's information about a worker."""

_WORKER_BYTES = 400 << 20
"""Memory of a worker process once all libraries are loaded."""
_CACHE_SECONDS = 1.0
"""Minimum time for which the scheduler's information about workers is used."""
_CACHE_SHARE = 50
"""The same as a multiple of the time that the request took. For a thousand workers it takes a good part of a second."""
_MOST_CACHE_SECONDS = 10.0
"""Maximum time for which the information is used. Meanwhile, changes go unnoticed: workers that joined or died."""
_CHECK_TIMEOUT_SECONDS = 60.0
"""Time limit for workers to answer whether they can work on a run. They import all libraries for this."""


class ClusterWorkers:
    """The workers of a cluster, as they come and go.

    Args:
        client: a synchronous `distributed.Client`.
        device: that stacks are made on.
    """

    def __init__(self, client: Any, device: Device) -> None:
        self._client = client
        self._device = device
        self._gpu = config.text("gpu.resource") if device != "cpu" else ""
        self._stacks_per_gpu = config.positive_integer("gpu.stacks")
        self._workers: dict[str, Worker] = {}
        self._valid_until = -math.inf
        self._check: tuple[str, str, str] | None = None
        self._checked: set[str] = set()
        self._seen: set[str] = set()
        self.unusable: dict[str, str] = {}
        """Why workers are not used, by address."""

    def check(self, folder: str, run_id: str, image_file: str) -> None:
        """See `Executor.check_workers`."""
        self._check = (folder, run_id, image_file)
        self.usable()

    def usable(self) -> dict[str, Worker]:
        """The workers that can be used, by address. Workers that have joined are checked first.

        Raises:
            ConversionError: there are workers, but none can be used.
        """
        if (began := time.monotonic()) >= self._valid_until:
            self._workers = dict(self._client.scheduler_info(n_workers=-1)["workers"])
            took = time.monotonic() - began
            self._valid_until = began + min(max(_CACHE_SECONDS, _CACHE_SHARE * took), _MOST_CACHE_SECONDS)
            self._seen |= self._workers.keys()
        if self._check is not None and not self._workers.keys() <= self._checked:
            self._set_unusable_aside(self._workers.keys() - self._checked, self._check)
        return {address: worker for address, worker in self._workers.items() if address not in self.unusable}

    def with_gpus(self) -> list[Worker]:
        """The workers that declare the GPU resource; none if the device is 'cpu'."""
        return self._gpu_workers(self.usable())

    def gpu_resources(self) -> dict[str, float] | None:
        """The resources that the task of a stack needs; None if stacks may be made anywhere."""
        return {self._gpu: 1 / self._stacks_per_gpu} if self.with_gpus() else None

    def n_slots(self) -> int:
        """Number of stacks that the workers can work on at a time."""
        return sum(self._slots(worker) for worker in self.with_gpus() or self.usable().values())

    def memory_per_thread(self) -> int | None:
        """Bytes per thread on the worker that has the least, without the memory of the libraries; None if it is not known."""
        limits = [
            (w["memory_limit"] - _WORKER_BYTES) // max(1, w["nthreads"], self._slots(w))
            for w in self.with_gpus() or self.usable().values()
            if w.get("memory_limit")
        ]
        return min(limits, default=None)

    def state(self) -> str:
        """A text with the numbers of workers that are there, that are gone, and that are not used."""
        n_usable, n_gone, n_aside = len(self.usable()), len(self._seen - self._workers.keys()), len(self.unusable)
        gone = f" {plural(n_gone, 'worker')} {is_or_are(n_gone)} gone: if they died, their logs say why." if n_gone else ""
        aside = f" {plural(n_aside, 'worker')} {is_or_are(n_aside)} not used." if n_aside else ""
        return f"{plural(n_usable, 'worker')} {is_or_are(n_usable)} there.{gone}{aside}"

    def _slots(self, worker: Worker) -> int:
        on_gpus = worker.get("resources", {}).get(self._gpu, 0) if self._gpu else 0
        return int(on_gpus * self._stacks_per_gpu) or worker["nthreads"]

    def _gpu_workers(self, workers: dict[str, Worker]) -> list[Worker]:
        return [w for w in workers.values() if self._gpu and w.get("resources", {}).get(self._gpu, 0) > 0]

    def _set_unusable_aside(self, addresses: set[str], arguments: tuple[str, str, str]) -> None:
        self._checked |= addresses
        # If some workers declare GPUs, the others only publish and draw, which needs no GPU.
        gpus = {address for address, worker in self._workers.items() if self._gpu_workers({address: worker})}
        computing = addresses & (gpus or addresses)

        async def ask() -> dict[str, Any]:
            answers: dict[str, Any] = {}
            for device, asked in ((self._device, computing), ("cpu", addresses - computing)):
                if asked:
                    check = (remote_check(), __version__, *arguments, device)
                    answers |= await self._client.run(*check, workers=sorted(asked), on_error="return")
            return answers

        try:
            answers = self._client.sync(ask, callback_timeout=_CHECK_TIMEOUT_SECONDS)
        except TimeoutError:
            logger.warning("Workers did not say within %g s whether they can work on this run.", _CHECK_TIMEOUT_SECONDS)
            return
        for address, answer in answers.items():
            # The answer of a worker that has left meanwhile is a connection error.
            if answer and not isinstance(answer, OSError):
                name = self._workers.get(address, {}).get("name", address)
                self.unusable[address] = f"Worker {name} ({address}) is not used: {answer.removesuffix('.')}."
        if self._workers and self._workers.keys() <= self.unusable.keys():
            reasons = sorted({self.unusable[address] for address in self._workers})
            more = f"\n  and {len(reasons) - 3} more" if len(reasons) > 3 else ""
            n_workers = len(self._workers)
            which = f"None of the {n_workers:,} workers" if n_workers > 1 else "The only worker"
            can = "can" if n_workers > 1 else "cannot"
            raise ConversionError(
                f"{which} at {self._client.scheduler.address} {can} work on this run:"
                + "".join(f"\n  {reason}" for reason in reasons[:3])
                + more
            )
        for address in sorted(addresses & self.unusable.keys()):
            logger.warning("%s", self.unusable[address])
