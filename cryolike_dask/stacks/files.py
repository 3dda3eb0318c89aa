"""One stack on disk: names, metadata, staging and publishing, loading.

A stack comes to be in three steps, each of which may be cut short by a crash without harm:

1. *partial*: its files are being filled under hidden names that no other attempt uses;
2. *staged*: they are complete and durable, under hidden names that tell the attempt, the `.npz` last;
3. *published*: they have their final names, the `.npz` last. A stack with an `.npz` is complete.

All names of a file are in one directory, so that each step is one atomic rename. Files of different attempts are never mixed: two
workers that make the same stack need not give the same last bits. Who fills a file also makes it durable, because another host may
be unable to.
"""

from __future__ import annotations

import io
import os
import pickle
import uuid
import zipfile
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cryolike_dask.errors import InputError, MissingFileError
from cryolike_dask.filesystem.pinned import pinned_place
from cryolike_dask.filesystem.reading import UNREADABLE_ARRAY, open_archive, open_input, read_arrays
from cryolike_dask.metadata.image_descriptor import ImageDescriptor
from cryolike_dask.settings import ZARR_NAME, ConversionSettings, is_url
from cryolike_dask.stacks.durable import sync_directory
from cryolike_dask.stacks.zarr_shard import read_images

if TYPE_CHECKING:
    import torch

# What torch raises when a file or the little pickle in it is damaged.
_UNREADABLE_TENSOR = (*UNREADABLE_ARRAY, AttributeError, AssertionError, pickle.UnpicklingError)

PARTIAL, STAGED = ".partial", ".staged"
LEFTOVER = "leftover"
"""The attempt that whatever an earlier run staged counts as."""
PARAMS_FILE, STAR_FILE = "params.npz", "particles.star"
_METADATA, _MOST_METADATA_BYTES = "the metadata of a stack", 1 << 28
"""What messages call it, and the most that it may unpack to where it is compressed."""
_FOURIER = "particles_fourier_stack_"


class UnnamedStoreError(InputError):
    """A file, and nobody else, says that images are in a store outside its folder."""


@dataclass(frozen=True)
class StackPaths:
    """The final names of stack COUNTER below an output folder."""

    folder: Path
    counter: int

    @property
    def fourier(self) -> Path:
        return self.folder / "fft" / f"{_FOURIER}{self.counter:06d}.pt"

    @property
    def physical(self) -> Path:
        return self.folder / "phys" / f"particles_phys_stack_{self.counter:06d}.pt"

    @property
    def metadata(self) -> Path:
        return self.folder / "fft" / f"{_FOURIER}{self.counter:06d}.npz"

    @property
    def plots(self) -> tuple[Path, Path, Path]:
        """Pictures of the images, of their transforms, and of the power spectrum."""
        plots, counter = self.folder / "plots", f"{self.counter:06d}.png"
        return (
            plots / f"particles_phys_stack_{counter}",
            plots / f"particles_fourier_stack_{counter}",
            plots / f"power_spectrum_stack_{counter}",
        )

    def data(self, settings: ConversionSettings) -> tuple[Path, ...]:
        """The files of a complete stack in the order in which they are published."""
        if settings.output_format == "zarr":
            return (self.metadata,)
        return (self.physical, self.fourier, self.metadata) if settings.save_phys else (self.fourier, self.metadata)


def new_id() -> str:
    """A name that no other attempt at any stack has."""
    return uuid.uuid4().hex[:12]


def partial_name(final: Path, attempt: str) -> Path:
    """What a file is called while this attempt fills it."""
    return final.with_name(f".{final.name}.{attempt}{PARTIAL}")


def staged_name(final: Path, attempt: str) -> Path:
    """What a file is called when this attempt has completed it, until it is published."""
    return final.with_name(f".{final.name}.{attempt}{STAGED}")


def mark_staged_as_leftover(folder: Path, settings: ConversionSettings) -> None:
    """Give what earlier runs staged the attempt LEFTOVER, one attempt a stack, so that nobody else needs to list the folder.

    Should this be cut short, files of two attempts may come together; the checksums in the metadata tell.
    """
    prefix, middle = f".{_FOURIER}", ".npz."
    for name in sorted(path.name for path in (folder / "fft").glob(f"{prefix}*{middle}*{STAGED}")):
        digits, _, attempt = name[len(prefix) : -len(STAGED)].partition(middle)
        # Where a leftover of an earlier run was made again, it was of no use.
        if digits.isdigit() and attempt != LEFTOVER:
            for final in StackPaths(folder, int(digits)).data(settings):
                with suppress(FileNotFoundError), _pinned(final) as place:
                    os.replace(staged_name(place, attempt), staged_name(place, LEFTOVER))


def publish(finals: Iterable[Path], attempt: str) -> None:
    """Make what this attempt staged visible, in this order. Doing it again, or after a crash in the middle, is harmless.

    Raises:
        FileNotFoundError: a file is neither staged nor published.
    """
    for final in finals:
        with _pinned(final) as place:
            try:
                os.replace(staged_name(place, attempt), place)
            except FileNotFoundError:
                if not place.exists():
                    raise
            # The name must be durable before the next one appears: the .npz promises all others.
            sync_directory(place.parent)


def unpublish(finals: Iterable[Path]) -> None:
    """Take a published stack back to staged, its metadata first."""
    for final in reversed(tuple(finals)):
        with suppress(FileNotFoundError), _pinned(final) as place:
            os.replace(place, staged_name(place, LEFTOVER))
            sync_directory(place.parent)


