"""Writes the `.pt` files and the `.npz` of one stack, from partial to staged.

Shards of a Zarr store are also staged, under `fourier/staged/COUNTER.ATTEMPT`. An upload cannot be stopped once it has begun: if its worker
is slow or suspended, it may end long after its run, when another run has already written to the same store. A late shard stays under its
staged name, where no reader of Zarr looks, until the next run removes it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from cryolike_dask.errors import CryolikeError
from cryolike_dask.filesystem.pinned import pinned
from cryolike_dask.planning.plan import StackPlan
from cryolike_dask.settings import ZARR_NAME, store_location
from cryolike_dask.stacks.durable import sync_file
from cryolike_dask.stacks.files import (
    LEFTOVER,
    PARTIAL,
    STAGED,
    StackPaths,
    new_id,
    partial_name,
    read_metadata,
    staged_name,
    write_metadata,
)
from cryolike_dask.stacks.metadata import StackSums
from cryolike_dask.stacks.object_store import ObjectStore, open_object_store
from cryolike_dask.stacks.receipt import StackReceipt
from cryolike_dask.stacks.tensor_file import InPlaceWriter, TensorFileWriter
from cryolike_dask.stacks.zarr_shard import ShardWriter, shard_name
from cryolike_dask.transform.interface import TransformedImages

_ARRAYS = ("fourier", "phys")


class StackWriter:
    """Writes one stack under hidden names. A context manager: leaving it without a call of `stage` removes the files.

    Args:
        stack: the plan of the stack.
        folder: output folder; its folders `fft` and `phys` exist.

    Raises:
        OSError: the file system refuses it.
    """

    def __init__(self, stack: StackPlan, folder: Path) -> None:
        self.stack = stack
        self.paths = StackPaths(folder, stack.counter)
        self.attempt = new_id()
        self.folder = folder
        is_zarr = stack.settings.output_format == "zarr"
        self.store = open_object_store(store_location(stack.settings, folder)) if is_zarr else None
        self._resources = ExitStack()
        self._folders: dict[str, Path] = {}
        self._sums = StackSums(stack)
        descriptor, n = stack.descriptor, len(stack)
        grid = descriptor.polar_grid
        try:
            fourier, physical = self.paths.fourier, self.paths.physical
            self.fourier = self._open_writer("fourier", fourier, (n, grid.n_shells, grid.n_inplanes), descriptor.complex_dtype)
            self.physical = None
            if stack.settings.save_phys:
                self.physical = self._open_writer("phys", physical, (n, *descriptor.n_pixels), np.dtype(np.float32))
        except BaseException:
            self._resources.close()
            raise

    def _open_writer(self, array: str, final: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> InPlaceWriter:
        if self.store is not None:
            path = self._resources.enter_context(self.store.temporary_file(staged_shard(array, self.stack.counter, self.attempt)))
            return self._resources.enter_context(ShardWriter(path, shape, dtype, self.stack.settings.batch_size))
        path = partial_name(self._place(final), self.attempt)
        self._resources.callback(path.unlink, missing_ok=True)
        return self._resources.enter_context(TensorFileWriter(path, shape, dtype))

    def _place(self, final: Path) -> Path:
        """A final name in its folder. The folder is kept open until this writer is closed."""
        name = final.parent.name
        if name not in self._folders:
            self._folders[name] = self._resources.enter_context(pinned(final.parent, self.folder))
        return self._folders[name] / final.name

    def __enter__(self) -> StackWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._resources.close()

    def write(self, number: int, positions: npt.NDArray[np.int64], images: TransformedImages) -> None:
        """Write transformed images at these positions of the stack. Several threads may write different images at a time.

        Args:
            number: number of these images among all parts of the stack, independent of the order of the calls.
        """
        self.fourier.write(positions, images.fourier)
        if self.physical is not None:
            self.physical.write(positions, images.physical)
        self._sums.add(number, positions, images)

    def stage(self) -> StackReceipt:
        """Complete the files, make them durable, and give them their staged names, the metadata last."""
        tensors = {"fourier": self.fourier} | ({} if self.physical is None else {"phys": self.physical})
        crcs = {"fourier_crc32": -1, "phys_crc32": -1} | {f"{array}_crc32": images.finish() for array, images in tensors.items()}
        metadata = self._sums.metadata()
        metadata |= {name: np.int64(crc) for name, crc in crcs.items()}
        if self.store is not None:
            metadata["zarr_store"] = np.str_(self.stack.settings.zarr_store or ZARR_NAME)
            metadata["attempt"] = np.str_(self.attempt)
        path = partial_name(self._place(self.paths.metadata), self.attempt)
        self._resources.callback(path.unlink, missing_ok=True)
        # Writing of both files begins before the first wait, so that the file system commits its journal only once.
        for images in tensors.values():
            images.begin_sync()
        for images in tensors.values():
            images.sync()
        # Written last, so that the time of the metadata is later, even if a server sets the time of a file when its last bytes arrive.
        write_metadata(path, metadata)
        sync_file(path)
        n_bytes = sum(file.stat().st_size for file in (path, *(images.path for images in tensors.values())))
        if self.store is not None:
            for array, images in tensors.items():
                self.store.put_file(images.path, staged_shard(array, self.stack.counter, self.attempt))
        for final in map(self._place, self.paths.data(self.stack.settings)):
            os.replace(partial_name(final, self.attempt), staged_name(final, self.attempt))
        return StackReceipt(
            self.stack.counter,
            len(self.stack),
            n_bytes,
            crcs["fourier_crc32"],
            crcs["phys_crc32"],
            mean_power=float(metadata["power_spectrum"].mean()),
            attempt=self.attempt,
        )


def remove_unpublished(folder: Path, keep: Callable[[Path], bool] = lambda _: False) -> None:
    """Remove partial and staged files of earlier attempts, except those to `keep`."""
    for subfolder in (".", "fft", "phys", "plots"):
        with suppress(FileNotFoundError), pinned(folder / subfolder, folder) as place:
            for path in (path for pattern in (f".*{PARTIAL}", f".*{STAGED}") for path in place.glob(pattern)):
                if not keep(path):
                    path.unlink(missing_ok=True)


def staged_shard(array: str, counter: int, attempt: str) -> str:
    """The object that holds a stack's images until they are published."""
    return f"{array}/staged/{counter}.{attempt}"


def install_shards(store: ObjectStore, counter: int, attempt: str, has_physical: bool) -> None:
    """Give the shards that this attempt has uploaded their final names. It may be repeated, even after a crash in the middle.

    Raises:
        FileNotFoundError: a shard exists neither under its staged nor under its final name.
    """
    for array in _ARRAYS[: 1 + has_physical]:
        store.move(staged_shard(array, counter, attempt), shard_name(array, counter))


def install_leftovers(store: ObjectStore, folder: Path, n_stacks: int, has_physical: bool) -> None:
    """Install the shards of complete stacks that were staged by an earlier run and waited for a stack before them; remove all others.

    Whether such a stack can be used is checked later, as for published stacks.
    """
    for counter in range(n_stacks):
        metadata = staged_name(StackPaths(folder, counter).metadata, LEFTOVER)
        if metadata.exists():
            try:
                install_shards(store, counter, str(read_metadata(metadata)["attempt"]), has_physical)
            except (CryolikeError, LookupError, FileNotFoundError):
                continue  # the stack is made again
    remove_staged(store)
    store.remove_partial()


def remove_staged(store: ObjectStore) -> None:
    """Remove all staged shards, of every attempt of every run."""
    for array in _ARRAYS:
        store.remove_all(f"{array}/staged")
