"""A conversion as one Zarr v3 group: the images of all stacks, their metadata in columns, and the number of complete images.

particles.zarr
  attributes["cryolike_dask"]   identity, fingerprint, committed_stacks, committed_images, status, checksums of the columns .
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cryolike_dask import __version__
from cryolike_dask.errors import InputError, OutputError, OutputExistsError
from cryolike_dask.filesystem.pinned import temporary_folder
from cryolike_dask.planning.plan import Plan
from cryolike_dask.settings import store_location
from cryolike_dask.stacks.checksums import crc32, is_sealed, seal
from cryolike_dask.stacks.metadata import ORIGINS, defocus_for_ctf
from cryolike_dask.stacks.object_store import ObjectStore, open_object_store
from cryolike_dask.stacks.zarr_shard import images_per_inner_chunk

_ATTRIBUTES = "cryolike_dask"
_COLUMN_CHUNK = 65_536
COLUMNS = {
    "defocusU": "defocus_u",
    "defocusV": "defocus_v",
    "defocusAngle": "defocus_angle",
    "phaseShift": "phase_shift",
    "sphericalAberration": "spherical_aberration",
    "voltage": "voltage",
    "amplitudeContrast": "amplitude_contrast",
    "ctfBfactor": "b_factor",
    "ctfScalefactor": "scale_factor",
    "angleRotation": "angle_rotation",
    "angleTilt": "angle_tilt",
    "anglePsi": "angle_psi",
    **ORIGINS,
    "ref_pixel_size": "pixel_size",
    "sign": "sign",
    "uid": "uid",
    "file": "file",
    "idxs": "index",
    "top": "top",
    "left": "left",
    "source": "source",
    "row": "row",
}


def check_equal_stacks(plan: Plan) -> None:
    """Check that all stacks of a plan fit into one store, because a Zarr array has shards of one size, and a store has one descriptor.

    Raises:
        InputError: the plan's stacks differ.
    """
    sizes = plan.stack_sizes()
    if (sizes[:-1] != plan.settings.batch_size).any() or (plan.pixel_size != plan.pixel_size[0]).any():
        raise InputError(
            "output_format='zarr' needs stacks of one size and one pixel size, but here stacks end where files, optics groups or sources "
            "change. Convert the groups separately, each to its own store, or choose output_format='pt' (--format pt)."
        )


def check_store(plan: Plan, folder: Path, continues: bool) -> None:
    """Check that this plan may create, continue or replace its store, as the settings say.

    Args:
        plan: of the run.
        folder: output folder.
        continues: whether the folder holds a part of this run.

    Raises:
        OutputError: the store holds something else.
    """
    location = store_location(plan.settings, folder)
    store = open_object_store(location)
    existing = store_attributes(store)
    if continues and not plan.settings.zarr_store and not (existing and is_sealed(existing)):
        # The store in the folder belongs to the run of the folder, and each shard is checked anyway, so the attributes of the store may be
        # missing or damaged: they are written again.
        return
    if existing is None and not store.is_empty():
        raise OutputExistsError(f"{location} holds something other than a conversion. Choose another location.")
    if existing is not None and not _continues(existing, plan) and not plan.settings.overwrite:
        raise OutputExistsError(
            f"{location} holds a conversion already. Choose another location, or replace it (overwrite=True, --overwrite)."
        )


def _continues(existing: dict[str, Any], plan: Plan) -> bool:
    return existing.get("fingerprint") == plan.fingerprint and plan.settings.skip_exist


def begin_store(plan: Plan, folder: Path, n_kept: int, continues: bool) -> None:
    """Create the store, or prepare that of an interrupted run for continuing. Everything in it but the images is written again.

    Args:
        plan: of the run.
        folder: output folder.
        n_kept: number of complete stacks from stack 0 on.
        continues: whether the folder holds a part of this run.

    Raises:
        OutputError: the store holds something else.
    """
    check_store(plan, folder, continues)
    store = open_object_store(store_location(plan.settings, folder))
    existing = store_attributes(store)
    attributes = {
        "version": __version__,
        "fingerprint": plan.fingerprint,
        "identity": plan.identity,
        "n_images": plan.n_images,
        "n_stacks": plan.n_stacks,
        "images_a_stack": plan.settings.batch_size,
        "committed_stacks": n_kept,
        "committed_images": int(plan.bounds[n_kept - 1, 1]) if n_kept else 0,
        "status": "running",
        "arrays": {},
    }
    if existing is None or not _continues(existing, plan):
        if not continues:
            _clear(store)
        _write_store_attributes(store, attributes)
    # Created on the local disk and copied, because Zarr sends many requests to an object store when it creates an array.
    with temporary_folder() as local:
        n_chunks = _create_arrays(plan, str(local))
        made = open_object_store(str(local))
        attributes["arrays"] = {name: [n, _checksum_of_array(made, name, n)] for name, n in n_chunks.items()}
        # All but the description of the group, which must never exist without its attributes.
        for path in sorted(path for path in local.glob("*/**/*") if path.is_file()):
            store.write(path.relative_to(local).as_posix(), path.read_bytes())
    _write_store_attributes(store, attributes)


def _create_arrays(plan: Plan, folder: str) -> dict[str, int]:
    """Create all arrays of the store with Zarr, those of the images empty. Returns the number of chunks of each column; 0 for images."""
    import zarr

    group = zarr.create_group(folder, zarr_format=3)
    images_per_shard = plan.settings.batch_size
    grid, n = plan.descriptor.polar_grid, plan.n_images
    images = {"fourier": ((grid.n_shells, grid.n_inplanes), plan.descriptor.complex_dtype)}
    if plan.settings.save_phys:
        images["phys"] = (plan.descriptor.n_pixels, np.dtype(np.float32))
    for name, (shape, dtype) in images.items():
        images_per_chunk = images_per_inner_chunk(images_per_shard, int(np.prod(shape)) * dtype.itemsize)
        group.create_array(
            name,
            shape=(n, *shape),
            shards=(images_per_shard, *shape),
            chunks=(images_per_chunk, *shape),
            dtype=dtype,
            compressors=None,
            filters=None,
            fill_value=0,
            dimension_names=["image", "shell", "inplane"] if name == "fourier" else ["image", "x", "y"],
        )
    n_chunks = dict.fromkeys(images, 0)
    # Zarr's text is UTF-8, which some names of files are not.
    names = [name.encode("utf-8", "backslashreplace").decode() for name in plan.table.files]
    for name, values in (_columns(plan) | {"files": np.array(names, dtype=object)}).items():
        kind: Any = str if values.dtype == object else values.dtype
        column = group.create_array(name, shape=values.shape, chunks=(min(len(values), _COLUMN_CHUNK),), dtype=kind)
        column[:] = values
        n_chunks[name] = -(-len(values) // _COLUMN_CHUNK)
    return n_chunks


def _checksum_of_array(store: ObjectStore, name: str, n_chunks: int) -> int:
    """CRC-32 of the metadata of an array and of the first `n_chunks` chunks, as stored, each with its name before it."""
    crc = 0
    for part in ("zarr.json", *(f"c/{chunk}" for chunk in range(n_chunks))):
        # Zarr does not write chunks that contain only the fill value.
        with suppress(FileNotFoundError, NotADirectoryError):
            content = store.read(f"{name}/{part}")
            crc = crc32(content, crc32(part.encode(), crc))
    return crc


def remove_store(location: str) -> None:
    """Remove the store of a conversion, if there is one."""
    store = open_object_store(location)
    if store_attributes(store) is not None:
        _clear(store)


def _clear(store: ObjectStore) -> None:
    """Set the number of complete images to 0 first, then remove everything."""
    attributes = store_attributes(store)
    if attributes is not None:
        _write_store_attributes(store, attributes | {"committed_stacks": 0, "committed_images": 0, "status": "running"})
    store.clear(last="zarr.json")


def commit(location: str, n_stacks: int, n_images: int, status: str = "running") -> None:
    """Set the number of complete stacks, unless it is already larger.

    Args:
        location: path or URL of the store.
        n_stacks, n_images: numbers of complete stacks and images from the first on.
        status: 'running' or 'complete'.
    """
    store = open_object_store(location)
    attributes = store_attributes(store)
    if attributes is None or not is_sealed(attributes):
        raise OutputError(f"{location} was removed or damaged while a conversion wrote to it.")
    attributes["committed_stacks"] = max(n_stacks, attributes["committed_stacks"])
    attributes["committed_images"] = max(n_images, attributes["committed_images"])
    attributes["status"] = status
    _write_store_attributes(store, attributes)


def store_problems(location: str, fingerprint: str, n_images: int) -> Iterator[str]:
    """The problems of a store, without those of its shards.

    Args:
        location: path or URL of the store.
        fingerprint: of the run to which it should belong.
        n_images: number of images that should be committed.
    """
    store = open_object_store(location)
    attributes = store_attributes(store)
    if attributes is None:
        yield f"{location}/zarr.json is missing or damaged"
        return
    if store.read("zarr.json") != _group(attributes):
        yield f"{location}/zarr.json is damaged: its content has changed, or its checksum does not fit"
        return
    if attributes["fingerprint"] != fingerprint:
        yield f"{location} was made by another run"
    if attributes["committed_images"] != n_images:
        yield f"{location} states that {attributes['committed_images']} images are complete, but {n_images} are"
    for name, (n_chunks, crc) in attributes["arrays"].items():
        try:
            is_whole = _checksum_of_array(store, name, n_chunks) == crc
        except OSError as error:
            yield f"{location}/{name} cannot be read ({error.strerror or error})"
            continue
        if not is_whole:
            yield f"{location}/{name} is damaged: its {'values or its ' if n_chunks else ''}metadata have changed"


def _columns(plan: Plan) -> dict[str, npt.NDArray[Any]]:
    """(n,) each; columns without any value are left out."""
    rows = plan.table.rows
    boxes = any(source.boxes for source in plan.table.sources)
    columns = {}
    for name, column in COLUMNS.items():
        values = rows[column]
        if values.dtype.kind == "f" and np.isnan(values).all():
            continue
        if (name in ("uid", "sign") and not values.any()) or (name in ("top", "left") and not boxes):
            continue
        columns[name] = np.ascontiguousarray(values)
    return columns | defocus_for_ctf(rows)


def store_attributes(store: ObjectStore) -> dict[str, Any] | None:
    """The attributes of a store; None if there is no store of a conversion. `is_sealed` checks that they have not changed."""
    try:
        group = json.loads(store.read("zarr.json"))
        attributes = group["attributes"][_ATTRIBUTES]
    except (FileNotFoundError, NotADirectoryError, ValueError, LookupError, TypeError, RecursionError):
        return None
    return attributes if isinstance(attributes, dict) else None


def _write_store_attributes(store: ObjectStore, attributes: dict[str, Any]) -> None:
    store.write("zarr.json", _group(attributes))


def _group(attributes: dict[str, Any]) -> bytes:
    group = {"zarr_format": 3, "node_type": "group", "attributes": {_ATTRIBUTES: seal(attributes)}}
    return json.dumps(group, indent=1).encode()
