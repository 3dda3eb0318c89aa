"""Compares the disk space and memory that a run needs with those available, before anything is written."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import numpy as np

from cryolike_dask.errors import InputError, OutputError
from cryolike_dask.formatting import format_bytes
from cryolike_dask.planning.plan import Plan
from cryolike_dask.settings import ZARR_NAME, is_url
from cryolike_dask.transform.interpolation import WIDTH

logger = logging.getLogger(__name__)

CHUNK_BYTES = 8 << 20
"""Bytes of the results of one chunk on a CPU. Larger results would leave its caches before they are written."""

_METADATA_BYTES = 200
"""Bytes of one particle in the `.npz`."""
_STACK_BYTES = 65_536
"""A stack's part of the metadata, its pictures and what a file system adds."""
_SHARDS = "*/c/*/0/0"
"""Images in a Zarr store."""
_READ_BUFFER_BYTES = 16 << 20
"""Bytes for images that are being converted from another number type to float32."""


def check_disk_space(folder: Path, plan: Plan) -> None:
    """Compare the free space with what the plan writes, less what already exists and will be kept or replaced.

    Raises:
        OutputError: there is too little.
    """
    existing = ("fft/*.pt", "phys/*.pt", "fft/.*.staged", "phys/.*.staged", f"{ZARR_NAME}/{_SHARDS}")
    store = plan.settings.zarr_store
    elsewhere = plan.n_images * plan.image_bytes if store else 0
    _check_free_space(folder, bytes_written(plan) - elsewhere, existing)
    if store and not is_url(store):
        _check_free_space(Path(store), elsewhere, (_SHARDS,))


def _check_free_space(folder: Path, n_bytes: int, existing: tuple[str, ...]) -> None:
    needed = int(1.01 * n_bytes) - sum(path.stat().st_size for pattern in existing for path in folder.glob(pattern))
    free = shutil.disk_usage(next(parent for parent in (folder, *folder.parents) if parent.exists())).free
    if needed > free:
        raise OutputError(
            f"{folder} has {format_bytes(free)} free, but the stacks need {format_bytes(needed)}. Free some space, choose another folder, "
            "leave out the physical images (save_phys=False, --no-phys), or choose a lower resolution_factor for the grid."
        )


def bytes_written(plan: Plan) -> int:
    """Bytes of all files that the plan makes; small files are estimated."""
    return plan.n_images * (plan.image_bytes + _METADATA_BYTES + 4 * _longest_path(plan)) + _STACK_BYTES * plan.n_stacks


def check_memory(bytes_per_thread: int | None, plan: Plan) -> None:
    """Compare the memory that each thread may use with what a stack needs.

    Args:
        bytes_per_thread: of the worker that has the least; None if it is not known.

    Raises:
        InputError: there is too little.
    """
    needed = memory_per_thread(plan)
    if bytes_per_thread is None:
        return
    logger.debug("A stack needs %s of memory; each thread has %s.", format_bytes(needed), format_bytes(bytes_per_thread))
    if needed > bytes_per_thread:
        raise InputError(
            f"Converting one stack needs {format_bytes(needed)} of memory, but a worker has only "
            f"{format_bytes(max(0, bytes_per_thread))} for each of its threads. Give the workers more memory or fewer threads."
        )


def memory_per_thread(plan: Plan) -> int:
    """Bytes that one thread needs for its work at most. They do not depend on the total size of the images of a stack."""
    descriptor = plan.descriptor
    largest = max((file.n_rows * file.n_columns for file in plan.files if file is not None), default=0)
    box = max((source.boxes.size for source in plan.table.sources if source.boxes is not None), default=0)
    source_pixels = box * box or largest
    micrograph = (4 + 4) * largest if box else 0  # as floats, and as it is on disk
    image = plan.image_bytes + 8 * descriptor.polar_grid.n_shells
    in_chunk = max(1, CHUNK_BYTES // image)
    copies = 2 if plan.settings.axes == "relion" else 1  # as the images are on disk, and transposed
    chunk = min(int(plan.stack_sizes().max()), in_chunk) * (image + 4 * copies * source_pixels)
    # Tables of the interpolation: weights along both axes in two precisions, positions, signs. Threads of a process share them.
    tables = descriptor.polar_grid.n_points * (2 * WIDTH[descriptor.precision] * (8 + descriptor.real_dtype.itemsize) + 32)
    rows_of_stack = int(plan.stack_sizes().max()) * (2 * plan.table.rows.dtype.itemsize + 8 * _longest_path(plan))
    fine_grid = 4 * 4 * int(np.prod(descriptor.n_pixels)) * descriptor.complex_dtype.itemsize
    return chunk + tables + fine_grid + micrograph + rows_of_stack + _READ_BUFFER_BYTES


def _longest_path(plan: Plan) -> int:
    return max(len(file.path) for file in plan.files if file is not None)
