"""An estimate of how long a conversion will take on this machine, from a trial with its first images."""

from __future__ import annotations

import tempfile
import threading
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cryolike_dask.config import available_cores
from cryolike_dask.errors import InputError, OutputError
from cryolike_dask.execution.chunks import convert_chunks
from cryolike_dask.execution.executors.threads import ThreadExecutor
from cryolike_dask.execution.run import log_ctf_misfit, run_plan
from cryolike_dask.pictures.stack_plots import plot_stack
from cryolike_dask.planning.plan import Plan
from cryolike_dask.planning.preflight import CHUNK_BYTES
from cryolike_dask.progress import NoProgress, Progress
from cryolike_dask.report import ConversionReport
from cryolike_dask.runs.steps import check_before_run
from cryolike_dask.settings import ConversionSettings
from cryolike_dask.transform.cpu import say_if_compiling
from cryolike_dask.transform.interface import OK, TransformedImages

_CHUNKS_PER_CORE = 24
_STACKS = 4
"""While one is written, the next is read and transformed, as in a long run. Smaller stacks would add more than their share of the time that
every stack takes, whatever its size."""
_MOST_BYTES = 1 << 30
_FEWEST_IMAGES = 32
_FEWEST_SECONDS = 1.0
"""To start and to end a run takes about as long, even without images."""


def seconds_on_this_machine(plan: Plan, folder: Path, progress: Progress) -> float:
    """Seconds that all cores of this machine need for a conversion, whatever device it will use: from reading to pictures.

    Some of its first images are converted in memory, which compiles the loops and finds bad images, and then to a temporary folder beside
    the output folder.

    Args:
        plan: of the conversion.
        folder: where stacks will go.
        progress: informed of what is done.

    Raises:
        InputError: an image is bad, and the settings do not allow that, or its file has changed.
        OutputError: nothing can be written beside the output folder.
    """
    check_before_run(folder, plan, reaches_store=False)
    say_if_compiling(progress.step)
    sample = _sample(plan)
    sample = _select(sample, _good_rows(sample))
    progress.step("Trying some images")
    place = next(parent for parent in folder.parents if parent.is_dir())
    try:
        with tempfile.TemporaryDirectory(prefix=".cryolike-dask-", dir=place) as scratch:
            return _extrapolate(plan, sample, Path(scratch))
    except OSError as error:
        if isinstance(error, InputError):
            raise
        # The cause of an OutputError does not name the temporary folder.
        cause = error.__cause__ if isinstance(error, OutputError) and isinstance(error.__cause__, OSError) else error
        raise OutputError(
            f"The estimate of the time needs to convert some images in {place}, beside the output folder, but nothing can be written "
            f"there: {cause.strerror or cause}. Make room or choose another output folder."
        ) from error


def _extrapolate(plan: Plan, sample: Plan, scratch: Path) -> float:
    """The time per further image is the difference between a part of the sample and all of it. Both contain the start, the CTF check and
    the end, which waits for the disk."""
    part = _select(sample, np.arange(int(sample.bounds[max(1, sample.n_stacks // _STACKS) - 1, 1])))
    _run(_select(sample, np.arange(1)), scratch / "first")  # loads libraries, so that the timed runs need not
    seconds_of_part, _ = _run(part, scratch / "part")
    seconds, report = _run(sample, scratch / "sample")
    log_ctf_misfit(report)
    pictures = 0.0
    if plan.settings.flag_plots:
        pictures = _seconds_of_pictures(scratch / "sample") / min(available_cores(), plan.n_stacks)
    per_image = (seconds - seconds_of_part - (sample.n_stacks - part.n_stacks) * pictures) / max(1, sample.n_images - part.n_images)
    further_images, further_stacks = plan.n_images - sample.n_images, plan.n_stacks - sample.n_stacks
    return max(_FEWEST_SECONDS, seconds + max(0.0, per_image) * further_images + pictures * further_stacks)


def _seconds_of_pictures(folder: Path) -> float:
    """Seconds for one stack on one core."""
    began = time.perf_counter()
    plot_stack(folder, 0)
    return time.perf_counter() - began


def _run(plan: Plan, folder: Path) -> tuple[float, ConversionReport]:
    """Seconds, and the report."""
    began = time.perf_counter()
    executor = ThreadExecutor()
    try:
        report = run_plan(plan, folder, nullcontext(executor), NoProgress(), threading.Event())
    except BaseException as error:
        # The notes say how to continue in the temporary folder, which is removed.
        vars(error).pop("__notes__", None)
        raise
    finally:
        executor.close()
    return time.perf_counter() - began, report


def _sample(plan: Plan) -> Plan:
    """The first images, in whole stacks if these are small, else in a few parts of them."""
    n_bytes = min(available_cores() * _CHUNKS_PER_CORE * CHUNK_BYTES, _MOST_BYTES)
    wanted = max(_FEWEST_IMAGES, n_bytes // plan.image_bytes)
    ends = plan.bounds[:, 1]
    if ends[0] > wanted // _STACKS:
        edges = np.linspace(0, min(wanted, plan.n_images), min(_STACKS, wanted, plan.n_images) + 1).astype(np.int64)
    else:
        edges = np.concatenate([[0], ends[: int(np.searchsorted(ends, wanted)) + 1]])
    bounds = np.stack([edges[:-1], edges[1:]], axis=1)
    return replace(
        plan,
        table=plan.table.take(slice(0, int(edges[-1]))),
        settings=_as_tensor_files(plan.settings),
        bounds=bounds,
        pixel_size=plan.pixel_size[np.searchsorted(ends, bounds[:, 0], side="right")],
        file_offsets=np.empty(0, dtype=np.int64),
    )


def _as_tensor_files(settings: ConversionSettings) -> ConversionSettings:
    """The settings for the trial: unlike the machines that will convert, this one may have no GPU, and no access to the store."""
    return replace(settings, device="cpu", output_format="pt", zarr_store="", skip_exist=False, overwrite=False, hash_inputs=False)


def _select(plan: Plan, rows: npt.NDArray[np.int64]) -> Plan:
    """The plan with only these rows, which are ascending; stacks that become empty are left out."""
    ends = np.searchsorted(rows, plan.bounds[:, 1])
    starts = np.searchsorted(rows, plan.bounds[:, 0])
    kept = ends > starts
    bounds = np.stack([starts, ends], axis=1)[kept]
    return replace(plan, table=plan.table.take(rows), bounds=bounds, pixel_size=plan.pixel_size[kept])


def _good_rows(plan: Plan) -> npt.NDArray[np.int64]:
    """Rows whose images can be converted; all of them if none can."""
    good: list[npt.NDArray[np.int64]] = []
    for counter in range(plan.n_stacks):
        first = int(plan.bounds[counter, 0])

        def note(_: int, positions: npt.NDArray[np.int64], images: TransformedImages, first: int = first) -> None:
            good.append(first + positions[images.status == OK])

        convert_chunks(plan.stack(counter), note, None)
    rows = np.sort(np.concatenate(good))
    return rows if len(rows) else np.arange(plan.n_images)
