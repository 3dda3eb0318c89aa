"""Device memory that a worker reports with each stack. The answers of CUDA are simulated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from cryolike_dask.progress import NoProgress, StackProgress
from cryolike_dask.transform import device
from tests.support.clusters import conversion, make_particles


class _Told(NoProgress):
    def __init__(self) -> None:
        self.device_bytes: list[int] = []

    def stack_done(self, stack: StackProgress) -> None:
        self.device_bytes.append(stack.device_bytes)


def _convert(tmp_path: Path, **options: Any) -> list[int]:
    told = _Told()
    conversion(make_particles(tmp_path / "particles", n_images=8), tmp_path / "out", **options).run_serially(told)
    return told.device_bytes


def test_a_stack_made_on_a_cpu_took_no_device_memory(tmp_path: Path) -> None:
    assert _convert(tmp_path, device="cpu") == [0, 0]


def test_a_stack_made_on_a_gpu_reports_the_peak_of_that_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    peaks = {"cuda:0": iter((3_000_000, 5_000_000))}
    make = device.CompiledTransform
    monkeypatch.setattr(
        "cryolike_dask.execution.chunks.make_transform", lambda d, s: make(d, s.downsample_factor, s.downsample_type)
    )
    monkeypatch.setattr("cryolike_dask.execution.convert_stack.make_transform", lambda d, _: make(d))
    monkeypatch.setattr(device, "resolve_device", lambda _: "cuda:0")
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda found: next(peaks[found]))
    assert _convert(tmp_path) == [3_000_000, 5_000_000]
