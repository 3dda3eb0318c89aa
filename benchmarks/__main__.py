"""Runs and prints all measurements: `python -m benchmarks [--quick] [--folder DIR] [--only NAME ...]`.

The latest result of each measurement is kept in results.json and RESULTS.md beside this file.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import durability, processes, scaling, scheduling, transform_speed
from benchmarks.rendering import render
from cryolike_dask.config import available_cores

HERE = Path(__file__).parent
LONG = {"many_tiny_stacks", "rate_of_many_trivial_stacks"}
"""Measurements that take minutes each. They run only if they are named."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one repeat instead of three; nothing is kept")
    parser.add_argument(
        "--folder", type=Path, help="folder to write to; by default in memory (/dev/shm) if possible, so that disks do not matter"
    )
    parser.add_argument("--only", nargs="+", metavar="NAME", help="only these measurements")
    arguments = parser.parse_args()
    repeats = 1 if arguments.quick else 3
    shared_memory = Path("/dev/shm")
    parent = arguments.folder or (shared_memory if shared_memory.is_dir() else None)
    with tempfile.TemporaryDirectory(prefix="cryolike-bench-", dir=parent) as root:
        folder = Path(root) / "run"
        measurements: dict[str, Callable[[], Any]] = {
            "whole_conversions": lambda: transform_speed.whole_conversions(folder, repeats),
            "whole_processes": lambda: processes.whole_processes(folder, 1 if arguments.quick else 5),
            "start_up": lambda: processes.start_up(folder, 1 if arguments.quick else 5),
            "transforms_alone": lambda: transform_speed.transforms_alone(repeats),
            "split_of_the_transform": lambda: transform_speed.split_of_the_transform(repeats),
            "with_images": lambda: scaling.with_images(folder),
            "with_files_and_order": lambda: scaling.with_files_and_order(folder, repeats),
            "with_pictures": lambda: scaling.with_pictures(folder, 1 if arguments.quick else 5),
            "with_workers": lambda: scaling.with_workers(folder, repeats),
            "share_of_overhead": lambda: scaling.share_of_overhead(folder, repeats),
            "tiny_stacks": lambda: scaling.tiny_stacks(folder),
            "many_tiny_stacks": lambda: scaling.tiny_stacks(folder, 20_000),
            "rate_of_trivial_stacks": lambda: scheduling.rate_of_trivial_stacks(repeats),
            "rate_of_many_trivial_stacks": scheduling.rate_of_many_trivial_stacks,
            "growth_of_an_adaptive_cluster": lambda: scheduling.growth_of_an_adaptive_cluster(repeats),
            "streaming": lambda: scheduling.streaming(folder),
            "writing": lambda: scaling.writing(folder, repeats),
            "disk_speed": lambda: scaling.disk_speed(folder),
            "cost_of_durability": lambda: durability.cost_of_durability(folder, repeats),
            "planning": lambda: scaling.planning(folder),
            "memory": lambda: scaling.memory(folder),
        }
        kept = HERE / "results.json"
        results: dict[str, Any] = json.loads(kept.read_text()) if kept.exists() else {}
        results["machine"] = _machine(str(parent or tempfile.gettempdir()))
        for name in arguments.only or [name for name in measurements if name not in LONG]:
            began = time.perf_counter()
            results[name] = measurements[name]()
            print(f"\n## {name} ({time.perf_counter() - began:.0f} s)\n{render(results[name])}", flush=True)
            if not arguments.quick:
                ordered = {name: results[name] for name in ("machine", *measurements) if name in results}
                kept.write_text(json.dumps(ordered, indent=1) + "\n")
                (HERE / "RESULTS.md").write_text(_document(ordered))


def _machine(folder: str) -> dict[str, Any]:
    import torch

    return {
        "date": time.strftime("%Y-%m-%d"),
        "processor": next(
            (line.split(":")[1].strip() for line in _cpu_lines() if line.startswith("model name")), platform.processor()
        ),
        "cores": available_cores(),
        "load_at_start": os.getloadavg()[0],
        "output": "memory file system" if folder == "/dev/shm" else "disk",
        "cuda": torch.cuda.get_device_name(0) if torch.cuda.is_available() else "no CUDA device: the GPU path was not measured",
    }


def _cpu_lines() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def _document(results: dict[str, Any]) -> str:
    text = "# Measurements\n\nWritten by `make bench`. Ratios are medians over pairs that were measured in turn in the same run.\n"
    for name, values in results.items():
        text += f"\n## {name.replace('_', ' ')}\n\n{render(values)}\n"
    return text


if __name__ == "__main__":
    main()
