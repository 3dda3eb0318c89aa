"""How time and memory depend on images, files, row order and workers; the cost of writing, planning and scheduling."""

from __future__ import annotations

import itertools
import os
import shutil
import statistics
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measuring import MemoryProgress, convert, in_a_process, in_processes, interleaved, local_cluster, median_ratio
from benchmarks.particle_files import write_particles
from cryolike_dask.conversion import Conversion
from cryolike_dask.particles.star.particles import particles_from_star
from cryolike_dask.stacks.tensor_file import TensorFileWriter


def with_images(folder: Path) -> list[dict[str, Any]]:
    """500 images of 128 x 128, and 4 and 16 times as many, on all cores."""
    rows = []
    for n_images in (500, 2000, 8000):
        particles = write_particles(folder / "in", n_images, 128, n_distinct=500)
        seconds, report = convert(particles, folder / "out", batch_size=250)
        steps = {f"{step}_ms": 1e3 * value / n_images for step, value in report.seconds_by_step.items()}
        rows.append({"images": n_images, "ms": 1e3 * seconds / n_images, **steps})
        shutil.rmtree(folder)
    return rows


def with_files_and_order(folder: Path, repeats: int) -> list[dict[str, Any]]:
    """2,000 images of 128 x 128 in 1, 10 and 1,000 files, with sorted and with shuffled rows, from a warm cache."""
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


def with_pictures(folder: Path, repeats: int) -> list[dict[str, Any]]:
    """Stacks of 1,024 images, with and without their three pictures and the page about the run."""
    rows = []
    for box, n_images in ((128, 4096), (256, 2048)):
        particles = write_particles(folder / "in", n_images, box, n_distinct=500)

        def run(flag_plots: bool, particles: Any = particles) -> float:
            return convert(particles, folder / "out", batch_size=1024, flag_plots=flag_plots)[0]

        run(True)
        without, with_them = interleaved(repeats, partial(run, False), partial(run, True))
        rows.append(
            {
                "box": box,
                "without_ms": 1e3 * statistics.median(without) / n_images,
                "with_ms": 1e3 * statistics.median(with_them) / n_images,
                "ratio": median_ratio(with_them, without),
            }
        )
        shutil.rmtree(folder)
    return rows


def with_workers(folder: Path, repeats: int) -> dict[str, Any]:
    """16,000 images of 128 x 128 on one and on two worker processes, with scheduler and client on the same cores.

    `two_plain_processes` is the speed-up of two independent processes, each with its own conversion: the limit of this machine.
    """
    particles = write_particles(folder / "in", 16_000, 128, n_distinct=2000)
    warm = write_particles(folder / "warm", 1000, 128)
    with local_cluster(1) as one, local_cluster(2) as two:

        def run(client: Any) -> float:
            return convert(particles, folder / "out", batch_size=200, client=client)[0]

        for client in (one, two):
            convert(warm, folder / "out", batch_size=100, client=client)
        alone, together = interleaved(repeats, lambda: run(one), lambda: run(two))

    def plain(n_processes: int) -> float:
        out = [str(folder / f"out-{i}") for i in range(n_processes)]
        commands = [("convert", str(warm.star_file), str(warm.folder), path, "100", "128", "4") for path in out]
        return statistics.mean(result["seconds"] for result in in_processes(commands))

    single, pair = interleaved(repeats, lambda: plain(1), lambda: plain(2))
    shutil.rmtree(folder)
    return {
        "two_plain_processes": 2 * median_ratio(single, pair),
        "one_worker_s": statistics.median(alone),
        "two_workers_s": statistics.median(together),
        "speed_up": median_ratio(alone, together),
    }