def _pinned(final: Path) -> AbstractContextManager[Path]:
    """The final place of a file of a stack, OUT/fft/NAME: its folder is below the output folder."""
    return pinned_place(final, final.parent.parent)


def write_metadata(path: Path, values: Mapping[str, Any]) -> None:
    """Write an `.npz` that loads without pickle."""
    buffer = io.BytesIO()
    np.savez(buffer, **values)
    with path.open("xb") as file:
        file.write(buffer.getvalue())


def read_metadata(path: Path) -> dict[str, np.ndarray]:
    """All arrays of a stack's `.npz`.

    Raises:
        InputError: it is missing or damaged.
    """
    try:
        with open_input(path, _METADATA) as file:
            # What is stored uncompressed, as here, takes no more than the file itself.
            most = max(_MOST_METADATA_BYTES, os.fstat(file.fileno()).st_size)
            with open_archive(file, path, _METADATA, most) as archive:
                return read_arrays(archive)
    except FileNotFoundError:
        raise MissingFileError(
            f"{path} does not exist. `cryolike-dask info {path.parent.parent}` lists the stacks there are."
        ) from None
    except InputError:
        raise
    except UNREADABLE_ARRAY as error:
        raise InputError(f"{path} is damaged ({error}). `cryolike-dask verify {path.parent.parent}` lists what else is.") from error


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


def load_stack(folder: str | Path, counter: int, most: int | None = None, *, zarr_store: str = "") -> LoadedStack:
    """Read stack COUNTER of an output folder; its tensors are memory-mapped, or read from the Zarr store.

    Args:
        folder: output folder of a conversion.
        counter: number of the stack, from 0.
        most: how many of its images, the first ones; None for all.
        zarr_store: path or URL of the Zarr store that holds the images, if it is not in the folder. What a file says of a place outside
            the folder is never opened by itself: the folder may come from somebody else.

    Raises:
        InputError: there is no such stack, it is damaged, or its images are in a store outside the folder that was not named.
    """
    paths = StackPaths(Path(folder).expanduser(), counter)
    metadata = read_metadata(paths.metadata)
    if "zarr_store" in metadata:
        return LoadedStack(*_load_from_store(paths, metadata, most, zarr_store), metadata)
    physical = load_tensor(paths.physical)[:most] if paths.physical.exists() else None
    return LoadedStack(load_tensor(paths.fourier)[:most], physical, metadata)


def zarr_location(paths: StackPaths, metadata: Mapping[str, np.ndarray], zarr_store: str = "") -> str:
    """Path or URL of the Zarr store that holds a stack's images; '' if they are in `.pt` files.

    Args:
        paths, metadata: of the stack.
        zarr_store: the place that the user named, if any.

    Raises:
        UnnamedStoreError: only the file names a place outside the folder.
    """
    recorded = str(metadata.get("zarr_store", ""))
    return named_store(recorded, paths.folder, zarr_store) if recorded else ""


def named_store(recorded: str, folder: Path, zarr_store: str = "") -> str:
    """The store that a file records, if it is in the folder, else the one that the user named.

    Raises:
        UnnamedStoreError: only the file names a place outside the folder.
    """
    if zarr_store:
        return zarr_store if is_url(zarr_store) else str(Path(zarr_store).expanduser().resolve())
    # The mere name is that of a store in the output folder, wherever that was moved.
    if recorded == ZARR_NAME:
        return str(folder / ZARR_NAME)
    raise UnnamedStoreError(
        f"The images of {folder} are said to be in a Zarr store outside it, {recorded}. Such a place is opened only when you name it, "
        f"because the folder may come from somebody else: give zarr_store={recorded!r} (--zarr-store {recorded}), or to restack, the store "
        "itself as the source."
    )


def _load_from_store(
    paths: StackPaths, metadata: Mapping[str, np.ndarray], most: int | None, zarr_store: str
) -> tuple[torch.Tensor, torch.Tensor | None]:
    import torch  # here, because who only writes stacks need not load it

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
        raise InputError(f"{path} does not exist, though its stack should be complete.") from None
    except InputError:
        raise
    except _UNREADABLE_TENSOR as error:
        raise InputError(f"{path} is damaged ({str(error).partition(chr(10))[0]}).") from error
    if not isinstance(tensor, torch.Tensor):
        raise InputError(f"{path} holds a {type(tensor).__name__}, not a tensor.")
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise InputError(f"{path} announces a tensor of shape {tuple(tensor.shape)}, which is more than it holds. Write it again.")
    return tensor


def _check_stored(path: Path) -> None:
    """A tensor file is an archive that nothing in is compressed: what is mapped or unpickled takes no more than the file.

    Raises:
        InputError: something is, or it is no regular file.
        OSError: it cannot be read. What is no archive is left to torch.
    """
    with open_input(path, "a tensor file") as file, suppress(zipfile.BadZipFile):
        open_archive(file, path, "the content of a tensor file", os.fstat(file.fileno()).st_size).close()


def published_counters(folder: Path) -> list[int]:
    """Counters of the stacks that are visible, ascending."""
    suffix = ".npz"
    names = (p.name for p in (folder / "fft").glob(f"{_FOURIER}*{suffix}"))
    digits = (name[len(_FOURIER) : -len(suffix)] for name in names)
    return sorted(int(text) for text in digits if text.isascii() and text.isdigit())
