"""A conversion that passes its stacks to the caller, in counter order, and writes nothing."""

from __future__ import annotations

import logging
import pickle
import uuid
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from cryolike_dask.errors import InputError
from cryolike_dask.execution.chunks import convert_chunks
from cryolike_dask.execution.clients import open_executor
from cryolike_dask.execution.executors.interface import Executor, TaskResult
from cryolike_dask.execution.executors.waiting import PatientWait
from cryolike_dask.planning.input_files import check_inputs_unchanged
from cryolike_dask.planning.plan import Plan, StackPlan
from cryolike_dask.stacks.loading import LoadedStack
from cryolike_dask.stacks.metadata import StackSums
from cryolike_dask.transform.interface import TransformedImages

logger = logging.getLogger(__name__)

_MAX_LOST = 3
"""How often a stack may be lost with its worker."""

_ended: set[str] = set()
"""Streams of this process that are no longer read."""


def stream_stacks(plan: Plan, client: Any, ahead: int) -> Iterator[LoadedStack]:
    """The stacks of a plan, in counter order.

    Args:
        plan: of the conversion.
        client: as for `open_executor`.
        ahead: number of stacks that are in progress, or wait, while the caller works on one.

    Raises:
        InputError: an image is bad, or a file has changed or ends early; or `ahead` is less than 1.
    """
    if ahead < 1:
        raise InputError(f"ahead is {ahead}, but must be at least 1.")
    check_inputs_unchanged(plan)
    stream_id = uuid.uuid4().hex
    with open_executor(client, plan.settings.device) as executor:
        try:
            yield from _Stream(executor, plan, stream_id, ahead).stacks()
        finally:
            # Stacks in progress then stop after a few images.
            executor.call_everywhere(end_stream, stream_id)


def end_stream(stream_id: str) -> None:
    """Let the tasks of a stream in this process stop."""
    _ended.add(stream_id)


def make_stack_task(pickled: bytes, stream_id: str) -> tuple[npt.NDArray[Any], npt.NDArray[np.float32] | None, dict[str, Any]]:
    """Make a stack in memory: its Fourier images, its real-space images if the settings include them, and its metadata.

    Args:
        pickled: its `StackPlan`, in a form that a scheduler can pass on without this package.
        stream_id: for `end_stream`.
    """
    stack: StackPlan = pickle.loads(pickled)  # noqa: S301  # from the client, like everything that Dask unpickles here
    descriptor, n = stack.descriptor, len(stack)
    fourier = np.empty((n, descriptor.polar_grid.n_shells, descriptor.polar_grid.n_inplanes), dtype=descriptor.complex_dtype)
    physical = np.empty((n, *descriptor.n_pixels), dtype=np.float32) if stack.settings.save_phys else None
    sums = StackSums(stack)

    def keep(number: int, positions: npt.NDArray[np.int64], results: TransformedImages) -> None:
        fourier[positions] = results.fourier
        if physical is not None:
            physical[positions] = results.physical
        sums.add(number, positions, results)

    _, warnings = convert_chunks(stack, keep, n_threads=None, cancelled=lambda: stream_id in _ended)
    for line in warnings:
        logger.warning(line)
    return fourier, physical, sums.metadata()


class _Stream:
    def __init__(self, executor: Executor, plan: Plan, stream_id: str, ahead: int) -> None:
        self.executor, self.plan, self.stream_id, self.ahead = executor, plan, stream_id, ahead
        self.ready: dict[int, Any] = {}
        self.n_lost: Counter[int] = Counter()

    def stacks(self) -> Iterator[LoadedStack]:
        begun = 0
        for counter in range(self.plan.n_stacks):
            while begun < min(self.plan.n_stacks, counter + 1 + self.ahead):
                self._begin(begun)
                begun += 1
            self._wait_for(counter)
            # No reference is kept here, so that the caller can free the memory of the stack while waiting for the next one.
            yield _loaded(*self.ready.pop(counter))

    def _wait_for(self, counter: int) -> None:
        # The time that the caller spent on the previous stack is not counted.
        results = PatientWait(self.executor)
        while counter not in self.ready:
            for result in results.next():
                self._handle(result)

    def _begin(self, counter: int, avoid: str = "") -> None:
        # Each task contains the rows of its own stack, so that only the images need to be on a disk that all workers see.
        pickled = pickle.dumps(self.plan.stack(counter))
        self.executor.submit("convert", (counter,), make_stack_task, pickled, self.stream_id, avoid=avoid)

    def _handle(self, result: TaskResult) -> None:
        (counter,) = result.counters
        if result.error is None:
            self.ready[counter] = result.value
            return
        self.n_lost[counter] += 1
        again = self.n_lost[counter] < _MAX_LOST if result.lost else bool(result.worker) and self.n_lost[counter] == 1
        if not again:
            raise result.error
        logger.warning("Stack %06d could not be made (%s); trying it once more.", counter, result.error)
        self._begin(counter, avoid=result.worker)


def _loaded(fourier: npt.NDArray[Any], physical: npt.NDArray[np.float32] | None, metadata: dict[str, Any]) -> LoadedStack:
    return LoadedStack(
        torch.from_numpy(fourier),
        None if physical is None else torch.from_numpy(physical),
        {key: np.asarray(value) for key, value in metadata.items()},
    )


class StackDataset(torch.utils.data.IterableDataset[LoadedStack]):
    """The stacks of a plan for PyTorch's loaders: `DataLoader(dataset, batch_size=None)`.

    Args:
        plan, client, ahead: as for `stream_stacks`.
    """

    def __init__(self, plan: Plan, client: Any, ahead: int) -> None:
        self.plan, self.client, self.ahead = plan, client, ahead

    def __len__(self) -> int:
        return self.plan.n_stacks

    def __iter__(self) -> Iterator[LoadedStack]:
        if torch.utils.data.get_worker_info() is not None:
            raise InputError("Threads or a Dask cluster make the stacks already: leave num_workers of the loader at 0.")
        return stream_stacks(self.plan, self.client, self.ahead)
