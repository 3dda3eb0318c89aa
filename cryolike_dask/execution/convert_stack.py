"""The unit of work: read, transform and write one stack, a few images at a time, on one device."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from cryolike_dask.errors import CryolikeError, output_error
from cryolike_dask.execution.chunks import convert_chunks
from cryolike_dask.planning.plan import StackPlan
from cryolike_dask.stacks.complete import find_complete_stack
from cryolike_dask.stacks.receipt import StackReceipt
from cryolike_dask.stacks.writer import StackWriter
from cryolike_dask.transform.device import peak_device_bytes


def convert_stack(
    stack: StackPlan, folder: str | Path, cancelled: Callable[[], bool] = lambda: False, n_threads: int | None = None
) -> StackReceipt:
    """Make one stack and stage it. Running it twice, at once or one after the other, does no harm.

    Args:
        stack: its plan.
        folder: output folder.
        cancelled: asked after each chunk; when true, the work is dropped.
        n_threads: as for `convert_chunks`. The files are the same, whatever it is.

    Raises:
        InputError: an image is bad, or a file has changed or ends early.
        OutputError: the output cannot be written, for instance because the disk is full.
        RunStoppedError: `cancelled` said so.
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
