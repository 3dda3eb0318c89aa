"""Results in the layout of CryoLike's likelihood, with numbers that identify image, structure and quantity."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from tests.support.independent_reader import WrittenStack

LIKELIHOODS = ("integrated_fourier", "optimal_fourier", "optimal_physical")
POSE = ("template", "displacement_x", "displacement_y", "inplane_rotation")
ALL = (*LIKELIHOODS, "cross_correlation", *POSE)
N_DIRECTIONS = 28
VIEWING_DISTANCE = 2.7
"""Number of directions of the templates."""

_FILES = {
    **{name: f"log_likelihood/log_likelihood_{name}_stack_" for name in LIKELIHOODS},
    "cross_correlation": "cross_correlation/cross_correlation_stack_",
    **{name: f"optimal_pose/optimal_{name}_stack_" for name in POSE},
}
MATRICES = {
    "integrated_fourier": "integrated_fourier_log_likelihood_matrix.pt",
    "optimal_fourier": "optimal_fourier_log_likelihood_matrix.pt",
    "optimal_physical": "optimal_physical_log_likelihood_matrix.pt",
    "cross_correlation": "cross_correlation_matrix.pt",
}


def number(quantity: str, structure: int, file: str, index: int) -> float:
    """The result for an image, in single precision, as CryoLike writes it."""
    rng = np.random.default_rng([ALL.index(quantity), structure, *file.encode(), index])
    if quantity == "template":
        return float(rng.integers(N_DIRECTIONS))
    return float(np.float32(2000 + 5 * rng.normal() if quantity in LIKELIHOODS else rng.normal()))


def numbers(quantity: str, structure: int, images: Iterable[tuple[str, int]]) -> npt.NDArray[np.float64]:
    """(n,) results for several images, which are given by file name and index, counted from 0."""
    return np.array([number(quantity, structure, file, index) for file, index in images])


def result_file(folder: Path, structure: int, quantity: str, counter: int) -> Path:
    return folder / f"template{structure}" / f"{_FILES[quantity]}{counter:06d}.pt"


def images_of(stack: WrittenStack) -> list[tuple[str, int]]:
    """File name and index of each image of a stack."""
    return [(Path(str(file)).name, int(index)) for file, index in zip(stack.metadata["files"], stack.metadata["idxs"], strict=True)]


def save(path: Path, values: npt.NDArray[np.float64], *, whole: bool = False) -> None:
    """Save a tensor as CryoLike does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(torch.from_numpy(values).to(torch.int64 if whole else torch.float32), path)


def write_results(
    folder: Path, stacks: Sequence[WrittenStack], structures: Sequence[int] = (0, 1), quantities: Sequence[str] = ALL
) -> Path:
    """Write what CryoLike's likelihood would write for these stacks."""
    for stack in stacks:
        for structure in structures:
            for quantity in quantities:
                values = numbers(quantity, structure, images_of(stack))
                save(result_file(folder, structure, quantity, stack.counter), values, whole=quantity == "template")
    return folder


def write_matrices(
    folder: Path, stacks: Sequence[WrittenStack], n_structures: int = 2, quantities: Sequence[str] = tuple(MATRICES)
) -> Path:
    """Write the same as stitched matrices, (n_structures, n_images), in the folder `likelihood_matrix`."""
    images = [image for stack in stacks for image in images_of(stack)]
    for quantity in quantities:
        values = np.stack([numbers(quantity, structure, images) for structure in range(n_structures)])
        save(folder / "likelihood_matrix" / MATRICES[quantity], values)
    return folder
