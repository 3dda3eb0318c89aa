"""The unit of work: read, transform and write one stack, a few images at a time, on one device; and the preparation of a process."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cryolike_dask.errors import CryolikeError, output_error
from cryolike_dask.execution.chunks import convert_chunks
from cryolike_dask.metadata.image_descriptor import ImageDescriptor
from cryolike_dask.planning.plan import StackPlan
from cryolike_dask.settings import ConversionSettings, Device
from cryolike_dask.stacks.complete import find_complete_stack
from cryolike_dask.stacks.receipt import StackReceipt
from cryolike_dask.stacks.writer import StackWriter
from cryolike_dask.transform.device import make_transform, peak_device_bytes, resolve_device
from cryolike_dask.transform.interface import TransformedImages

_WARM_UP_BOX = 16


def convert_stack(
    stack: StackPlan, folder: str | Path, cancelled: Callable[[], bool] = lambda: False, n_threads: int | None = None
) -> StackReceipt:
    """Make one stack and stage it. It may safely run twice, even at the same time.

    Args:
        stack: its plan.
        folder: output folder.
        cancelled: called after each chunk; if it returns True, the work is dropped.
        n_threads: as for `convert_chunks`. The files do not depend on it.

    Raises:
        InputError: an image is bad, or a file has changed or ends early.
        OutputError: the output cannot be written, for instance because the disk is full.
        RunStoppedError: `cancelled` returned True.
    """
    folder = Path(folder)
    try:
        existing = find_complete_stack(stack, folder)
        if existing is not None:
            return existing
        with StackWriter(stack, folder) as writer:
            seconds, warnings = convert_chunks(stack, writer.write, n_threads, cancelled)
            began = time.perf_counter()
            receipt = writer.stage()
            seconds["write"] += time.perf_counter() - began
    except OSError as error:
        if isinstance(error, CryolikeError):
            raise
        raise output_error(error, folder) from error
    return replace(
        receipt,
        read_seconds=seconds["read"],
        compute_seconds=seconds["compute"],
        write_seconds=seconds["write"],
        device_bytes=peak_device_bytes(stack.settings.device),
        warnings=tuple(warnings),
    )


def prepare_process(device: Device, params: ImageDescriptor | None = None) -> dict[str, Any]:
    """Transform one image, which loads all libraries and tables that conversions need.

    Returns:
        for the user: the device and its name, CUDA_VISIBLE_DEVICES, and the process ID.

    Raises:
        ConversionError: CUDA was requested, and there is none.
    """
    resolved = resolve_device(device)
    device_name = "CPU"
    if resolved != "cpu":
        import torch  # not needed on CPUs

        torch.set_num_threads(1)  # The threads of the worker are the only parallelism.
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
