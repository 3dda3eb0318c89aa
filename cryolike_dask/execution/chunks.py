"""The chunks of a stack: read, transformed and handed on by all threads of this process together.

A chunk is a few images in the order of their files. Threads take the chunks of one stack one after the other, so that reading, computing
and writing of different chunks overlap. The chunks do not depend on the number of threads.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, nullcontext
from functools import cache
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from cryolike_dask.config import available_cores
from cryolike_dask.errors import InputError, RunStoppedError
from cryolike_dask.execution.particle_reader import ParticleReader
from cryolike_dask.planning.plan import StackPlan
from cryolike_dask.planning.preflight import CHUNK_BYTES
from cryolike_dask.settings import Device
from cryolike_dask.stacks.receipt import WRITTEN_AS_ZEROS
from cryolike_dask.transform.device import make_transform, resolve_device
from cryolike_dask.transform.interface import NOT_FINITE, OK, Transform, TransformedImages

Consumer: TypeAlias = Callable[[int, npt.NDArray[np.int64], TransformedImages], None]
"""Called with the number of a chunk, the positions of its images in the stack, and results that are valid only during the call."""

_MIN_GPU_THREADS = 3
"""One of them computes on the device, while the others read and write."""


class StepTimer:
    """Seconds spent reading, computing and writing."""

    def __init__(self) -> None:
        self.seconds = {"read": 0.0, "compute": 0.0, "write": 0.0}
        self._last = time.perf_counter()

    def record(self, step: str) -> None:
        """Add the time since the last call, or since the timer was made, to a step: 'read', 'compute' or 'write'."""
        now = time.perf_counter()
        self.seconds[step] += now - self._last
        self._last = now


def process_threads(device: Device = "cpu") -> int:
    """Number of threads for converting in this process: those of its Dask worker, or else its cores; at least three with a GPU."""
    # Dask is not imported for this: without the import, this is not a worker.
    distributed = sys.modules.get("distributed")
    try:
        n = int(distributed.get_worker().state.nthreads) if distributed else available_cores()
    except ValueError:
        n = available_cores()
    return n if resolve_device(device) == "cpu" else max(_MIN_GPU_THREADS, n)


def convert_chunks(
    stack: StackPlan, consume: Consumer, n_threads: int | None = 1, cancelled: Callable[[], bool] = lambda: False
) -> tuple[dict[str, float], list[str]]:
    """Read and transform the images of a stack.

    Args:
        stack: its plan.
        consume: takes the results, on several threads at the same time.
        n_threads: threads shared by the chunks of this stack and of other stacks in progress with the same number; None for those of this
            process; 1 for the calling thread.
        cancelled: called after each chunk; if it returns True, the work is dropped.

    Returns:
        seconds of all threads together, 'read', 'compute' and 'write' (`consume`); and a line for each bad image that became zeros.

    Raises:
        InputError: an image is bad, or a file has changed or ends early; the first of these in the order of reading.
        RunStoppedError: `cancelled` returned True.
        OSError: as `consume` raises it.
    """
    n_threads = n_threads or process_threads(stack.settings.device)
    chunks = _Chunks(stack, consume, cancelled)
    if n_threads == 1:
        chunks.convert()
    else:
        jobs = [_threads(n_threads).submit(chunks.convert) for _ in range(min(n_threads, chunks.n_chunks))]
        try:
            wait(jobs)
        finally:
            chunks.stop()
            _wait_for_all([job for job in jobs if not job.cancel()])
    return chunks.result()


@cache
def _threads(n: int) -> ThreadPoolExecutor:
    """Shared by all stacks of this process: jobs begin in the order of submission, so the earliest stacks are ready first."""
    return ThreadPoolExecutor(n, thread_name_prefix="cryolike-chunk")


if hasattr(os, "register_at_fork"):
    # A forked process has none of these threads, and must not wait for them.
    os.register_at_fork(after_in_child=_threads.cache_clear)


def _wait_for_all(jobs: list[Future[None]]) -> None:
    """Wait for jobs even if the user interrupts again, because their files are closed next. They end after their current chunk."""
    interrupt: KeyboardInterrupt | None = None
    while True:
        try:
            wait(jobs)
        except KeyboardInterrupt as again:
            interrupt = again
        else:
            break
    if interrupt is not None:
        raise interrupt


class _Chunks:
    """The chunks of one stack. Threads take one after the other."""

    def __init__(self, stack: StackPlan, consume: Consumer, cancelled: Callable[[], bool]) -> None:
        self.stack = stack
        self._consume = consume
        self._cancelled = cancelled
        # Made here, because the number of images per chunk depends on the device. The first thread uses it.
        self._transforms = [make_transform(stack.descriptor, stack.settings)]
        self.n_images = max(1, min(len(stack), _images_per_chunk(stack, self._transforms[0])))
        self.n_chunks = -(-len(stack) // self.n_images)
        self._shifts = stack.shifts()
        self._next = 0
        self._lock = threading.Lock()
        self._seconds = {"read": 0.0, "compute": 0.0, "write": 0.0}
        self._warnings: dict[int, list[str]] = {}
        self._errors: dict[int, BaseException] = {}
        # A compressed file can only be read from its beginning, so all threads share one reader, and take turns.
        self._shared = ParticleReader(stack) if any(file.compression for file in stack.files.values()) else None
        self._turn = threading.Lock() if self._shared else nullcontext()

    def convert(self) -> None:
        """Convert one chunk after the other until none is left. Several threads may be in here."""
        number = self.n_chunks
        timer = StepTimer()
        try:
            with self._lock:
                transform = self._transforms.pop() if self._transforms else None
            transform = transform or make_transform(self.stack.descriptor, self.stack.settings)
            with self._reader() as reader:
                results = TransformedImages.allocate(self.n_images, self.stack.descriptor)
                images = np.empty((self.n_images, *reader.image_shape), dtype=np.float32)
                while True:
                    with self._turn:
                        number = self._take()
                        if number == self.n_chunks:
                            break
                        first = number * self.n_images
                        part = results.first(min(self.n_images, len(self.stack) - first))
                        raw = images[: len(part.status)]
                        positions = reader.read(first, raw)
                        reader.advise(self._next * self.n_images, self.n_images)
                    timer.record("read")
                    transform(raw, part, None if self._shifts is None else self._shifts[positions])
                    self._check_images(number, positions, part.status)
                    timer.record("compute")
                    self._consume(number, positions, part)
                    timer.record("write")
                    # Checked after the last chunk as well: a stack of a run that has ended must not be staged with those of the next run.
                    if self._cancelled():
                        raise RunStoppedError(f"Stack {self.stack.counter:06d} was cancelled.")
        except BaseException as error:  # noqa: BLE001  # raised by `result`, in the thread that waits for the stack
            self.stop()
            self._errors[number] = error
        with self._lock:
            for step, seconds in timer.seconds.items():
                self._seconds[step] += seconds

    def stop(self) -> None:
        """Let no thread begin another chunk."""
        with self._lock:
            self._next = self.n_chunks

    def result(self) -> tuple[dict[str, float], list[str]]:
        """The results of all threads, after they have ended; see `convert_chunks`."""
        if self._shared is not None:
            with self._shared:
                if not self._errors:
                    self._shared.check_unchanged()
        # Chunks begin in order, so the first failed chunk does not depend on the number of threads.
        for _, error in sorted(self._errors.items(), key=lambda item: item[0]):
            raise error
        return self._seconds, [line for _, lines in sorted(self._warnings.items()) for line in lines]

    def _take(self) -> int:
        with self._lock:
            number = self._next
            self._next = min(number + 1, self.n_chunks)
            return number

    @contextmanager
    def _reader(self) -> Iterator[ParticleReader]:
        """The reader for a thread. On leaving, the file that it read last is checked; those before it were checked too."""
        if self._shared is not None:
            yield self._shared
            return
        with ParticleReader(self.stack) as reader:
            yield reader
            reader.check_unchanged()

    def _check_images(self, number: int, positions: npt.NDArray[np.int64], status: npt.NDArray[np.uint8]) -> None:
        for position in positions[status != OK].tolist():
            problem = "has pixels that are not finite" if status[positions == position][0] == NOT_FINITE else "is constant"
            where = self.stack.where(position)
            if self.stack.settings.on_bad_image == "raise":
                raise InputError(
                    f"{where} {problem}, so it cannot be centred and normalised. Remove the particle from the table, or write zeros for "
                    "such images with on_bad_image='zero' (--on-bad-image zero)."
                )
            self._warnings.setdefault(number, []).append(f"{where} {problem}: {WRITTEN_AS_ZEROS}")


def _images_per_chunk(stack: StackPlan, transform: Transform) -> int:
    descriptor = stack.descriptor
    n_bytes = descriptor.polar_grid.n_points * descriptor.complex_dtype.itemsize + 4 * int(np.prod(descriptor.n_pixels))
    return max(transform.images_per_batch, CHUNK_BYTES // n_bytes)
