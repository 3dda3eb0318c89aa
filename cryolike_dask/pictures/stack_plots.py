"""Draws the pictures of one published stack from its files. Reads a few images and the stored power spectrum, never the whole stack."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cryolike_dask.ctf_check.model import phases
from cryolike_dask.ctf_check.of_stacks import stack_optics
from cryolike_dask.filesystem.pinned import pinned_place
from cryolike_dask.metadata.image_descriptor import ImageDescriptor
from cryolike_dask.pictures.plots import (
    MAX_IMAGES,
    plot_fourier_images,
    plot_physical_images,
    plot_power_spectrum,
    shell_resolutions,
)
from cryolike_dask.simulation.ctf import ctf_zero_resolutions
from cryolike_dask.stacks.complete import arrays_of_stack
from cryolike_dask.stacks.files import StackPaths, read_metadata
from cryolike_dask.stacks.loading import zarr_location
from cryolike_dask.stacks.tensor_file import map_images
from cryolike_dask.stacks.zarr_shard import read_images

_MOST_ZEROS = 40
_LEAST_AGREEMENT = 0.7
"""Least agreement of the phases at a zero that is marked: the length of the mean of exp(2iχ), which is 1 if all CTFs are the same."""


def plot_stack(folder: Path, counter: int, zarr_store: str = "") -> None:
    """Draw the physical images (where saved), the Fourier images and the power spectrum of a stack.

    Args:
        folder: output folder.
        counter: number of the stack.
        zarr_store: see `load_stack`.

    Raises:
        InputError: the stack is missing or damaged.
        OSError: a picture cannot be written.
    """
    paths = StackPaths(folder, counter)
    metadata = read_metadata(paths.metadata)
    descriptor = ImageDescriptor.from_dict(metadata)
    store = zarr_location(paths, metadata, zarr_store)
    arrays = arrays_of_stack(int(metadata["n_images"]), descriptor, int(metadata["phys_crc32"]) >= 0)

    def first_images(array: str, path: Path) -> npt.NDArray[Any]:
        (n, *inner), dtype = arrays[array]
        if store:
            return read_images(store, array, counter, (min(n, MAX_IMAGES), *inner), dtype)
        return map_images(path, (n, *inner), dtype)[:MAX_IMAGES]

    radii = descriptor.polar_grid.radii
    box_length = descriptor.n_pixels[0] * descriptor.pixel_size[0]
    physical_png, fourier_png, power_png = paths.plots
    if "phys" in arrays:
        images = first_images("phys", paths.physical)
        _draw_atomic(physical_png, lambda path: plot_physical_images(images, descriptor.pixel_size[0], path))
    fourier = first_images("fourier", paths.fourier)
    _draw_atomic(fourier_png, lambda path: plot_fourier_images(fourier, radii, box_length, path))
    resolution = shell_resolutions(radii, box_length)
    zeros = _common_zeros(metadata)
    _draw_atomic(power_png, lambda path: plot_power_spectrum(metadata["power_spectrum"], resolution, path, zeros, box_length))


def _common_zeros(metadata: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.float64]:
    """Resolutions, Å, at which the CTFs of most images are near zero: zeros of the mean CTF at which the phases of the images agree."""
    optics = stack_optics(metadata, np.arange(int(metadata["n_images"])))
    zeros = ctf_zero_resolutions(
        float(np.mean((optics.defocus_u + optics.defocus_v) / 2)),
        float(optics.voltage[0]),
        float(optics.spherical_aberration[0]),
        float(optics.amplitude_contrast[0]),
        float(np.mean(optics.phase_shift)),
    )[:_MOST_ZEROS]
    agreement = np.abs(np.exp(2j * phases(optics, 1 / zeros)).mean(axis=1))
    return np.asarray(zeros[agreement > _LEAST_AGREEMENT])


def missing_plots(folder: Path, counter: int, save_phys: bool) -> bool:
    """Whether a picture of this stack is missing."""
    plots = StackPaths(folder, counter).plots
    return not all(path.exists() for path in (plots if save_phys else plots[1:]))


def _draw_atomic(path: Path, draw: Callable[[Path], None]) -> None:
    with pinned_place(path, path.parent.parent) as place:
        partial = place.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.partial")
        try:
            draw(partial)
            os.replace(partial, place)
        finally:
            partial.unlink(missing_ok=True)