def share_of_overhead(folder: Path, repeats: int) -> list[dict[str, Any]]:
    """20,000 images of 128 x 128 on two workers: the share of the run that is not spent on making stacks.

    Planning and finishing are the times before the first stack begins and after the last one ends. Scheduling is the time that workers
    wait between two stacks. Making stacks visible takes no thread from them. The time that one worker waits for the other at the end is
    not included, because it depends only on the number of stacks.
    """
    particles = write_particles(folder / "in", 20_000, 128, n_distinct=2000)
    rows = []
    with local_cluster(2) as client:
        client.get_task_stream()  # begins to record
        convert(write_particles(folder / "warm", 200, 128), folder / "out", batch_size=50, client=client)
        for _ in range(repeats):
            shutil.rmtree(folder / "out")  # before the time is taken
            began = time.time()
            seconds, _ = convert(particles, folder / "out", batch_size=500, client=client)
            rows.append(_shares(client.get_task_stream(start=began), began, seconds))
    shutil.rmtree(folder)
    return [*rows, {key: statistics.median(row[key] for row in rows) for key in rows[0]}]


def _shares(tasks: Any, began: float, seconds: float) -> dict[str, Any]:
    """Seconds for each kind of work, from Dask's record of tasks."""
    on_worker: dict[str, list[tuple[float, float]]] = {}
    for task in tasks:
        spans = [span for span in task["startstops"] if span["action"] == "compute"]
        on_worker.setdefault(task["worker"], []).extend((span["start"], span["stop"]) for span in spans)
    runs = [sorted(spans) for spans in on_worker.values()]
    planning = min(run[0][0] for run in runs) - began
    finishing = began + seconds - max(run[-1][1] for run in runs)
    waiting = sum(later[0] - earlier[1] for run in runs for earlier, later in itertools.pairwise(run))
    return {
        "seconds": seconds,
        "planning_s": planning,
        "finishing_s": finishing,
        "scheduling_worker_s": waiting,
        "overhead_share": (planning + finishing + waiting / len(runs)) / seconds,
    }


def tiny_stacks(folder: Path, n_stacks: int = 1000) -> dict[str, Any]:
    """Stacks of one tiny image on two workers: stacks per second, and the memory of the process with scheduler and client."""
    particles = write_particles(folder / "in", n_stacks, 16, n_distinct=100)
    memory = MemoryProgress(n_stacks // 4)
    with local_cluster(2) as client:
        conversion = Conversion(
            particles_from_star(particles.star_file, particles.folder),
            particles.descriptor,
            folder_output=folder / "out",
            batch_size=1,
            flag_plots=False,
            save_phys=False,
        )
        report = conversion.run(client, memory)
    shutil.rmtree(folder)
    quarters = {f"MB_after_{done}": megabytes for done, megabytes in memory.megabytes.items()}
    return {"stacks": n_stacks, "stacks_per_second": n_stacks / report.seconds, **quarters}


def writing(folder: Path, repeats: int) -> dict[str, Any]:
    """512 MiB written in place as a `.pt` file, and as a plain file in the same pieces."""
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
    """1,000,000 rows and 1,000 files: everything before the first pixel is read, in a process of its own."""
    particles = write_particles(folder / "in", 1_000_000, 8, n_files=1000, n_distinct=20_000)
    result = in_a_process("plan", str(particles.star_file), str(particles.folder))
    shutil.rmtree(folder)
    return result


def memory(folder: Path) -> list[dict[str, Any]]:
    """Peak resident memory of one process that converts, alone in one thread or as the worker of a cluster in two.

    Stacks are removed as soon as they are complete, and there are no physical images, because a small machine's memory file system could
    not hold so many. A process alone also checks the CTF at the end.
    """
    rows = []
    for process, box, n_images, batch_size in (
        ("convert", 128, 4000, 2000),
        ("convert", 256, 1000, 256),
        ("convert", 256, 1000, 4096),
        ("convert", 256, 20_000, 4096),
        ("worker", 256, 8192, 4096),
        ("worker", 256, 20_480, 4096),
    ):
        particles = write_particles(folder / "in", n_images, box, n_distinct=500)
        result = in_a_process(
            process, str(particles.star_file), str(particles.folder), str(folder / "out"), str(batch_size), str(box)
        )
        rows.append({"process": process, "box": box, "images": n_images, "batch_size": batch_size, **result})
        shutil.rmtree(folder)
    return rows


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
