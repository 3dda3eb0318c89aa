"""What a Dask worker does before its first stack: warm up, and say which device it has.

`local_cluster` gives it to its workers. Elsewhere it is a preload: `dask worker ... --preload cryolike_dask.execution.plugin`.
"""

from __future__ import annotations

import asyncio
import logging
import os
from typing import Any

import numpy as np
from distributed import WorkerPlugin

from cryolike_dask import config
from cryolike_dask.metadata.image_descriptor import ImageDescriptor
from cryolike_dask.settings import ConversionSettings, Device
from cryolike_dask.transform.device import make_transform, resolve_device
from cryolike_dask.transform.interface import TransformedImages

logger = logging.getLogger(__name__)

_WARM_UP_BOX = 16


class WorkerSetup(WorkerPlugin):
    """Prepares a worker.

    Args:
        device: that its conversions will use.
        params: descriptor of the images that will be made; None to warm up with small ones, which loads libraries but no tables.
    """

    name = "cryolike"
    idempotent = True

    def __init__(self, device: Device = "auto", params: ImageDescriptor | None = None) -> None:
        self.device: Device = device
        self.params = params

    async def setup(self, worker: Any) -> None:
        """Called by Dask when the worker starts."""
        # Loading libraries takes seconds, during which the worker must answer its scheduler.
        report = await asyncio.to_thread(prepare_process, self.device, self.params)
        logger.info("Worker %s converts on %s.", worker.name, report["device"])

        async def startup_report(_: Any) -> dict[str, Any]:
            return report

        # The scheduler shows it among what it knows of the worker: `client.scheduler_info()["workers"][address]["cryolike"]`.
        worker.startup_information[self.name] = startup_report


def prepare_process(device: Device, params: ImageDescriptor | None = None) -> dict[str, Any]:
    """Transform one image, which loads whatever is needed for it.

    Returns:
        what a person wants to know: device, its name, CUDA_VISIBLE_DEVICES, process.

    Raises:
        ConversionError: CUDA was asked for and there is none.
    """
    resolved = resolve_device(device)
    device_name = "CPU"
    if resolved != "cpu":
        import torch  # which CPUs do without

        torch.set_num_threads(1)  # A worker's threads are its parallelism.
        device_name = torch.cuda.get_device_name(resolved)
    descriptor = params or ImageDescriptor.from_individual_values(n_pixels=_WARM_UP_BOX, pixel_size=1.0)
    n_x, n_y = descriptor.n_pixels
    image = np.random.default_rng(0).standard_normal((1, n_x, n_y)).astype(np.float32)
    make_transform(descriptor, ConversionSettings(device=device))(image, TransformedImages.allocate(1, descriptor))
    return {
        "device": resolved,
        "device_name": device_name,
        "cuda_visible_devices": os.environ.get("CUDA_VISIBLE_DEVICES", ""),
        "pid": os.getpid(),
    }


async def dask_setup(worker: Any) -> None:
    """Called by Dask where this module is a preload."""
    params = config.text("worker.params")
    await worker.plugin_add(plugin=WorkerSetup(params=ImageDescriptor.load(params) if params else None))
