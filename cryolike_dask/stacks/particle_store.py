"""A Zarr store of a conversion, read back lazily."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cryolike_dask.errors import CryolikeError, InputError
from cryolike_dask.filesystem.reading import existing_folder
from cryolike_dask.formatting import array_kind, entry, plural
from cryolike_dask.html import render
from cryolike_dask.metadata.image_descriptor import ImageDescriptor
from cryolike_dask.settings import ZARR_NAME, is_url
from cryolike_dask.stacks.checksums import is_sealed
from cryolike_dask.stacks.metadata import EXCHANGED
from cryolike_dask.stacks.object_store import open_object_store
from cryolike_dask.stacks.zarr_store import COLUMNS, store_attributes


@dataclass(frozen=True, repr=False)
class ParticleStore:
    """The complete stacks of a Zarr store, read lazily.

    Args:
        location: path or URL.
        descriptor: grids and precision.
        fourier: (n, n_shells, n_inplanes) `dask.array`, one block per stack.
        physical: (n, n_x, n_y) float32 `dask.array`; None if it was not saved.
        columns: (n,) `dask.array` each, by CryoLike's names, such as 'defocusU'; units as in its `.npz`.
        files: paths of the image files; `columns['file']` contains positions in this list.
        complete: whether all stacks of the run are there.
        fingerprint: of the run.
        identity: settings, descriptor, particles and sources of the run.
        images_per_stack: number of images of each stack but the last, which may have fewer.
    """

    location: str
    descriptor: ImageDescriptor
    fourier: Any
    physical: Any
    columns: dict[str, Any]
    files: tuple[str, ...]
    complete: bool
    fingerprint: str
    identity: dict[str, Any]
    images_per_stack: int

    def __len__(self) -> int:
        return int(self.fourier.shape[0])

    def __repr__(self) -> str:
        lines = [entry(name, text, 10) for name, text in self._parts().items()]
        return "\n".join([f"<ParticleStore: {self._summary()}>", *lines])

    def _repr_html_(self) -> str:
        return render("table", caption=f"ParticleStore: {self._summary()}", rows=self._parts(), warnings=None)

    def _summary(self) -> str:
        return plural(len(self), "image") + ("" if self.complete else ", of a run that is not complete")

    def _parts(self) -> dict[str, str]:
        return {
            "location": self.location,
            "fourier": array_kind(self.fourier),
            "physical": "not saved" if self.physical is None else array_kind(self.physical),
            "columns": ", ".join(self.columns),
        }


def open_store(location: str | Path) -> ParticleStore:
    """Open the Zarr store of a conversion by its path or URL, or by the output folder that holds it.

    Raises:
        InputError: there is no such store, or it cannot be read.

    Example:
        >>> from cryolike_dask import restack
        >>> report = restack("converted", "as_zarr", output_format="zarr")
        >>> store = open_store("as_zarr")
        >>> store.fourier.shape
        (12, 17, 32)
    """
    import dask.array as da
    import zarr

    resolved = (
        str(location) if is_url(str(location)) else str(existing_folder(location, "a Zarr store, or the folder that holds it"))
    )
    attributes = _attributes_of(resolved)
    if attributes is None:
        resolved = f"{resolved}/{ZARR_NAME}"
        attributes = _attributes_of(resolved)
    if attributes is None:
        raise InputError(f"{location} holds no Zarr store of a conversion: give the store, or the folder that holds it.")
    if not is_sealed(attributes):
        raise InputError(
            f"{resolved}/zarr.json is damaged: its checksum does not fit. If the store is in its output folder, run the conversion again "
            "with skip_exist=True (--skip-exist), which writes the file again."
        )
    group = zarr.open_group(resolved, mode="r", zarr_format=3)
    names: Any = group["files"]
    n = attributes["committed_images"]

    def lazy_array(name: str) -> Any:
        array: Any = group[name]
        return da.from_zarr(array, chunks=array.shards or array.chunks)[:n]

    return ParticleStore(
        location=resolved,
        descriptor=ImageDescriptor.from_dict(attributes["identity"]["descriptor"]),
        fourier=lazy_array("fourier"),
        physical=lazy_array("phys") if "phys" in group else None,
        columns={name: lazy_array(name) for name in (*COLUMNS, EXCHANGED) if name in group},
        files=tuple(str(name) for name in np.asarray(names[:]).tolist()),
        complete=attributes["status"] == "complete",
        fingerprint=attributes["fingerprint"],
        identity=attributes["identity"],
        images_per_stack=attributes["images_a_stack"],
    )


def _attributes_of(location: str) -> dict[str, Any] | None:
    """As `store_attributes`. A place that cannot be read is wrong input."""
    try:
        return store_attributes(open_object_store(location))
    except CryolikeError:
        raise
    except OSError as error:
        what = str(error) if location in str(error) else f"{location} cannot be read ({error})"
        raise InputError(f"{what}. Check the address, and whether you may read it.") from error
