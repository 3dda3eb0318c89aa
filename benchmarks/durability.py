"""What it costs that nothing is lost: whole conversions with and without everything that only durability needs."""

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
    """2,000 images of 128 x 128, with and without: syncing, asking whether the run is still on, looking for what is complete.

    The checksum is that of the `.pt` format, and names are changed once in any case. On a disk both ways end when everything is on it.
    """
    rows = []
    for place, parent, sync_at_the_end in (("memory", folder, False), ("disk", Path(tempfile.gettempdir()), True)):
        parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="cryolike-durability-", dir=parent) as name:
            particles = write_particles(Path(name) / "in", 2000, 128)
            os.sync()

            def run(careless: bool, name: str = name, particles: Any = particles, sync: bool = sync_at_the_end) -> float:
                shutil.rmtree(Path(name) / "out", ignore_errors=True)
                with _careless() if careless else ExitStack():
                    began = time.perf_counter()
                    convert(particles, Path(name) / "out", batch_size=250)
                if sync:
                    os.sync()
                return time.perf_counter() - began

            run(False), run(True)
            careful, careless = interleaved(repeats + 2, partial(run, False), partial(run, True))
        rows.append(
            {
                "place": place,
                "durable_s": statistics.median(careful),
                "careless_s": statistics.median(careless),
                "ratio": median_ratio(careful, careless),
            }
        )
    return rows


@contextmanager
def _careless() -> Iterator[None]:
    """Conversions in this process do nothing for durability meanwhile."""

    def nothing(*_: Any) -> None:
        """Done instead."""

    def always(*_: Any) -> bool:
        return True

    replaced: dict[str, Callable[..., Any]] = {
        "os.fsync": nothing,
        "cryolike_dask.execution.tasks.is_current": always,
        "cryolike_dask.convert_stack.completed_receipt": nothing,
        "cryolike_dask.stack_files.sync_directory": nothing,
        "cryolike_dask.stack_files.sync_file": nothing,
    }
    with ExitStack() as patches:
        for target, replacement in replaced.items():
            patches.enter_context(mock.patch(target, replacement))
        yield
