"""A conversion as a lazy array: Fourier images that are made when they are needed, and are not written to disk."""

from __future__ import annotations

import itertools
import logging
import pickle
import zlib
from dataclasses import asdict
from typing import Any, TypeAlias

import dask.array as da
import numpy as np
import numpy.typing as npt
from dask._task_spec import Alias, Task
from dask.highlevelgraph import HighLevelGraph

from cryolike_dask.errors import InputError
from cryolike_dask.execution.chunks import convert_chunks
from cryolike_dask.execution.executors.remote import remote_call
from cryolike_dask.particles.table import new_rows
from cryolike_dask.planning.plan import Plan, StackPlan, stack_descriptor
from cryolike_dask.settings import fingerprint
from cryolike_dask.transform.interface import TransformedImages

logger = logging.getLogger(__name__)

Chunks: TypeAlias = int | str | tuple[int, ...]

_COLUMNS = ("file", "index", "row", "source", "top", "left", "sign")
_COLUMNS_IF_CENTRED = ("origin_x", "origin_y")


def build_array(plan: Plan, chunks: Chunks) -> Any:
    """A `dask.array` of shape (n, n_shells, n_inplanes), whose blocks are consecutive images.

    Args:
        plan: of the conversion.
        chunks: as for `Conversion.to_dask_array`.

    Raises:
        InputError: `chunks` is not valid for this number of images.
    """
    grid, dtype = plan.descriptor.polar_grid, plan.descriptor.complex_dtype
    shape = (plan.n_images, grid.n_shells, grid.n_inplanes)
    try:
        images, *whole = da.core.normalize_chunks((chunks, -1, -1), shape, dtype=dtype)
    except (ValueError, TypeError, ArithmeticError) as error:
        raise InputError(
            f"chunks is {chunks!r}: give 'auto', a number of images, or a tuple of such numbers that add up to {plan.n_images}."
        ) from error
    # The name identifies the content, because Dask computes arrays with the same name only once.
    inputs = [(file.path, file.size, file.mtime_ns) for file in plan.files if file is not None]
    name = f"fourier-images-{fingerprint([plan.fingerprint, asdict(plan.settings), plan.n_images, inputs, images])}"
    tasks = _block_tasks(plan, name, np.cumsum([0, *images]).tolist())
    graph = HighLevelGraph.from_collections(name, tasks)
    return LazyFourierImages(graph, name, (images, *whole), dtype=dtype, meta=np.empty((0, 0, 0), dtype))  # type: ignore[no-untyped-call]


class LazyFourierImages(da.Array):
    """The array of a complete conversion. The graph of a part of it contains only the blocks of that part.

    For every part of a `dask.array.Array`, Dask sends the graph of the complete array, and drops the other blocks only on the scheduler.
    """

    def __getitem__(self, index: Any) -> Any:
        from dask.array.slicing import normalize_index

        try:
            first, *others = normalize_index(index, self.shape)
            rows = np.arange(self.shape[0])[first]
        except (TypeError, ValueError, IndexError, NotImplementedError):
            # A new axis, a lazy index, or an error, which Dask reports.
            return self._of_whole(index)
        edges = np.cumsum([0, *self.chunks[0]])
        if not np.size(rows) or np.ndim(rows) > 1:
            return self._of_whole(index)
        begin, end = np.searchsorted(edges, [rows.min(), rows.max()], side="right") - [1, 0]
        if end - begin == self.numblocks[0]:
            return self._of_whole(index)
        return self._blocks(int(begin), int(end))[(_moved(first, rows, int(edges[begin])), *others)]

    def _of_whole(self, index: Any) -> Any:
        return super().__getitem__(index)  # type: ignore[no-untyped-call]

    def _blocks(self, begin: int, end: int) -> Any:
        """Some blocks as an array with its own name. Their tasks keep the names that they have in the complete array."""
        name = f"{self.name}-{begin}-{end}"
        tasks: dict[Any, Any] = {}
        for number in range(begin, end):
            made = (self.name, number, 0, 0)
            tasks[made] = self.dask[made]
            key = (name, number - begin, 0, 0)
            tasks[key] = Alias(key, made)
        chunks = (self.chunks[0][begin:end], *self.chunks[1:])
        return da.Array(HighLevelGraph.from_collections(name, tasks), name, chunks, dtype=self.dtype, meta=self._meta)


