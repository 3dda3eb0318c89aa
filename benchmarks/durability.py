"""The cost of durability: complete conversions with and without everything that is needed only for durability."""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks.measuring import convert, interleaved, median_ratio
from benchmarks.particle_files import write_particles


def cost_of_durability(folder: Path, repeats: int) -> list[dict[str, Any]]:
    """Images of 128 x 128, with and without syncing, checks whether the run is still active, and the search for complete stacks.

    Checksums and renaming are in both: the `.pt` format contains the checksum. On a disk, both runs end when everything is on the disk;
    `careless_returned_s` is the time after which the run without durability returns.
    """
    return [
        {"place": "memory", **_compare(folder, 4000, repeats + 2, sync_at_the_end=False)},
        {"place": "disk", **_compare(Path(tempfile.gettempdir()), 8000, repeats + 2, sync_at_the_end=True)},
    ]


def _compare(parent: Path, n_images: int, n_pairs: int, sync_at_the_end: bool) -> dict[str, Any]:
    parent.mkdir(parents=True, exist_ok=True)
    returned = []
    with tempfile.TemporaryDirectory(prefix="cryolike-durability-", dir=parent) as name:
        particles = write_particles(Path(name) / "in", n_images, 128)

        def run(careless: bool) -> float:
            shutil.rmtree(Path(name) / "out", ignore_errors=True)
            os.sync()
            with _careless() if careless else ExitStack():
                began = time.perf_counter()
                convert(particles, Path(name) / "out", batch_size=1000)
            seconds = time.perf_counter() - began
            if careless:
                returned.append(seconds)
            if sync_at_the_end:
                os.sync()
            return time.perf_counter() - began

        run(False), run(True)
        returned.clear()
        careful, careless = interleaved(n_pairs, partial(run, False), partial(run, True))
    return {
        "images": n_images,
        "durable_s": statistics.median(careful),
        "careless_s": statistics.median(careless),
        "ratio": median_ratio(careful, careless),
        "careless_returned_s": statistics.median(returned),
    }


@contextmanager
def _careless() -> Iterator[None]:
    """A context in which conversions of this process do nothing for durability."""

    def nothing(*_: Any) -> None:
        """Replaces a function."""

    def always(*_: Any) -> bool:
        return True

    replaced: dict[str, Callable[..., Any]] = {
        "os.fsync": nothing,
        "cryolike_dask.execution.tasks.is_active": always,
        "cryolike_dask.execution.convert_stack.find_complete_stack": nothing,
        "cryolike_dask.stacks.files.sync_directory": nothing,
        "cryolike_dask.stacks.writer.sync_file": nothing,
        "cryolike_dask.stacks.tensor_file.begin_sync": nothing,
    }
    with ExitStack() as patches:
        for target, replacement in replaced.items():
            patches.enter_context(mock.patch(target, replacement))
        yield
