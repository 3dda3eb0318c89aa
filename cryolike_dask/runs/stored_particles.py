"""Particles of an earlier conversion, read back from its stacks: the table, and the images, one stack at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cryolike_dask.errors import InputError, lost_file_error
from cryolike_dask.filesystem.reading import existing_folder
from cryolike_dask.metadata.image_descriptor import ImageDescriptor
from cryolike_dask.mrc.boxes import BoxCut
from cryolike_dask.particles.table import ParticleTable, Source, new_rows
from cryolike_dask.runs.manifest import read_manifest
from cryolike_dask.settings import ZARR_NAME, is_url
from cryolike_dask.stacks.files import MANIFEST, StackPaths, read_metadata
from cryolike_dask.stacks.loading import load_stack
from cryolike_dask.stacks.metadata import EXCHANGED, ORIGINS, PER_IMAGE, SCALARS, restore_defocus
from cryolike_dask.stacks.particle_store import open_store
from cryolike_dask.stacks.zarr_shard import read_images
from cryolike_dask.stacks.zarr_store import COLUMNS

Images = tuple[npt.NDArray[Any], npt.NDArray[np.float32] | None]


@dataclass(frozen=True)
class StoredParticles:
    """The particles and images of an earlier conversion.

    Args:
        table: the particles in the order of the stacks.
        descriptor: of the images, apart from pixel sizes that differ between stacks.
        pixel_size: (n,) Å of each image.
        stack_ends: (n_stacks,) the row after the last of each stack.
        zeroed: (n,) whether the image is a bad one that was written as zeros; None for a Zarr store, which does not record it.
        identity: of the run, see `Plan.identity`.
        has_physical: whether there are images in real space, too.
        read: returns the Fourier images of a stack, (k, n_shells, n_inplanes), and those in real space, (k, n_x, n_y), or None.
    """

    table: ParticleTable
    descriptor: ImageDescriptor
    pixel_size: npt.NDArray[np.float64]
    stack_ends: npt.NDArray[np.int64]
    zeroed: npt.NDArray[np.bool_] | None
    identity: dict[str, Any]
    has_physical: bool
    read: Callable[[int], Images]


def open_particles(source: str | Path) -> StoredParticles:
    """The particles in an output folder, or in the Zarr store at a path or URL.

    Raises:
        InputError: there are none, or not all of them.
    """
    if is_url(str(source)):
        return _from_store(source)
    folder = existing_folder(source, "the output folder of a conversion, or its Zarr store")
    manifest = read_manifest(folder)
    if manifest is None:
        if not any((folder / name).exists() for name in ("zarr.json", ZARR_NAME)):
            raise InputError(
                f"{folder} holds no conversion: there is neither a {MANIFEST} nor a Zarr store in it. Give the output folder of a "
                "conversion, or its Zarr store."
            )
        return _from_store(source)
    if manifest.get("status") != "complete":
        raise InputError(
            f"{folder} holds a conversion that is {manifest.get('status')}: finish it first (skip_exist, --skip-exist)."
        )
    return _from_folder(folder.resolve(), manifest)


def _from_folder(folder: Path, manifest: dict[str, Any]) -> StoredParticles:
    identity = manifest["identity"]
    sources = _sources(identity)
    number = {source.table: position for position, source in enumerate(sources)}
    files: dict[str, int] = {}
    parts, pixel_size, zeroed = [], [], []
    for counter in range(manifest["n_stacks"]):
        path = StackPaths(folder, counter).metadata
        if not path.exists():
            raise lost_file_error(path)
        metadata = read_metadata(path)
        rows = new_rows(int(metadata["n_images"]))
        for key, column in PER_IMAGE.items():
            if metadata[key].size:
                rows[column] = metadata[key]
        for key, column in SCALARS.items():
            rows[column] = metadata[key]
        if EXCHANGED in metadata:
            restore_defocus(rows, metadata[EXCHANGED])
        rows["file"] = [files.setdefault(name, len(files)) for name in metadata["files"].tolist()]
        rows["index"] = metadata["idxs"]
        rows["row"] = metadata["row"]
        rows["source"] = np.array([number[str(name)] for name in metadata["source_table"]])[metadata["source"]]
        for key, column in (ORIGINS | {name: name for name in ("sign", "uid", "top", "left")}).items():
            if key in metadata:
                rows[column] = metadata[key]
        if metadata["ref_pixel_size"].size:
            rows["pixel_size"] = metadata["ref_pixel_size"][0]
        parts.append(rows)
        pixel_size.append(np.full(len(rows), float(metadata["pixel_size"][0])))
        zeroed.append(np.isin(np.arange(len(rows)), metadata["zeroed"]))

    def read(counter: int) -> Images:
        stack = load_stack(folder, counter)
        return stack.fourier.numpy(), None if stack.physical is None else stack.physical.numpy()

    return StoredParticles(
        table=ParticleTable(np.concatenate(parts), tuple(files), sources),
        descriptor=ImageDescriptor.from_dict(identity["descriptor"]),
        pixel_size=np.concatenate(pixel_size),
        stack_ends=np.cumsum([len(part) for part in parts]),
        zeroed=np.concatenate(zeroed),
        identity=identity,
        has_physical=identity["settings"]["save_phys"],
        read=read,
    )


def _from_store(source: str | Path) -> StoredParticles:
    store = open_store(source)
    if not store.complete:
        raise InputError(f"{source} holds a conversion that is not complete: finish it first (skip_exist, --skip-exist).")
    rows = new_rows(len(store))
    for name, values in store.columns.items():
        if name in COLUMNS:
            rows[COLUMNS[name]] = values.compute()
    if EXCHANGED in store.columns:
        restore_defocus(rows, store.columns[EXCHANGED].compute())
    descriptor, images_per_shard = store.descriptor, store.images_per_stack
    grid = descriptor.polar_grid
    stack_ends = np.append(np.arange(images_per_shard, len(rows), images_per_shard), len(rows))

    def read(counter: int) -> Images:
        n = int(stack_ends[counter]) - counter * images_per_shard
        fourier = read_images(store.location, "fourier", counter, (n, grid.n_shells, grid.n_inplanes), descriptor.complex_dtype)
        if store.physical is None:
            return fourier, None
        return fourier, read_images(store.location, "phys", counter, (n, *descriptor.n_pixels), np.dtype(np.float32))

    return StoredParticles(
        table=ParticleTable(rows, store.files, _sources(store.identity)),
        descriptor=descriptor,
        pixel_size=np.full(len(rows), descriptor.pixel_size[0]),
        stack_ends=stack_ends,
        zeroed=None,
        identity=store.identity,
        has_physical=store.physical is not None,
        read=read,
    )


def _sources(identity: dict[str, Any]) -> tuple[Source, ...]:
    return tuple(
        Source(source["kind"], source["table"], BoxCut(**source["boxes"]) if source["boxes"] else None, tuple(source["notes"]))
        for source in identity["sources"]
    )
