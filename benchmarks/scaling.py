"""How time and memory grow: with images, files, row order, workers; what writing, planning and scheduling cost."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measuring import convert, interleaved, local_cluster, median_ratio
from benchmarks.particle_files import write_particles
from cryolike_dask.tensor_file import TensorFileWriter


def with_images(folder: Path) -> list[dict[str, Any]]:
    """x1, x4, x16 images of 128 x 128 on all cores."""
    rows = []
    for n_images in (500, 2000, 8000):
        particles = write_particles(folder / "in", n_images, 128, n_distinct=500)
        seconds, report = convert(particles, folder / "out", batch_size=250)
        steps = {f"{step}_ms": 1e3 * value / n_images for step, value in report.seconds_by_step.items()}
        rows.append({"images": n_images, "ms": 1e3 * seconds / n_images, **steps})
        shutil.rmtree(folder)
    return rows


def with_files_and_order(folder: Path, repeats: int) -> list[dict[str, Any]]:
    """2,000 images of 128 x 128 in 1, 10 and 1,000 files, rows sorted and shuffled, from a warm cache."""
    rows = []
    for n_files in (1, 10, 1000):
        ordered = write_particles(folder / "sorted", 2000, 128, n_files=n_files)
        shuffled = write_particles(folder / "shuffled", 2000, 128, n_files=n_files, shuffled=True)

        def run(particles: Any) -> float:
            return convert(particles, folder / "out", batch_size=500)[0]

        run(ordered), run(shuffled)
        a, b = interleaved(repeats, lambda: run(ordered), lambda: run(shuffled))
        rows.append(
            {
                "files": n_files,
                "sorted_ms": statistics.median(a) / 2,
                "shuffled_ms": statistics.median(b) / 2,
                "ratio": median_ratio(b, a),
            }
        )
        shutil.rmtree(folder)
    return rows


def with_workers(folder: Path, repeats: int) -> dict[str, Any]:
    """3,200 images of 128 x 128 on one and on two worker processes."""
    particles = write_particles(folder / "in", 3200, 128)
    with local_cluster(1) as one, local_cluster(2) as two:

        def run(client: Any) -> float:
            return convert(particles, folder / "out", batch_size=200, client=client)[0]

        run(one), run(two)
        alone, together = interleaved(repeats, lambda: run(one), lambda: run(two))
    shutil.rmtree(folder)
    return {
        "one_worker_s": statistics.median(alone),
        "two_workers_s": statistics.median(together),
        "speed_up": median_ratio(alone, together),
    }


def share_of_overhead(folder: Path) -> dict[str, Any]:
    """20,000 images of 128 x 128 on two workers: the part of the workers' time that goes into anything but stacks."""
    particles = write_particles(folder / "in", 20_000, 128, n_distinct=2000)
    with local_cluster(2) as client:
        convert(write_particles(folder / "warm", 200, 128), folder / "out", batch_size=50, client=client)
        seconds, report = convert(particles, folder / "out", batch_size=500, client=client)
    busy = sum(report.seconds_by_step.values())
    shutil.rmtree(folder)
    return {"seconds": seconds, "busy_worker_seconds": busy, "overhead_share": 1 - busy / (2 * seconds)}


def tiny_stacks(folder: Path) -> dict[str, Any]:
    """Stacks a second when they hold one tiny image: the scheduler's, the plan's and the publisher's work."""
    particles = write_particles(folder / "in", 2000, 16)
    with local_cluster(2) as client:
        seconds, _ = convert(particles, folder / "out", batch_size=1, save_phys=False, client=client)
    shutil.rmtree(folder)
    return {"stacks": 2000, "stacks_a_second": 2000 / seconds}


def writing(folder: Path, repeats: int) -> dict[str, Any]:
    """512 MiB as a `.pt` file in place, and as a plain file, in the same pieces."""
    folder.mkdir(parents=True, exist_ok=True)
    images = np.random.default_rng(1).standard_normal((8, 256, 512), dtype=np.float32).view(np.complex64)

    def in_place() -> float:
        began = time.perf_counter()
        with TensorFileWriter(folder / "t.pt", (1024, *images.shape[1:]), images.dtype) as writer:
            for first in range(0, 1024, 8):
                writer.write(np.arange(first, first + 8), images)
            writer.finish()
        return time.perf_counter() - began

    def plain() -> float:
        began = time.perf_counter()
        with (folder / "plain").open("wb", buffering=0) as file:
            for _ in range(0, 1024, 8):
                file.write(images)
        return time.perf_counter() - began

    ours, theirs = interleaved(repeats + 1, in_place, plain)
    shutil.rmtree(folder)
    gigabytes = 1024 * images[0].nbytes / 1e9
    return {
        "in_place_GB_s": gigabytes / statistics.median(ours),
        "plain_GB_s": gigabytes / statistics.median(theirs),
        "ratio": median_ratio(ours, theirs),
    }


def planning(folder: Path) -> dict[str, Any]:
    """1,000,000 rows over 1,000 files: everything before the first pixel, in a process of its own."""
    particles = write_particles(folder / "in", 1_000_000, 8, n_files=1000, n_distinct=20_000)
    result = _in_a_process("plan", str(particles.star_file), str(particles.folder))
    shutil.rmtree(folder)
    return result


def memory(folder: Path) -> list[dict[str, Any]]:
    """Peak resident memory of one process that converts, stacks removed as soon as they are complete."""
    rows = []
    for box, n_images, batch_size in ((128, 4000, 2000), (256, 1000, 256), (256, 1000, 4096), (256, 20_000, 4096)):
        particles = write_particles(folder / "in", n_images, box, n_distinct=500)
        result = _in_a_process(
            "convert", str(particles.star_file), str(particles.folder), str(folder / "out"), str(batch_size), str(box)
        )
        rows.append({"box": box, "images": n_images, "batch_size": batch_size, **result})
        shutil.rmtree(folder)
    return rows


def _in_a_process(*arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.one_process", *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).resolve().parents[1])
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def disk_speed(folder: Path) -> dict[str, Any]:
    """A durable plain write of 512 MiB where the benchmarks write, for comparison."""
    folder.mkdir(parents=True, exist_ok=True)
    block = os.urandom(1 << 22)
    began = time.perf_counter()
    with (folder / "plain").open("wb", buffering=0) as file:
        for _ in range(128):
            file.write(block)
        os.fsync(file.fileno())
    seconds = time.perf_counter() - began
    shutil.rmtree(folder)
    return {"GB_s": 128 * len(block) / 1e9 / seconds}
