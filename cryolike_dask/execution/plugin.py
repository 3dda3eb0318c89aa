"""Prepares a Dask worker before its first stack: loads libraries, and reports its device.

`local_cluster` adds the plugin to its workers. Other workers load it with `dask worker ... --preload cryolike_dask.execution.plugin`.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from typing import Any

from distributed import WorkerPlugin

from cryolike_dask import config
from cryolike_dask.execution.convert_stack import prepare_process
from cryolike_dask.metadata.image_descriptor import ImageDescriptor
from cryolike_dask.settings import Device

logger = logging.getLogger(__name__)


class WorkerSetup(WorkerPlugin):
    """Prepares a worker.

    Args:
        device: that its conversions will use.
        params: descriptor of the images that will be made; None to warm up with a small image, which loads libraries but makes no tables.
        leaves_interrupts: ignore Ctrl-C, which a terminal sends to all processes; the process that started this worker handles it.
    """

    name = "cryolike"
    idempotent = True

    def __init__(self, device: Device = "auto", params: ImageDescriptor | None = None, leaves_interrupts: bool = False) -> None:
        self.device: Device = device
        self.params = params
        self.leaves_interrupts = leaves_interrupts

    async def setup(self, worker: Any) -> None:
        """Called by Dask when the worker starts."""
        if self.leaves_interrupts and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        # Loading libraries takes seconds, during which the worker must answer its scheduler.
        report = await asyncio.to_thread(prepare_process, self.device, self.params)
        logger.info("Worker %s converts on %s.", worker.name, report["device"])

        async def startup_report(_: Any) -> dict[str, Any]:
            return report

        # Shown by the scheduler: `client.scheduler_info()["workers"][address]["cryolike"]`.
        worker.startup_information[self.name] = startup_report


async def dask_setup(worker: Any) -> None:
    """Called by Dask if this module is a preload."""
    params = config.text("worker.params")
    await worker.plugin_add(plugin=WorkerSetup(params=ImageDescriptor.load(params) if params else None))
