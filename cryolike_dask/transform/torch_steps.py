"""Steps that few runs need, for which CPUs use the same torch code as GPUs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from cryolike_dask.metadata.image_descriptor import ImageDescriptor
from cryolike_dask.transform.fourier_crop import crop_spectra
from cryolike_dask.transform.origins import shift_fourier, shift_physical

_threads_lock = threading.Lock()
_threads_before: list[int] = []


def crop_images(images: npt.NDArray[Any], n_pixels: tuple[int, int]) -> npt.NDArray[np.float64]:
    """Downsample images, (k, rows, columns), by cropping their spectra; see `fourier_crop`."""
    with single_threaded_torch():
        cropped: npt.NDArray[np.float64] = crop_spectra(torch.from_numpy(images).to(torch.float64), n_pixels).numpy()
    return cropped


def shift_images(
    fourier: npt.NDArray[Any], physical: npt.NDArray[np.float32], shifts: npt.NDArray[np.float64], descriptor: ImageDescriptor
) -> None:
    """Move transformed images in place; see `origins`.

    Args:
        fourier: (k, n_shells, n_inplanes) complex.
        physical: (k, n_x, n_y) float32.
        shifts: (k, 2) pixels along x and y.
        descriptor: image descriptor of the images.
    """
    with single_threaded_torch():
        moved, by = torch.from_numpy(fourier), torch.from_numpy(shifts)
        moved.copy_(shift_fourier(moved, by, descriptor))
        in_space = torch.from_numpy(physical)
        in_space.copy_(shift_physical(in_space, by))


@contextmanager
def single_threaded_torch() -> Iterator[None]:
    """Use one thread within torch, and restore the number afterwards. Stacks have a thread each; more inside torch would compete."""
    with _threads_lock:
        # Each thread has its own setting, but a new thread starts with the latest setting of any thread. So all restore the number from
        # before the first one entered.
        _threads_before.append(_threads_before[0] if _threads_before else torch.get_num_threads())
        torch.set_num_threads(1)
    try:
        yield
    finally:
        with _threads_lock:
            torch.set_num_threads(_threads_before.pop())
