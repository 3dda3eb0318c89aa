"""A conversion as a lazy array: Fourier images that are made when they are needed, and written nowhere."""

from __future__ import annotations

import logging
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from cryolike_dask.execution.chunks import convert_chunks
from cryolike_dask.planning.plan import Plan, StackPlan
from cryolike_dask.settings import fingerprint
from cryolike_dask.transform.cpu import TransformedImages

logger = logging.getLogger(__name__)


def build_array(plan: Plan) -> Any:
    """A `dask.array` of shape (n, n_shells, n_inplanes), one block a stack.

    Each block's task holds the rows of its own stack, so that a part of the array needs, and sends, only its part of the table.
    """
    import dask.array as da
    from dask._task_spec import Task
    from dask.highlevelgraph import HighLevelGraph

    grid, dtype = plan.descriptor.polar_grid, plan.descriptor.complex_dtype
    # Arrays of one name hold equal numbers, so that Dask may compute them once.
    inputs = [(file.path, file.size, file.mtime_ns) for file in plan.files if file is not None]
    name = f"fourier-images-{fingerprint([plan.fingerprint, asdict(plan.settings), plan.n_images, inputs])}"
    tasks: dict[Any, Any] = {}
    for counter in range(plan.n_stacks):
        key = (name, counter, 0, 0)
        tasks[key] = Task(key, fourier_images, plan.stack(counter))
    chunks = (tuple(plan.stack_sizes().tolist()), (grid.n_shells,), (grid.n_inplanes,))
    return da.Array(HighLevelGraph.from_collections(name, tasks), name, chunks, dtype=dtype, meta=np.empty((0, 0, 0), dtype))


def fourier_images(stack: StackPlan) -> npt.NDArray[Any]:
    """The Fourier images of one stack, (n, n_shells, n_inplanes), in memory.

    Raises:
        InputError: an image is bad, or a file has changed or ends early.
    """
    grid = stack.descriptor.polar_grid
    images = np.empty((len(stack), grid.n_shells, grid.n_inplanes), dtype=stack.descriptor.complex_dtype)

    def keep(_: int, positions: npt.NDArray[np.int64], results: TransformedImages) -> None:
        images[positions] = results.fourier

    _, warnings = convert_chunks(stack, keep, n_threads=None)
    for line in warnings:
        logger.warning(line)
    return images
