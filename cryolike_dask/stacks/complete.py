"""Finds stacks that an earlier run, or an earlier attempt of this run, left complete and undamaged."""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cryolike_dask.errors import CryolikeError, InputError
from cryolike_dask.metadata.image_descriptor import ImageDescriptor
from cryolike_dask.planning.plan import StackPlan
from cryolike_dask.settings import store_location
from cryolike_dask.stacks.archive import check_archive
from cryolike_dask.stacks.files import LEFTOVER, StackPaths, read_metadata, staged_name
from cryolike_dask.stacks.loading import load_tensor
from cryolike_dask.stacks.object_store import open_object_store
from cryolike_dask.stacks.receipt import WRITTEN_AS_ZEROS, StackReceipt
from cryolike_dask.stacks.tensor_file import checksum_of_data, read_layout
from cryolike_dask.stacks.zarr_shard import check_shard, checksum_of_images, shard_name

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

Arrays = dict[str, tuple[tuple[int, ...], np.dtype[Any]]]


def arrays_of_stack(n: int, descriptor: ImageDescriptor, has_physical: bool) -> Arrays:
    """Shape and type of a stack's arrays: 'fourier', and 'phys' if images in real space are kept."""
    grid = descriptor.polar_grid
    arrays: Arrays = {"fourier": ((n, grid.n_shells, grid.n_inplanes), descriptor.complex_dtype)}
    return arrays | ({"phys": ((n, *descriptor.n_pixels), np.dtype(np.float32))} if has_physical else {})


def check_tensor_file(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any], crc: int, *, read_data: bool) -> torch.Tensor:
    """The tensor of a `.pt` file, memory-mapped, after a check that the file is undamaged.

    Args:
        path: the file.
        shape, dtype: that the tensor should have.
        crc: CRC-32 of the tensor's bytes according to the metadata.
        read_data: also compare the CRC with the data themselves; otherwise only with the CRC in the file.

    Raises:
        InputError: the file is missing, damaged or of another tensor.
    """
    try:
        layout = read_layout(path)
        if layout.crc != crc:
            raise InputError(f"{path} contains another checksum than its metadata")
        if read_data and checksum_of_data(path, layout) != crc:
            raise InputError(f"{path} is damaged: its checksum does not fit its data")
    except FileNotFoundError:
        raise InputError(f"{path} is missing") from None
    except (OSError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is damaged ({error})") from error
    tensor = load_tensor(path)
    if tuple(tensor.shape) != shape or tensor.numpy().dtype != dtype:
        raise InputError(f"{path} holds {tensor.dtype} of shape {tuple(tensor.shape)}, but its metadata say {dtype} {shape}")
    if not tensor.is_contiguous() or tensor.storage_offset() or tensor.untyped_storage().nbytes() != layout.data_bytes:
        raise InputError(f"{path} holds a part of a tensor, or one that is not contiguous")
    return tensor


def find_complete_stack(stack: StackPlan, folder: Path, log: Callable[..., None] = logger.debug) -> StackReceipt | None:
    """The receipt of this stack if an earlier run left it complete, whether published, staged or in between; else None.

    A stack is complete if the metadata are of this run, torch or Zarr can read the images, and every other byte is as it was written. The
    images themselves are read again only if their file was modified after the metadata were written, because they were durable before.
    Objects behind a URL appear complete and never change, so they are not read again.

    Args:
        stack: to look for.
        folder: output folder.
        log: method of a logger, for what is wrong with a stack that is there but not complete.
    """
    paths = StackPaths(folder, stack.counter)
    problem: Exception | None = None
    for attempt in ("", LEFTOVER):
        try:
            receipt = _receipt_of_attempt(stack, paths, attempt)
        except (CryolikeError, LookupError, TypeError, ValueError, OSError) as error:
            problem = problem or error
            continue
        if receipt is not None:
            return receipt
    if problem is not None:
        missing = isinstance(problem, FileNotFoundError) and problem.filename
        log("Stack %06d is not complete (%s); making it again.", stack.counter, f"{missing} is missing" if missing else problem)
    return None


def _receipt_of_attempt(stack: StackPlan, paths: StackPaths, attempt: str) -> StackReceipt | None:
    """The receipt of the stack if this attempt ('' for the published one) left it complete; None if there is no such attempt.

    Raises:
        CryolikeError, LookupError, TypeError, ValueError, OSError: a file is damaged or missing.
    """
    metadata_path = _path_of_attempt(paths.metadata, attempt)
    if not metadata_path.exists():
        return None
    check_archive(metadata_path, "the metadata of a stack")
    metadata = read_metadata(metadata_path)
    if str(metadata["fingerprint"]) != stack.fingerprint or int(metadata["stack"]) != stack.counter:
        return None
    written = metadata_path.stat()
    arrays = arrays_of_stack(len(stack), stack.descriptor, stack.settings.save_phys)
    crcs = {array: int(metadata[f"{array}_crc32"]) for array in arrays}
    if stack.settings.output_format == "zarr":
        n_bytes = written.st_size + _check_shards(stack, paths.folder, arrays, crcs, written.st_mtime_ns)
    else:
        n_bytes = written.st_size
        for array, final in {"fourier": paths.fourier, "phys": paths.physical}.items():
            if array in arrays:
                path = _path_of_attempt(final, attempt)
                status = path.stat()
                check_tensor_file(path, *arrays[array], crcs[array], read_data=status.st_mtime_ns > written.st_mtime_ns)
                n_bytes += status.st_size
    warnings = tuple(f"{stack.where(i)} is bad: {WRITTEN_AS_ZEROS}" for i in metadata["zeroed"].tolist())
    return StackReceipt(
        stack.counter,
        len(stack),
        n_bytes,
        crcs["fourier"],
        crcs.get("phys", -1),
        mean_power=float(metadata["power_spectrum"].mean()),
        warnings=warnings,
        kept=True,
        attempt=attempt,
    )


def _check_shards(stack: StackPlan, folder: Path, arrays: Arrays, crcs: dict[str, int], written_ns: int) -> int:
    """The size of a stack's shards in bytes, after a check that they are complete."""
    store = open_object_store(store_location(stack.settings, folder))
    n_bytes = 0
    for array, (shape, dtype) in arrays.items():
        name = shard_name(array, stack.counter)
        image_bytes = int(np.prod(shape[1:])) * dtype.itemsize
        n_bytes += check_shard(store, name, len(stack), stack.settings.batch_size, image_bytes)
        touched = store.changed_ns(name) > written_ns
        if touched and checksum_of_images(store, name, len(stack) * image_bytes) != crcs[array]:
            raise InputError(f"{name} is damaged: its checksum does not fit its data")
    return n_bytes


def _path_of_attempt(final: Path, attempt: str) -> Path:
    """The path of a file while its attempt is being published: its staged name, or its final name."""
    staged = staged_name(final, attempt)
    return staged if attempt and staged.exists() else final
