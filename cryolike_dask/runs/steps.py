"""The first and the last step of a run, which do not depend on what does the work in between: preparing the folder, recording the run."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType

import numpy as np

from cryolike_dask.errors import CryolikeError, InputError, OutputError
from cryolike_dask.filesystem.pinned import pinned, pinned_place
from cryolike_dask.formatting import is_or_are, plural
from cryolike_dask.particles.star.export import write_particles_star
from cryolike_dask.planning.input_files import hash_inputs, list_inputs
from cryolike_dask.planning.plan import Plan
from cryolike_dask.planning.preflight import check_disk_space
from cryolike_dask.planning.store import store_plan
from cryolike_dask.progress import NoProgress, Progress
from cryolike_dask.report import ConversionReport, StackRecord
from cryolike_dask.runs.differences import check_output
from cryolike_dask.runs.folder import RunFolder, check_folder, has_output, prepare_folder
from cryolike_dask.runs.manifest import begin_manifest, complete_manifest, read_manifest, recorded_inputs
from cryolike_dask.settings import is_url, store_location
from cryolike_dask.stacks.checksums import crc32_of_file
from cryolike_dask.stacks.complete import find_complete_stack
from cryolike_dask.stacks.durable import replace_durably
from cryolike_dask.stacks.files import (
    LEFTOVER,
    PARAMS_FILE,
    STAGED,
    STAR_FILE,
    StackPaths,
    leftover_counters,
    published_counters,
    unpublish,
)
from cryolike_dask.stacks.object_store import open_object_store
from cryolike_dask.stacks.receipt import StackReceipt
from cryolike_dask.stacks.writer import install_leftovers, remove_staged, remove_unpublished
from cryolike_dask.stacks.zarr_shard import shard_name
from cryolike_dask.stacks.zarr_store import begin_store, check_store, commit

logger = logging.getLogger(__name__)

_SILENT = NoProgress()


def check_before_run(folder: Path, plan: Plan, reaches_store: bool = True) -> bool:
    """Check that a plan may be run in a folder. Nothing is written, so that a plan that is only looked at is refused in the same cases.

    Args:
        folder: output folder.
        plan: of the run.
        reaches_store: whether this machine has access to a Zarr store behind a URL.

    Returns:
        whether it continues what the folder holds.

    Raises:
        OutputError: the folder cannot be written to, holds other output, or has too little space.
    """
    check_folder(folder)
    check_output(folder, plan)
    continues = plan.settings.skip_exist and has_output(folder)
    check_disk_space(folder, plan)
    if plan.settings.output_format == "zarr" and (reaches_store or not is_url(plan.settings.zarr_store)):
        check_store(plan, folder, continues)
    return continues


def begin_run(run: RunFolder, plan: Plan, progress: Progress = _SILENT, tied_to_process: bool = True) -> dict[int, StackReceipt]:
    """Prepare the folder for this plan, and record that a run is in progress.

    Args:
        run: that owns the folder.
        plan: of the run.
        progress: informed of the existing stacks that are checked.
        tied_to_process: whether the run ends with this process; not so for a Dask graph.

    Returns:
        receipts of the stacks that an earlier run left complete, by counter. Those up to the first gap are visible. The others have an
        attempt, and wait for those before them.

    Raises:
        InputError: an image file cannot be hashed.
        OutputError: existing output may not be continued or replaced, or there is too little space.
    """
    continues = check_before_run(run.folder, plan)
    if plan.settings.zarr_store:
        run.acquire_store(plan.settings.zarr_store, tied_to_process)
    inputs = list_inputs(plan, recorded_inputs(read_manifest(run.folder)) if plan.settings.skip_exist else {})
    if plan.settings.hash_inputs:
        # Before anything is replaced, because this may take long, and may fail.
        hash_inputs(inputs)
    with run.exclusive_changes():
        prepare_folder(run, plan)
        with pinned(run.hidden, run.folder) as hidden:
            store_plan(plan, hidden)
        if plan.settings.output_format == "zarr":
            store = open_object_store(store_location(plan.settings, run.folder))
            install_leftovers(store, run.folder, plan.n_stacks, plan.settings.save_phys)
        kept = _find_complete(run.folder, plan, progress) if plan.settings.skip_exist else {}
        if plan.settings.output_format == "zarr":
            begin_store(plan, run.folder, sum(not receipt.attempt for receipt in kept.values()), continues)
        # From here on the folder belongs to this run. Until here, a failure leaves the folder free for another try.
        begin_manifest(run.folder, plan, inputs)
        with pinned_place(run.scratch(PARAMS_FILE), run.folder) as params:
            params.unlink(missing_ok=True)
            plan.descriptor.save(params)
            replace_durably(params, run.folder / PARAMS_FILE)
    return kept


class StarFileWriter:
    """Writes particles.star below the run's hidden folder while stacks are made; `finish_run` makes it visible.

    A context manager that waits on leaving until the file is written, if it was begun. If there was an error, `finish_run` tries again and
    reports it.
    """

    def __init__(self, run: RunFolder, plan: Plan) -> None:
        self._thread = threading.Thread(target=self._write, args=(run, plan), name="cryolike-star", daemon=True)

    def begin(self) -> None:
        """Begin to write the file, unless it was begun before."""
        if self._thread.ident is None:
            self._thread.start()

    def __enter__(self) -> StarFileWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._thread.ident is not None:
            self._thread.join()

    @staticmethod
    def _write(run: RunFolder, plan: Plan) -> None:
        with suppress(CryolikeError, OSError), pinned_place(run.scratch(STAR_FILE), run.folder) as star_file:
            if _write_star(star_file, plan):
                star_file.unlink()


def finish_run(run: RunFolder, plan: Plan, receipts: Iterable[StackReceipt]) -> list[str]:
    """Clean up and record the stacks that were made, even if some are missing.

    Returns:
        warnings.

    Raises:
        OutputError: another run has taken over the folder meanwhile; then nothing is changed.
    """
    warnings: list[str] = []
    star_record = None
    published = list(receipts)
    complete = len(published) == plan.n_stacks
    run.store = plan.settings.zarr_store
    with run.exclusive_changes():
        # Complete stacks that wait for an earlier one stay staged; everything else is removed.
        remove_unpublished(run.folder, keep=lambda path: not complete and path.name.endswith(STAGED))
        if complete:
            try:
                with pinned_place(run.scratch(STAR_FILE), run.folder) as star_file:
                    if not star_file.exists():
                        warnings += _write_star(star_file, plan)
                    star_record = {"n_bytes": star_file.stat().st_size, "crc32": crc32_of_file(star_file)}
                    replace_durably(star_file, run.folder / STAR_FILE)
            except InputError as error:
                # A table that STAR cannot express must not let the run fail, because the stacks are complete.
                warnings.append(f"{STAR_FILE} was not written: {error}")
        if plan.settings.output_format == "zarr" and complete:
            location = store_location(plan.settings, run.folder)
            remove_staged(open_object_store(location))
            commit(location, plan.n_stacks, plan.n_images, "complete")
        complete_manifest(run.folder, plan, published, complete, star_record)
    return warnings


def left_to_make(plan: Plan, complete: Mapping[int, StackReceipt]) -> tuple[int, int]:
    """How many stacks and images are not yet complete, for `Progress.start`."""
    return plan.n_stacks - len(complete), plan.n_images - sum(receipt.n_images for receipt in complete.values())


def make_report(
    folder: Path, plan: Plan, published: Mapping[int, StackReceipt], warnings: Iterable[str], seconds: float
) -> ConversionReport:
    """The report of a run.

    Args:
        folder: output folder.
        plan: of the run.
        published: receipts of the complete stacks, by counter.
        warnings: in addition to those of the plan and of the stacks.
        seconds: that the run took.
    """
    settings = plan.settings
    store = store_location(settings, folder) if settings.output_format == "zarr" else ""
    receipts = [published[counter] for counter in sorted(published)]
    records = []
    for receipt in receipts:
        paths = StackPaths(folder, receipt.counter)
        fourier, physical = paths.fourier, paths.physical
        if store:
            fourier, physical = (Path(shard_name(array, receipt.counter)) for array in ("fourier", "phys"))
        kept = physical if settings.save_phys else None
        figures = receipt.mean_power, len(receipt.zeroed)
        records.append(StackRecord(receipt.counter, receipt.n_images, fourier, paths.metadata, kept, *figures))
    return ConversionReport(
        folder=folder,
        store=store,
        stacks=tuple(records),
        n_images=sum(receipt.n_images for receipt in receipts),
        seconds=seconds,
        n_bytes=sum(receipt.n_bytes for receipt in receipts),
        warnings=(*plan.warnings, *(line for receipt in receipts for line in receipt.warnings), *warnings),
        skipped=plan.table.skipped,
        n_kept=sum(receipt.kept for receipt in receipts),
        seconds_by_step={
            "read": sum(receipt.read_seconds for receipt in receipts),
            "compute": sum(receipt.compute_seconds for receipt in receipts),
            "write": sum(receipt.write_seconds for receipt in receipts),
        },
    )


def _find_complete(folder: Path, plan: Plan, progress: Progress) -> dict[int, StackReceipt]:
    """The receipts of the stacks that an earlier run left complete. Visible stacks behind the first gap are staged again."""
    complete: dict[int, StackReceipt] = {}
    # A run of many stacks, few of which exist, does not look for each of them.
    existing = sorted(k for k in {*published_counters(folder), *leftover_counters(folder)} if k < plan.n_stacks)
    for number, counter in enumerate(existing):
        progress.step("Checking existing stacks", number, len(existing))
        receipt = find_complete_stack(plan.stack(counter), folder, logger.info)
        if receipt is not None:
            complete[counter] = receipt
    visible = next((k for k in range(plan.n_stacks) if k not in complete or complete[k].attempt), plan.n_stacks)
    # They would break the order, and are published again in their turn.
    for counter in reversed([c for c in published_counters(folder) if c >= visible]):
        unpublish(StackPaths(folder, counter).data(plan.settings))
        if counter in complete:
            complete[counter] = replace(complete[counter], attempt=LEFTOVER)
    if complete:
        logger.info("%s %s complete and kept.", plural(len(complete), "stack"), is_or_are(len(complete)))
    return complete


def _write_star(path: Path, plan: Plan) -> tuple[str, ...]:
    sizes = plan.stack_sizes()
    stack_of_row = np.repeat(np.arange(plan.n_stacks), sizes)
    position = np.arange(plan.n_images) - np.repeat(plan.bounds[:, 0], sizes)
    source_pixel_size = np.repeat(plan.pixel_size, sizes) / plan.settings.pixel_scale(plan.source_box)
    try:
        return write_particles_star(
            path,
            plan.table,
            stack_of_row,
            position,
            source_pixel_size,
            plan.source_box[1],
            origins_applied=plan.settings.apply_origins,
        )
    except OutputError as error:
        if isinstance(error.__cause__, OSError):
            raise error.__cause__ from None  # the path in its message is that of an open folder, which tells a user nothing
        raise
