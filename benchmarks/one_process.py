"""Measurements in a process of their own: `python -m benchmarks.one_process NAME ...` prints one line of JSON."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.measuring import DeletingProgress
from cryolike_dask.conversion import Conversion
from cryolike_dask.metadata.image_descriptor import ImageDescriptor
from cryolike_dask.particles.star.particles import particles_from_star


def plan(star_file: str, folder: str) -> dict[str, Any]:
    """Seconds of each step of planning."""
    descriptor = ImageDescriptor.from_individual_values(8, 1.5)
    began = time.perf_counter()
    particles = particles_from_star(star_file, folder)
    read = time.perf_counter()
    conversion = Conversion(particles, descriptor, folder_output=Path(folder) / "out")
    planned = time.perf_counter()
    fingerprint = conversion.plan.fingerprint
    done = time.perf_counter()
    return {
        "rows": len(particles),
        "read_table_s": read - began,
        "headers_and_checks_s": planned - read,
        "fingerprint_s": done - planned,
        "total_s": done - began,
        "fingerprint": fingerprint[:8],
    }


def convert(star_file: str, folder: str, output: str, batch_size: str, box: str, times: str = "1") -> dict[str, Any]:
    """Total seconds of several conversions in one thread, without the first one; if there is only one, its seconds."""
    seconds = []
    for _ in range(int(times)):
        conversion = _without_pictures(star_file, folder, output, batch_size, box)
        seconds.append(conversion.run_serially(DeletingProgress(Path(output))).seconds)
    return {"seconds": sum(seconds[1:]) if seconds[1:] else seconds[0]}


def worker(star_file: str, folder: str, output: str, batch_size: str, box: str) -> dict[str, Any]:
    """Seconds of a conversion on a local cluster of one worker of two threads. The peak is that of the worker."""
    from distributed import Client

    from cryolike_dask import local_cluster

    conversion = _without_pictures(star_file, folder, output, batch_size, box)
    with local_cluster(1, threads_per_worker=2) as cluster, Client(cluster) as client:
        report = conversion.run(client, progress=DeletingProgress(Path(output)))
        (peak,) = client.run(peak_megabytes).values()
    return {"seconds": report.seconds, "peak_MB": peak}


def _without_pictures(star_file: str, folder: str, output: str, batch_size: str, box: str) -> Conversion:
    return Conversion(
        particles_from_star(star_file, folder),
        ImageDescriptor.from_individual_values(int(box), 1.5),
        folder_output=output,
        batch_size=int(batch_size),
        flag_plots=False,
        save_phys=False,
        overwrite=True,
    )


def stream(star_file: str, folder: str, box: str, n_stacks: str) -> dict[str, Any]:
    """Stream `n_stacks` stacks of 1,024 images, one after the other, and drop them."""
    conversion = Conversion(
        particles_from_star(star_file, folder),
        ImageDescriptor.from_individual_values(int(box), 1.5),
        folder_output=Path(folder) / "out",
        n_stacks_max=int(n_stacks),
    )
    return {"images": sum(len(stack.fourier) for stack in conversion.stream())}


def published(star_file: str, folder: str, output: str, batch_size: str, box: str) -> dict[str, Any]:
    """A conversion with the published method."""
    from benchmarks import published_method  # imports finufft and torch, which the other measurements must not load

    descriptor = ImageDescriptor.from_individual_values(int(box), 1.5)
    return {"images": published_method.convert(Path(star_file), Path(folder), descriptor, Path(output), int(batch_size))}


def peak_megabytes() -> float:
    """Peak resident memory of this process. That of the system's `getrusage` would include the process that started this one."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1e3


if __name__ == "__main__":
    functions = {function.__name__: function for function in (plan, convert, worker, published, stream)}
    result = functions[sys.argv[1]](*sys.argv[2:])
    result.setdefault("peak_MB", peak_megabytes())
    sys.stdout.write(json.dumps(result) + "\n")
