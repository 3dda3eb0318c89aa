"""Reads an output folder as its contract describes it, with only NumPy and torch, without unpickling and without the package."""

from __future__ import annotations

import math
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

DESCRIPTOR = {
    "n_pixels": ("i8", (2,)),
    "pixel_size": ("f8", (2,)),
    "radius_max": ("f8", ()),
    "dist_radii": ("f8", ()),
    "n_inplanes": ("i8", ()),
    "precision": ("U", ()),
    "viewing_distance": ("f8", ()),
    "atom_radii": ("f8", ()),
    "atom_selection": ("U", ()),
    "use_protein_residue_model": ("b1", ()),
    "atom_shape": ("U", ()),
}
MAY_BE_ABSENT = {
    *("atom_radii", "atom_selection"),
    *("angleRotation", "angleTilt", "anglePsi", "ref_pixel_size", "ctfBfactor", "ctfScalefactor"),
}
"""Keys that always exist, but may have a size-0 array as value."""
PER_IMAGE = (
    *("defocusU", "defocusV", "defocusAngle", "phaseShift"),
    *("angleRotation", "angleTilt", "anglePsi", "ctfBfactor", "ctfScalefactor"),
)
SCALARS = ("sphericalAberration", "voltage", "amplitudeContrast")


@dataclass(frozen=True)
class WrittenStack:
    """One stack as it is on disk.

    Args:
        counter: number of the stack.
        fourier: (n, n_shells, n_inplanes).
        physical: (n, n_x, n_y), None if there is no file.
        metadata: the arrays of the `.npz`.
    """

    counter: int
    fourier: npt.NDArray[Any]
    physical: npt.NDArray[np.float32] | None
    metadata: dict[str, npt.NDArray[Any]]


def read_tensor(path: Path, dtype: torch.dtype) -> npt.NDArray[Any]:
    """Read the tensor of a `.pt` file. It must be contiguous, on the CPU, with a storage of its own size, and the same if memory-mapped."""
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None, path
    tensor = torch.load(path, weights_only=True)
    mapped = torch.load(path, weights_only=True, mmap=True)
    assert isinstance(tensor, torch.Tensor)
    assert tensor.dtype == dtype, path
    assert tensor.device.type == "cpu"
    assert tensor.is_contiguous()
    assert tensor.storage_offset() == 0
    assert tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size(), path
    assert not tensor.is_conj()
    assert torch.equal(torch.view_as_real(tensor) if tensor.is_complex() else tensor, _real(mapped)), path
    return np.asarray(tensor.numpy())


def _real(tensor: torch.Tensor) -> torch.Tensor:
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor


def read_arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        return {key: archive[key] for key in archive.files}


def read_stacks(folder: Path) -> list[WrittenStack]:
    """Read every stack of a complete run, and check it against the contract.

    Raises:
        AssertionError: a stack violates the contract.
    """
    names = sorted(path.name for path in (folder / "fft").iterdir())
    counters = range(len(names) // 2)
    assert names == sorted(f"particles_fourier_stack_{k:06d}.{end}" for k in counters for end in ("npz", "pt"))
    return [_read_stack(folder, counter) for counter in counters]


def _read_stack(folder: Path, counter: int) -> WrittenStack:
    name = f"particles_fourier_stack_{counter:06d}"
    metadata = read_arrays(folder / "fft" / f"{name}.npz")
    double = str(metadata["precision"]) == "double"
    fourier = read_tensor(folder / "fft" / f"{name}.pt", torch.complex128 if double else torch.complex64)
    physical_path = folder / "phys" / f"particles_phys_stack_{counter:06d}.pt"
    physical = read_tensor(physical_path, torch.float32) if physical_path.exists() else None
    _check_descriptor(metadata)
    _check_columns(metadata)
    n = int(metadata["n_images"])
    n_shells = 1 + math.ceil(float(metadata["radius_max"]) / float(metadata["dist_radii"]))
    assert fourier.shape == (n, n_shells, int(metadata["n_inplanes"]))
    assert np.isfinite(fourier).all()
    if physical is not None:
        assert physical.shape == (n, *metadata["n_pixels"].tolist())
    return WrittenStack(counter, fourier, physical, metadata)


def _check_descriptor(metadata: dict[str, npt.NDArray[Any]]) -> None:
    for key, (kind, shape) in DESCRIPTOR.items():
        value = metadata[key]
        if key in MAY_BE_ABSENT and value.size == 0:
            continue
        assert value.shape == shape, key
        assert value.dtype.str.lstrip("<|>=").startswith(kind), (key, value.dtype)
    assert str(metadata["precision"]) in ("single", "double")


def _check_columns(metadata: dict[str, npt.NDArray[Any]]) -> None:
    assert metadata["n_images"].dtype.kind == "i"
    assert metadata["n_images"].shape == ()
    n = int(metadata["n_images"])
    for key in PER_IMAGE:
        if key in MAY_BE_ABSENT and metadata[key].shape == (0,):
            continue
        assert (metadata[key].shape, metadata[key].dtype) == ((n,), np.float64), key
    for key in SCALARS:
        assert (metadata[key].shape, metadata[key].dtype) == ((), np.float64), key
        assert np.isfinite(metadata[key])
    for key in ("defocusU", "defocusV", "defocusAngle", "phaseShift"):
        assert np.isfinite(metadata[key]).all(), key
    assert metadata["files"].shape == metadata["idxs"].shape == (n,)
    assert metadata["files"].dtype.kind == "U"
    assert metadata["idxs"].dtype == np.int64
    assert (metadata["idxs"] >= 0).all()
    assert metadata["ref_pixel_size"].shape in ((2,), (0,))
