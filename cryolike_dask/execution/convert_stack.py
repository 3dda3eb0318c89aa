"""The unit of work: read, transform and write one stack, a few images at a time, on one device."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cryolike_dask.errors import CryolikeError, InputError, RunStoppedError, output_error
from cryolike_dask.execution.particle_reader import ParticleReader
from cryolike_dask.planning.plan import StackPlan
from cryolike_dask.planning.preflight import CHUNK_BYTES
from cryolike_dask.stacks.receipt import WRITTEN_AS_ZEROS, StackReceipt
from cryolike_dask.stacks.writer import StackWriter, find_complete_stack
from cryolike_dask.transform.centring import NOT_FINITE, OK
from cryolike_dask.transform.cpu import Transform, TransformedImages
from cryolike_dask.transform.device import make_transform, peak_device_bytes


class StepTimer:
    """Seconds spent reading, computing and writing."""

    def __init__(self) -> None:
        self.seconds = {"read": 0.0, "compute": 0.0, "write": 0.0}
        self._last = time.perf_counter()

    def record(self, step: str) -> None:
        """Count the time since the last record, or since this was made, for a step: 'read', 'compute' or 'write'."""
        now = time.perf_counter()
        self.seconds[step] += now - self._last
        self._last = now


def convert_stack(stack: StackPlan, folder: str | Path, cancelled: Callable[[], bool] = lambda: False) -> StackReceipt:
    """Make one stack and stage it. Running it twice, at once or one after the other, does no harm.

    Args:
        stack: its plan.
        folder: output folder.
        cancelled: asked between chunks; when true, the work is dropped.

    Raises:
        InputError: an image is bad, or a file has changed or ends early.
        OutputError: the output cannot be written, for instance because the disk is full.
        RunStoppedError: `cancelled` said so.
    """
    folder = Path(folder)
    try:
        timer = StepTimer()
        existing = find_complete_stack(stack, folder)
        if existing is not None:
            return existing
        warnings: list[str] = []
        with StackWriter(stack, folder) as writer:
            timer.record("write")
            for positions, results in transform_chunks(stack, timer, warnings):
                writer.write(positions, results)
                timer.record("write")
                # Asked after the last chunk too: a stack of a run that is over must not be staged among those of the next.
                if cancelled():
                    raise RunStoppedError(f"Stack {stack.counter:06d} was cancelled.")
            receipt = writer.stage()
            timer.record("write")
    except OSError as error:
        if isinstance(error, CryolikeError):
            raise
        raise output_error(error, folder) from error
    return replace(
        receipt,
        read_seconds=timer.seconds["read"],
        compute_seconds=timer.seconds["compute"],
        write_seconds=timer.seconds["write"],
        device_bytes=peak_device_bytes(stack.settings.device),
        warnings=tuple(warnings),
    )


def transform_chunks(
    stack: StackPlan, timer: StepTimer, warnings: list[str]
) -> Iterator[tuple[npt.NDArray[np.int64], TransformedImages]]:
    """Read and transform the images of a stack in the order of their files.

    Yields:
        positions in the stack, and results that are valid until the next step.

    Raises:
        InputError: as for `convert_stack`.
    """
    transform = make_transform(stack.descriptor, stack.settings)
    with ParticleReader(stack) as reader:
        n = max(1, min(len(stack), _images_per_chunk(stack, transform)))
        results = TransformedImages.allocate(n, stack.descriptor)
        images = np.empty((n, *reader.image_shape), dtype=np.float32)
        for first in range(0, len(stack), n):
            n_read = min(n, len(stack) - first)
            positions = reader.read(first, images[:n_read])
            reader.advise(first + n_read, n)
            timer.record("read")
            part = results.first(n_read)
            transform(images[:n_read], part)
            _check_images(stack, positions, part.status, warnings)
            timer.record("compute")
            yield positions, part
        reader.check_unchanged()


def _images_per_chunk(stack: StackPlan, transform: Transform) -> int:
    descriptor = stack.descriptor
    n_bytes = descriptor.polar_grid.n_points * descriptor.complex_dtype.itemsize + 4 * int(np.prod(descriptor.n_pixels))
    return max(transform.images_per_batch, CHUNK_BYTES // n_bytes)


def _check_images(stack: StackPlan, positions: npt.NDArray[np.int64], status: npt.NDArray[np.uint8], warnings: list[str]) -> None:
    for position in positions[status != OK].tolist():
        problem = "has pixels that are not finite" if status[positions == position][0] == NOT_FINITE else "is constant"
        where = stack.where(position)
        if stack.settings.on_bad_image == "raise":
            raise InputError(
                f"{where} {problem}, so it cannot be centred and normalised. Remove the particle from the table, or write zeros for "
                "such images with on_bad_image='zero' (--on-bad-image zero)."
            )
        warnings.append(f"{where} {problem}: {WRITTEN_AS_ZEROS}")
