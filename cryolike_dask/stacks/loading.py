"""A stack read back: its images from `.pt` files or from a Zarr store."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cryolike_dask.errors import InputError, lost_file_error
from cryolike_dask.filesystem.reading import UNREADABLE_ARRAY, open_archive, open_input
from cryolike_dask.formatting import array_kind, entry, plural
from cryolike_dask.html import render
from cryolike_dask.metadata.image_descriptor import ImageDescriptor
from cryolike_dask.settings import ZARR_NAME, is_url
from cryolike_dask.settings.values import is_whole
from cryolike_dask.stacks.files import StackPaths, conversion_folder, read_metadata
from cryolike_dask.stacks.zarr_shard import read_images

if TYPE_CHECKING:
    import torch

# The errors that torch raises if a file, or the small pickle in it, is damaged.
_UNREADABLE_TENSOR = (*UNREADABLE_ARRAY, AttributeError, AssertionError, pickle.UnpicklingError)


class UnnamedStoreError(InputError):
    """The images are in a store outside the folder, which a file names, but not the user."""


@dataclass(frozen=True)
class LoadedStack:
    """A stack read back.

    Args:
        fourier: (n, n_shells, n_inplanes) complex tensor.
        physical: (n, n_x, n_y) float32 tensor; None if it was not saved.
        metadata: the arrays of the `.npz`.
    """

    fourier: torch.Tensor
    physical: torch.Tensor | None
    metadata: dict[str, np.ndarray]

    def __repr__(self) -> str:
        lines = [entry(name, text, 10) for name, text in self._parts().items()]
        return "\n".join([f"<LoadedStack: {plural(len(self.fourier), 'image')}>", *lines])

    def _repr_html_(self) -> str:
        return render("table", caption=f"LoadedStack: {plural(len(self.fourier), 'image')}", rows=self._parts(), warnings=None)

    def _parts(self) -> dict[str, str]:
        return {
            "fourier": array_kind(self.fourier),
            "physical": "not saved" if self.physical is None else array_kind(self.physical),
            "metadata": ", ".join(self.metadata),
        }


def load_stack(folder: str | Path, counter: int, most: int | None = None, *, zarr_store: str = "") -> LoadedStack:
    """Read a stack of an output folder. Its tensors are memory-mapped, or read from the Zarr store.

    Args:
        folder: output folder of a conversion.
        counter: number of the stack, from 0.
        most: read only this many images, from the first one; None for all.
        zarr_store: path or URL of the Zarr store that holds the images, if it is not in the folder. A store outside the folder is opened
            only if you name it here, because the folder may come from somebody else.

    Raises:
        InputError: there is no such stack, it is damaged, or its images are in a store outside the folder that was not named.

    Example:
        >>> stack = load_stack("converted", 0)
        >>> stack.fourier.shape, stack.fourier.dtype
        (torch.Size([5, 17, 32]), torch.complex64)
        >>> stack.metadata["defocusU"].shape
        (5,)
    """
    if not is_whole(counter) or int(counter) < 0:
        raise InputError(f"counter is {counter!r}: give the number of a stack, a whole number from 0.")
    paths = StackPaths(conversion_folder(folder), int(counter))
    metadata = read_metadata(paths.metadata)
    if "zarr_store" in metadata:
        return LoadedStack(*_load_from_store(paths, metadata, most, zarr_store), metadata)
    physical = load_tensor(paths.physical)[:most] if paths.physical.exists() else None
    return LoadedStack(load_tensor(paths.fourier)[:most], physical, metadata)


def zarr_location(paths: StackPaths, metadata: Mapping[str, np.ndarray], zarr_store: str = "") -> str:
    """Path or URL of the Zarr store that holds a stack's images; '' if they are in `.pt` files.

    Args:
        paths, metadata: of the stack.
        zarr_store: location of the store if the user named it, else ''.

    Raises:
        UnnamedStoreError: the store is outside the folder, and the user did not name it.
    """
    recorded = str(metadata.get("zarr_store", ""))
    return named_store(recorded, paths.folder, zarr_store) if recorded else ""


def named_store(recorded: str, folder: Path, zarr_store: str = "") -> str:
    """The store that the user named, or else the one that a file records, if it is in the folder.

    Raises:
        UnnamedStoreError: the recorded store is outside the folder, and the user did not name it.
    """
    if zarr_store:
        return zarr_store if is_url(zarr_store) else str(Path(zarr_store).expanduser().resolve())
    # A name without a folder is that of the store in the output folder, which may have been moved.
    if recorded == ZARR_NAME:
        return str(folder / ZARR_NAME)
    raise UnnamedStoreError(
        f"According to its files, the images of {folder} are in a Zarr store outside it, {recorded}. Such a store is opened only if you "
        f"name it, because the folder may come from somebody else: give zarr_store={recorded!r} (--zarr-store {recorded}), or to restack, "
        "the store itself as the source."
    )


def _load_from_store(
    paths: StackPaths, metadata: Mapping[str, np.ndarray], most: int | None, zarr_store: str
) -> tuple[torch.Tensor, torch.Tensor | None]:
    import torch  # imported here, because writing stacks does not need it

    location, descriptor = zarr_location(paths, metadata, zarr_store), ImageDescriptor.from_dict(dict(metadata))
    n = len(range(int(metadata["n_images"]))[:most])
    grid = descriptor.polar_grid
    fourier = read_images(location, "fourier", paths.counter, (n, grid.n_shells, grid.n_inplanes), descriptor.complex_dtype)
    physical = None
    if int(metadata["phys_crc32"]) >= 0:
        images = read_images(location, "phys", paths.counter, (n, *descriptor.n_pixels), np.dtype(np.float32))
        physical = torch.from_numpy(images.copy())
    return torch.from_numpy(fourier.copy()), physical


def load_tensor(path: Path) -> torch.Tensor:
    """A tensor of a `.pt` file, memory-mapped; no other object is ever unpickled.

    Raises:
        InputError: the file is missing or damaged.
    """
    import torch  # as above

    try:
        _check_stored(path)
        tensor = torch.load(path, weights_only=True, mmap=True, map_location="cpu")
    except FileNotFoundError:
        raise lost_file_error(path) from None
    except InputError:
        raise
    except _UNREADABLE_TENSOR as error:
        raise InputError(f"{path} is damaged ({str(error).partition(chr(10))[0]}).") from error
    if not isinstance(tensor, torch.Tensor):
        raise InputError(f"{path} holds a {type(tensor).__name__}, not a tensor.")
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise InputError(f"{path} states a tensor of shape {tuple(tensor.shape)}, which is more than it holds. Write it again.")
    return tensor


def _check_stored(path: Path) -> None:
    """Check that nothing in a tensor file is compressed, so that mapping and unpickling it take no more memory than the file.

    Files that are not archives pass: torch reports them.

    Raises:
        InputError: something is compressed, or the file is not a regular file.
        OSError: the file cannot be read.
    """
    with open_input(path, "a tensor file") as file, suppress(zipfile.BadZipFile):
        open_archive(file, path, "the content of a tensor file", os.fstat(file.fileno()).st_size).close()
