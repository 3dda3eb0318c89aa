"""Complete processes, as a shell starts them: the start-up time of a small run, and long runs compared with the published method."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.measuring import interleaved, median_ratio
from benchmarks.particle_files import ParticleSet, write_particles

ROOT = Path(__file__).resolve().parents[1]
AGAINST_PUBLISHED = {256: 2048, 128: 8192}
"""Number of images for each box size."""


def start_up(folder: Path, repeats: int) -> list[dict[str, Any]]:
    """60 images of 64 pixels, without pictures, compared with the time that Python takes to import torch."""
    particles, out = write_particles(folder / "in", 60, 64), folder / "out"
    torch = _timed([sys.executable, "-c", "import torch"], out)
    in_process = _timed(_command(particles, out, 20), out)
    two_workers = _timed([*_command(particles, out, 20), "--workers", "2"], out)
    for run in (torch, in_process, two_workers):
        run()  # compiles, and warms the caches
    import_torch, *others = interleaved(repeats, torch, in_process, two_workers)
    shutil.rmtree(folder)
    return [
        {"run": name, "s": statistics.median(seconds), "import torch s": statistics.median(import_torch), "ratio": ratio}
        for name, seconds in zip(("in process", "two workers"), others, strict=True)
        for ratio in [median_ratio(seconds, import_torch)]
    ]


def whole_processes(folder: Path, repeats: int) -> list[dict[str, Any]]:
    """From an indexed STAR file to fft, phys and npz, without pictures: one process of ours and the published method, in turn."""
    rows = []
    for box, n_images in AGAINST_PUBLISHED.items():
        particles, out = write_particles(folder / "in", n_images, box), folder / "out"
        batch_size = n_images // 8
        ours = _timed(_command(particles, out, batch_size), out)
        script = [sys.executable, "-m", "benchmarks.one_process", "published", str(particles.star_file), str(particles.folder)]
        published = _timed([*script, str(out), str(batch_size), str(box)], out)
        ours()  # compiles, and warms the caches
        mine, theirs = interleaved(repeats, ours, published)
        row = {"box": box, "images": n_images, "ours s": statistics.median(mine), "published s": statistics.median(theirs)}
        rows.append(row | {"ratio": median_ratio(theirs, mine)})
        shutil.rmtree(folder)
    return rows


def _command(particles: ParticleSet, out: Path, batch_size: int) -> list[str]:
    box = particles.descriptor.n_pixels[0]
    params = particles.folder / "params.npz"
    program = [sys.executable, "-m", "cryolike_dask"]
    if not params.exists():
        subprocess.run([*program, "params", str(params), "--n-pixels", str(box), "--pixel-size", "1.5"], cwd=ROOT, check=True)
    where = ["--mrc-folder", str(particles.folder), "--params", str(params), "--out", str(out)]
    return [*program, "convert", "star", str(particles.star_file), *where, "--batch-size", str(batch_size), "--no-plots"]


def _timed(command: list[str], out: Path) -> Callable[[], float]:
    # As in an installation, compiled Python code is kept.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}

    def run() -> float:
        shutil.rmtree(out, ignore_errors=True)
        began = time.perf_counter()
        subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)
        return time.perf_counter() - began

    return run