def _moved(index: Any, rows: Any, by: int) -> Any:
    """An index that selects the same rows after the first `by` rows were removed."""
    if not isinstance(index, slice):
        return rows - by
    step = index.step or 1
    stop = int(rows[-1]) - by + (1 if step > 0 else -1)
    return slice(int(rows[0]) - by, stop if stop >= 0 else None, step)


def _block_tasks(plan: Plan, name: str, edges: list[int]) -> dict[Any, Any]:
    """One task per block. It contains the rows of the block, pickled, so that a scheduler can pass it on without this package."""
    call = remote_call()
    shared = pickle.dumps((plan.table.sources, plan.descriptor, plan.settings, plan.fingerprint))
    columns = (*_COLUMNS, *(_COLUMNS_IF_CENTRED if plan.settings.apply_origins else ()))
    # A block may contain several pixel sizes: it is converted in parts of one pixel size each.
    changes = plan.bounds[1:, 0][np.diff(plan.pixel_size) != 0]
    stack_of_row = np.searchsorted(plan.bounds[:, 1], edges[:-1], side="right")
    tasks: dict[Any, Any] = {}
    for number, (begin, end) in enumerate(itertools.pairwise(edges)):
        rows = plan.table.rows[begin:end]
        packed = {column: _differences(rows[column]) for column in columns}
        files = {position: plan.files[position] for position in np.unique(rows["file"]).tolist()}
        inner = changes[(changes > begin) & (changes < end)]
        starts = np.array([begin, *inner], dtype=np.int64)
        sizes = plan.pixel_size[[stack_of_row[number], *np.searchsorted(plan.bounds[:, 1], inner, side="right")]]
        block = zlib.compress(pickle.dumps((packed, files, (starts - begin).tolist(), sizes.tolist())))
        key = (name, number, 0, 0)
        tasks[key] = Task(key, call, __name__, "fourier_images", shared, block)
    return tasks


def fourier_images(shared: bytes, block: bytes) -> npt.NDArray[Any]:
    """The Fourier images of one block, (n, n_shells, n_inplanes), in memory.

    Args:
        shared: what all blocks have in common.
        block: rows, files and pixel sizes of this one.

    Raises:
        InputError: an image is bad, or a file has changed or ends early.
    """
    sources, descriptor, settings, of_run = pickle.loads(shared)  # noqa: S301  # both are from the client's own graph
    packed, files, starts, pixel_sizes = pickle.loads(zlib.decompress(block))  # noqa: S301
    rows = new_rows(len(packed["file"]))
    for column, differences in packed.items():
        rows[column] = differences if differences.dtype.kind == "f" else np.cumsum(differences, dtype=np.int64)
    grid = descriptor.polar_grid
    images = np.empty((len(rows), grid.n_shells, grid.n_inplanes), dtype=descriptor.complex_dtype)
    for number, (first, last, pixel_size) in enumerate(zip(starts, [*starts[1:], len(rows)], pixel_sizes, strict=True)):
        part = StackPlan(
            counter=number,
            rows=rows[first:last],
            files=files,
            sources=sources,
            descriptor=stack_descriptor(descriptor, pixel_size),
            settings=settings,
            fingerprint=of_run,
            file_offset=None,
        )
        _convert(part, images[first:last])
    return images


def _convert(part: StackPlan, images: npt.NDArray[Any]) -> None:
    def keep(_: int, positions: npt.NDArray[np.int64], results: TransformedImages) -> None:
        images[positions] = results.fourier

    _, warnings = convert_chunks(part, keep, n_threads=None)
    for line in warnings:
        logger.warning(line)


def _differences(column: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Integers as differences between rows. For consecutive images these repeat, so that they compress to almost nothing."""
    if column.dtype.kind == "f":
        return np.ascontiguousarray(column)
    return np.diff(column.astype(np.int64), prepend=0)
