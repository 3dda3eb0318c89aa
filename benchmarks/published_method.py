"""The published method of conversion, for comparison: complete files in memory, one finufft call per image in complex128, `torch.save`.

It was written from the formulas, with finufft for the transform. It reads the same STAR and MRC files as this package and writes the same
kinds of files, so that complete conversions can be compared.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import finufft
import mrcfile
import numpy as np
import starfile
import torch

from cryolike_dask.metadata.image_descriptor import ImageDescriptor

TOLERANCE = {"single": 1e-6, "double": 1e-12}


class PublishedTransform:
    """Polar transform of one image at a time.

    Args:
        descriptor: grids and precision of the images.
        n_threads: of finufft; 0 for all cores.
    """

    def __init__(self, descriptor: ImageDescriptor, n_threads: int = 0) -> None:
        grid = descriptor.polar_grid
        n_x, n_y = descriptor.n_pixels
        self.descriptor = descriptor
        self.n_threads = n_threads
        self.k1 = (4 * np.pi / n_x * np.outer(grid.radii, np.cos(grid.angles))).ravel()
        self.k2 = (4 * np.pi / n_y * np.outer(grid.radii, np.sin(grid.angles))).ravel()
        self.weights = torch.from_numpy(np.repeat(grid.shell_weights, grid.n_inplanes).reshape(grid.n_shells, grid.n_inplanes))

    def __call__(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Fourier and physical images of (n, n_x, n_y) pixels."""
        grid = self.descriptor.polar_grid
        images = images - images.mean(dim=(1, 2), keepdim=True)
        images = images / images.abs().amax(dim=(1, 2), keepdim=True)
        fourier = torch.empty((len(images), grid.n_shells, grid.n_inplanes), dtype=torch.complex128)
        scale = 4 * np.pi / np.sqrt(np.prod(self.descriptor.n_pixels))
        for i, image in enumerate(images):
            values = finufft.nufft2d2(
                self.k1,
                self.k2,
                image.numpy().astype(np.complex128),
                eps=TOLERANCE[self.descriptor.precision],
                isign=-1,
                nthreads=self.n_threads,
            )
            fourier[i] = torch.from_numpy(values).reshape(grid.n_shells, grid.n_inplanes) * scale
        norm = (fourier.abs() ** 2 * self.weights).sum(dim=(1, 2), keepdim=True).sqrt()
        dtype = torch.complex64 if self.descriptor.precision == "single" else torch.complex128
        return (fourier / norm).to(dtype), images.to(torch.float32)


def convert(star_file: Path, folder_mrc: Path, descriptor: ImageDescriptor, folder_output: Path, batch_size: int) -> int:
    """Convert an indexed STAR file. Returns the number of images."""
    transform = PublishedTransform(descriptor)
    blocks = starfile.read(star_file, always_dict=True)
    table = blocks["particles"].merge(blocks["optics"], on="rlnOpticsGroup")
    names = table["rlnImageName"].str.split("@", expand=True)
    table["index"], table["file"] = names[0].astype(int) - 1, names[1].map(lambda path: Path(path).name)
    for name in ("fft", "phys"):
        (folder_output / name).mkdir(parents=True, exist_ok=True)
    waiting: list[tuple[torch.Tensor, torch.Tensor]] = []
    counter = n_images = 0

    def flush(at_least: int) -> None:
        nonlocal counter, waiting
        while sum(len(fourier) for fourier, _ in waiting) >= at_least and waiting:
            fourier, physical = (torch.cat(tensors) for tensors in zip(*waiting, strict=True))
            torch.save(fourier[:batch_size].clone(), folder_output / "fft" / f"particles_fourier_stack_{counter:06d}.pt")
            torch.save(physical[:batch_size].clone(), folder_output / "phys" / f"particles_phys_stack_{counter:06d}.pt")
            np.savez(folder_output / "fft" / f"particles_fourier_stack_{counter:06d}.npz", **_metadata(descriptor, table))
            waiting = [(fourier[batch_size:], physical[batch_size:])] if len(fourier) > batch_size else []
            counter += 1

    for file, rows in table.groupby("file", sort=True):
        with mrcfile.open(folder_mrc / str(file), permissive=True) as mrc:
            stack = torch.from_numpy(np.array(mrc.data, dtype=np.float32, ndmin=3))
        waiting.append(transform(stack[torch.from_numpy(rows["index"].to_numpy().copy())]))
        n_images += len(rows)
        flush(batch_size)
    flush(1)
    return n_images


def _metadata(descriptor: ImageDescriptor, table: Any) -> dict[str, Any]:
    columns = {name: table[name].to_numpy() for name in ("rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle", "index")}
    return {**descriptor.to_arrays(), **columns}
