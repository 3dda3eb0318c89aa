"""Stacks of another size or format, made from those of an earlier conversion without its image files and without computing them again."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cryolike_dask.errors import InputError
from cryolike_dask.execution.chunks import StepTimer
from cryolike_dask.execution.run import run_in
from cryolike_dask.execution.tasks import publish_stacks_task
from cryolike_dask.mrc.header import ImageFile
from cryolike_dask.planning.plan import Plan
from cryolike_dask.planning.planner import plan_restacking
from cryolike_dask.progress import Progress, ProgressOption, StackProgress
from cryolike_dask.progress_bars import progress_from
from cryolike_dask.report import ConversionReport
from cryolike_dask.runs.folder import RunFolder
from cryolike_dask.runs.steps import begin_run, finish_run, left_to_make, make_report
from cryolike_dask.runs.stored_particles import StoredParticles, open_particles
from cryolike_dask.settings import ConversionSettings, OutputFormat, output_folder
from cryolike_dask.stacks.complete import find_complete_stack
from cryolike_dask.stacks.receipt import StackReceipt
from cryolike_dask.stacks.writer import StackWriter
from cryolike_dask.transform.interface import CONSTANT, OK, TransformedImages

logger = logging.getLogger(__name__)

_CHUNK_BYTES = 64 << 20


def restack(
    source: str | Path,
    folder_output: str | Path,
    *,
    batch_size: int | None = None,
    output_format: OutputFormat = "pt",
    zarr_store: str = "",
    save_phys: bool | None = None,
    skip_exist: bool = False,
    overwrite: bool = False,
    progress: ProgressOption = None,
) -> ConversionReport:
    """Write the images of an earlier conversion as stacks of another size or format. The result equals that of a new conversion.

    Args:
        source: output folder of the earlier conversion, or the path or URL of its Zarr store.
        folder_output: folder of the new stacks, which must be another one.
        batch_size: number of images per stack; None for the same as before.
        output_format, zarr_store: see `ConversionSettings`.
        save_phys: also write the images in real space; None for the same as before.
        skip_exist: continue an interrupted run in the same folder.
        overwrite: replace existing output in the folder.
        progress: as for `Conversion.run`.

    Raises:
        InputError: the source is not a complete conversion, or its particles do not fit the settings.
        OutputError: the output folder cannot be used.

    Example:
        >>> len(restack("converted", "smaller", batch_size=3).stacks)
        4
    """
    particles = open_particles(source)
    if save_phys and not particles.has_physical:
        raise InputError(f"{source} holds no images in real space, so none can be written: leave out save_phys.")
    folder = output_folder(folder_output)
    if "://" not in str(source) and folder == Path(source).expanduser().resolve():
        raise InputError(f"{folder} is the source itself: give another output folder.")
    known = {name: value for name, value in particles.identity["settings"].items() if name not in ("output_format", "zarr_store")}
    settings = ConversionSettings.from_options(
        known
        | {
            "batch_size": known["batch_size"] if batch_size is None else batch_size,
            "output_format": output_format,
            "zarr_store": zarr_store,
            "save_phys": particles.has_physical if save_phys is None else save_phys,
            "skip_exist": skip_exist,
            "overwrite": overwrite,
            "flag_plots": False,
        }
    )
    plan = plan_restacking(
        particles.table,
        _image_headers(particles),
        particles.descriptor,
        settings,
        particles.pixel_size,
        particles.identity["particles"],
    )
    return _run(particles, plan, folder, progress_from(progress))


def _run(particles: StoredParticles, plan: Plan, folder: Path, progress: Progress) -> ConversionReport:
    began = time.perf_counter()
    with run_in(folder, progress) as run:
        with run.heartbeat():
            published, warnings = _write_stacks(run, particles, plan, progress)
        return make_report(folder, plan, published, warnings, time.perf_counter() - began)


def _write_stacks(
    run: RunFolder, particles: StoredParticles, plan: Plan, progress: Progress
) -> tuple[dict[int, StackReceipt], list[str]]:
    """Write and publish one stack after the other. Returns their receipts, and warnings."""
    complete = begin_run(run, plan, progress)
    published = {counter: receipt for counter, receipt in complete.items() if not receipt.attempt}
    progress.start(*left_to_make(plan, complete))
    images = _SourceImages(particles)
    try:
        for counter in range(len(published), plan.n_stacks):
            receipt = _write_stack(run, plan, counter, images)
            publish_stacks_task(str(run.folder), run.run_id, (counter,), (receipt.attempt,))
            published[counter] = receipt
            if counter not in complete:
                progress.stack_done(
                    StackProgress(counter, receipt.n_images, receipt.read_seconds, 0.0, receipt.write_seconds, receipt.n_bytes)
                )
            run.check_lock()
    finally:
        warnings = finish_run(run, plan, published.values())
    return published, warnings


def _write_stack(run: RunFolder, plan: Plan, counter: int, images: _SourceImages) -> StackReceipt:
    stack = plan.stack(counter)
    existing = find_complete_stack(stack, run.folder)
    if existing is not None:
        return existing
    timer = StepTimer()
    first, last = plan.bounds[counter].tolist()
    with StackWriter(stack, run.folder) as writer:
        timer.record("write")
        for number, (row, part) in enumerate(images.rows(first, last)):
            timer.record("read")
            writer.write(number, np.arange(row - first, row - first + len(part.fourier)), part)
            timer.record("write")
        receipt = writer.stage()
        timer.record("write")
    return replace(receipt, read_seconds=timer.seconds["read"], write_seconds=timer.seconds["write"])


class _SourceImages:
    """Images by row of the table. The source stack that was read last is kept, because the next rows are probably in it."""

    def __init__(self, particles: StoredParticles) -> None:
        self.particles = particles
        self._open_counter = -1
        self._fourier: npt.NDArray[Any] = np.empty(0)
        self._physical: npt.NDArray[np.float32] | None = None

    def rows(self, first: int, last: int) -> Iterator[tuple[int, TransformedImages]]:
        """The images of these rows in parts: the first row of each part, and its images."""
        stack_ends = self.particles.stack_ends
        while first < last:
            counter = int(np.searchsorted(stack_ends, first, side="right"))
            begin = int(stack_ends[counter - 1]) if counter else 0
            if counter != self._open_counter:
                self._fourier, self._physical = self.particles.read(counter)
                self._open_counter = counter
            chunk_images = max(1, _CHUNK_BYTES // self._fourier[0].nbytes)
            stop = min(last, int(stack_ends[counter]), first + chunk_images)
            yield first, self._select(slice(first - begin, stop - begin))
            first = stop

    def _select(self, images: slice) -> TransformedImages:
        fourier = np.ascontiguousarray(self._fourier[images])
        physical = np.empty((len(fourier), 0, 0), np.float32) if self._physical is None else self._physical[images]
        real = fourier.view(fourier.real.dtype).reshape(*fourier.shape, 2).astype(np.float64)
        power = np.einsum("ksip,ksip->ks", real, real) / fourier.shape[2]
        # An image without any power is a bad image that was written as zeros.
        status = np.where(power.any(axis=1), OK, CONSTANT).astype(np.uint8)
        return TransformedImages(fourier, np.ascontiguousarray(physical), power, status)


def _image_headers(particles: StoredParticles) -> list[ImageFile | None]:
    """Headers with what the stacks record, so that the image files themselves are not needed."""
    n_rows, n_columns = particles.identity["source_box"]
    return [ImageFile(path, 0, n_rows, n_columns, "<f4", 0, float("nan"), "", 0, 0) for path in particles.table.files]
