"""A conversion as one Zarr v3 group: the images of all stacks, their metadata in columns, and how many of them count.

    particles.zarr
      attributes["cryolike_dask"]   identity, fingerprint, committed_stacks, committed_images, status ...
      fourier (n, n_shells, n_inplanes)   phys (n, n_x, n_y)        a shard is a stack
      defocusU, defocusV ... (n,)         CryoLike's names and units, one value an image
      files (n_files,)                    `file` points here

Shards appear in any order, the columns at the beginning; what counts is committed in the order of the stacks. Only the first
`committed_images` are complete. `open_store` shows just these.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cryolike_dask import __version__
from cryolike_dask.errors import InputError, OutputError, OutputExistsError
from cryolike_dask.filesystem.pinned import temporary_folder
from cryolike_dask.planning.plan import Plan
from cryolike_dask.settings import store_location
from cryolike_dask.stacks.metadata import ORIGINS, defocus_for_ctf
from cryolike_dask.stacks.object_store import ObjectStore, open_object_store
from cryolike_dask.stacks.zarr_shard import images_per_inner_chunk, shard_bytes

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
    """A Zarr array has shards of one size and a store has one descriptor.

    Raises:
        InputError: the plan's stacks differ.
    """
    sizes = plan.stack_sizes()
    if (sizes[:-1] != plan.settings.batch_size).any() or (plan.pixel_size != plan.pixel_size[0]).any():
        raise InputError(
            "output_format='zarr' needs stacks of one size and one pixel size, but here stacks end where files, optics groups or sources "
            "change. Convert the groups separately, each to its own store, or choose output_format='pt' (--format pt)."
        )


def check_store(plan: Plan, folder: Path) -> None:
    """Whether a store may be created, continued or replaced where this plan wants it, as the settings say.

    Raises:
        OutputError: something else is there.
    """
    location = store_location(plan.settings, folder)
    store = open_object_store(location)
    existing = store_attributes(store)
    if existing is None and not store.is_empty():
        raise OutputExistsError(f"{location} holds something that is no conversion. Choose another place.")
    if existing is not None and not _continues(existing, plan) and not plan.settings.overwrite:
        raise OutputExistsError(
            f"{location} holds a conversion already. Choose another place, or replace it (overwrite=True, --overwrite)."
        )


def _continues(existing: dict[str, Any], plan: Plan) -> bool:
    return existing.get("fingerprint") == plan.fingerprint and plan.settings.skip_exist


def begin_store(plan: Plan, folder: Path, n_kept: int) -> None:
    """Create the store, or make an interrupted run's ready to go on.

    Args:
        plan: of the run.
        folder: output folder.
        n_kept: leading stacks that are complete.

    Raises:
        OutputError: something else is there.
    """
    check_store(plan, folder)
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
    }
    if existing is None or not _continues(existing, plan):
        store.clear()
        _write_store_attributes(store, attributes)
    # Made on the disk and copied: Zarr asks an object store many questions about an array that it creates.
    with temporary_folder() as local:
        _create_arrays(plan, str(local))
        # But for the group's own description, which must never be without its attributes.
        for path in sorted(path for path in local.glob("*/**/*") if path.is_file()):
            store.write(path.relative_to(local).as_posix(), path.read_bytes())
    _write_store_attributes(store, attributes)


def _create_arrays(plan: Plan, folder: str) -> None:
    """All arrays of the store as Zarr makes them, those of the images empty."""
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
    for name, values in _columns(plan).items():
        column = group.create_array(name, shape=values.shape, chunks=(min(len(values), _COLUMN_CHUNK),), dtype=values.dtype)
        column[:] = values
    # A name that is no UTF-8 cannot be text there.
    names = [name.encode("utf-8", "backslashreplace").decode() for name in plan.table.files]
    files = group.create_array("files", shape=(len(names),), dtype=str)
    files[:] = np.array(names, dtype=object)


def remove_store(location: str) -> None:
    """Remove the store of a conversion, if there is one."""
    store = open_object_store(location)
    if store_attributes(store) is not None:
        store.clear()


def commit(location: str, n_stacks: int, n_images: int, status: str = "running") -> None:
    """Let this many stacks count. Fewer than already count are left alone.

    Args:
        location: path or URL of the store.
        n_stacks, n_images: that are complete, all before them included.
        status: 'running' or 'complete'.
    """
    store = open_object_store(location)
    attributes = store_attributes(store)
    if attributes is None:
        raise OutputError(f"{location} was removed while a conversion wrote to it.")
    attributes["committed_stacks"] = max(n_stacks, attributes["committed_stacks"])
    attributes["committed_images"] = max(n_images, attributes["committed_images"])
    attributes["status"] = status
    _write_store_attributes(store, attributes)


def committed_images(location: str) -> int | None:
    """How many images of a store count; None if there is no store."""
    attributes = store_attributes(open_object_store(location))
    return None if attributes is None else int(attributes["committed_images"])


def shard_name(array: str, counter: int) -> str:
    """The object that holds a stack's images: array is 'fourier' or 'phys'."""
    return f"{array}/c/{counter}/0/0"


def has_shard(location: str, array: str, counter: int, n_images: int, images_per_shard: int, image_bytes: int) -> bool:
    """Whether a stack's shard is there, of the right size."""
    return open_object_store(location).size(shard_name(array, counter)) == shard_bytes(n_images, images_per_shard, image_bytes)


def read_images(
    location: str, array: str, counter: int, shape: tuple[int, ...], dtype: np.dtype[Any], first: int = 0
) -> npt.NDArray[Any]:
    """Images of one stack, (n, ...), from the image `first` on.

    Raises:
        InputError: they are not there.
    """
    image_bytes = int(np.prod(shape[1:])) * dtype.itemsize
    name = shard_name(array, counter)
    try:
        content = open_object_store(location).read(name, first * image_bytes, shape[0] * image_bytes)
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{location}/{name} does not exist, though its stack should be complete.") from None
    if len(content) != shape[0] * image_bytes:
        raise InputError(f"{location}/{name} is cut off.")
    return np.frombuffer(content, dtype=dtype).reshape(shape)


def _columns(plan: Plan) -> dict[str, npt.NDArray[Any]]:
    """(n,) each; what no particle states is left out."""
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
    """What a store says of itself; None if there is no store of a conversion."""
    try:
        group = json.loads(store.read("zarr.json"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    attributes = group.get("attributes", {}).get(_ATTRIBUTES)
    return attributes if isinstance(attributes, dict) else None


def _write_store_attributes(store: ObjectStore, attributes: dict[str, Any]) -> None:
    group = {"zarr_format": 3, "node_type": "group", "attributes": {_ATTRIBUTES: attributes}}
    store.write("zarr.json", json.dumps(group, indent=1).encode())
