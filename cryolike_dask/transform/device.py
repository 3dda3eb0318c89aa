"""Chooses the device on which a task computes."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

from cryolike_dask.errors import ConversionError
from cryolike_dask.metadata.image_descriptor import ImageDescriptor
from cryolike_dask.settings import ConversionSettings, Device
from cryolike_dask.transform.cpu import CompiledTransform
from cryolike_dask.transform.interface import Transform

_DRIVERS = ("/proc/driver/nvidia", "/dev/nvidiactl", "/dev/dxg", "/dev/kfd")
"""Files of the drivers of NVIDIA, of the Windows Subsystem for Linux, and of AMD, whose GPUs torch also calls CUDA."""


@cache
def may_have_gpu() -> bool:
    """Whether there may be a GPU, so that it is worth importing torch, which takes a second and 160 MB, to ask for it."""
    return not sys.platform.startswith("linux") or any(Path(path).exists() for path in _DRIVERS)


def resolve_device(device: Device) -> str:
    """'cpu' or 'cuda:0'. A worker sees its own GPU as number 0 (CUDA_VISIBLE_DEVICES), so devices are never counted.

    Raises:
        ConversionError: `device` is 'cuda', and this worker has no CUDA device.
    """
    if device == "cpu" or (device == "auto" and not may_have_gpu()):
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda:0"
    if device == "cuda":
        raise ConversionError(
            "device='cuda' was asked for, but this worker has no CUDA device. Use workers with a GPU (and a CUDA build of torch), or "
            "device='auto'."
        )
    return "cpu"


def peak_device_bytes(device: Device) -> int:
    """The peak of the CUDA memory of this process's tensors; 0 on a CPU.

    Raises:
        ConversionError: as for `resolve_device`.
    """
    resolved = resolve_device(device)
    if resolved == "cpu":
        return 0
    import torch

    return int(torch.cuda.max_memory_allocated(resolved))


def make_transform(descriptor: ImageDescriptor, settings: ConversionSettings) -> Transform:
    """Make the transform for this worker. Threads must not share it."""
    device = resolve_device(settings.device)
    if device == "cpu":
        return CompiledTransform(descriptor, settings.downsample_factor, settings.downsample_type)
    from cryolike_dask.transform.gpu import TorchTransform

    return TorchTransform(descriptor, settings.downsample_factor, settings.downsample_type, device)
