"""Timing of complete conversions: interleaved and repeated runs, and medians."""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

import cryolike_dask
from benchmarks.particle_files import ParticleSet
from cryolike_dask.progress import NoProgress
from cryolike_dask.report import ConversionReport


def interleaved(repeats: int, *actions: Callable[[], float]) -> list[list[float]]:
    """The values of each action. The actions take turns, so that changes of the machine affect all of them alike."""
    values: list[list[float]] = [[] for _ in actions]
    for _ in range(repeats):
        for action, results in zip(actions, values, strict=True):
            results.append(action())
    return values


def median_ratio(above: list[float], below: list[float]) -> float:
    """Median of the ratios of the pairs."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def convert(particles: ParticleSet, folder: Path, **options: Any) -> tuple[float, ConversionReport]:
    """Convert into an empty folder; seconds from reading the table to the last stack's name, and the report."""
    shutil.rmtree(folder, ignore_errors=True)
    began = time.perf_counter()
    report = cryolike_dask.convert_particle_stacks_from_indexed_star_file(
        particles.descriptor,
        particles.star_file,
        particles.folder,
        folder_output=folder,
        **({"flag_plots": False} | options),
    )
    return time.perf_counter() - began, report


def in_a_process(*arguments: str) -> dict[str, Any]:
    return in_processes([arguments])[0]


def in_processes(commands: list[tuple[str, ...]]) -> list[dict[str, Any]]:
    """The results that these commands of `one_process` print, all running at the same time."""
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks.one_process", *arguments],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).resolve().parents[1],
        )
        for arguments in commands
    ]
    printed = [process.communicate()[0] for process in running]
    return [json.loads(text.splitlines()[-1]) for text in printed]


@contextmanager
def local_cluster(n_workers: int) -> Iterator[Any]:
    """A client of a cluster of `n_workers` worker processes with one thread each."""
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=n_workers, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


class DeletingProgress(NoProgress):
    """Removes the tensors of each stack when it is complete, so that long runs need little space."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def start(self, n_stacks: int, n_images: int) -> None:
        """See `Progress`."""

    def stack_done(self, stack: Any) -> None:
        """See `Progress`."""
        for path in (f"fft/particles_fourier_stack_{stack.counter:06d}.pt", f"phys/particles_phys_stack_{stack.counter:06d}.pt"):
            (self.folder / path).unlink(missing_ok=True)

    def finish(self, error: BaseException | None) -> None:
        """See `Progress`."""


class MemoryProgress(NoProgress):
    """Records the resident memory of this process after every few stacks.

    Args:
        every: number of stacks between two records.
    """

    def __init__(self, every: int) -> None:
        self.every = every
        self.megabytes: dict[int, float] = {}
        self._done = 0

    def start(self, n_stacks: int, n_images: int) -> None:
        """See `Progress`."""

    def stack_done(self, stack: Any) -> None:
        """See `Progress`."""
        self._done += 1
        if self._done % self.every == 0:
            self.megabytes[self._done] = psutil.Process().memory_info().rss / 1e6

    def finish(self, error: BaseException | None) -> None:
        """See `Progress`."""
