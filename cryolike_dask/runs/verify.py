"""Checking an output folder: is everything there, in order, undamaged and what it claims to be?"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cryolike_dask.errors import CryolikeError, InputError
from cryolike_dask.formatting import is_or_are, plural
from cryolike_dask.metadata.image_descriptor import ImageDescriptor
from cryolike_dask.runs.deep_check import differences_from_source
from cryolike_dask.runs.manifest import MANIFEST, read_manifest
from cryolike_dask.runs.templates import differences_from_templates, open_templates
from cryolike_dask.settings import ZARR_NAME
from cryolike_dask.stacks.checksums import crc32
from cryolike_dask.stacks.files import (
    StackPaths,
    UnnamedStoreError,
    load_tensor,
    named_store,
    published_counters,
    read_metadata,
    zarr_location,
)
from cryolike_dask.stacks.object_store import open_object_store
from cryolike_dask.stacks.tensor_file import checksum_of_data, read_layout
from cryolike_dask.stacks.zarr_store import committed_images

_NORM_TOLERANCE = {"single": 1e-5, "double": 1e-12}
_CHUNK_BYTES = 32 << 20


def verify_output(
    folder: str | Path, deep: bool = False, templates: str | Path | None = None, *, zarr_store: str = ""
) -> list[str]:
    """Everything that is wrong with an output folder.

    Checks completeness and order of the stacks, their fingerprint, checksums, shapes, finiteness, the norm 1 of each image, and the
    metadata against the tensors.

    Args:
        folder: output folder of a conversion.
        deep: also make a random sample of images again from their source, independently of how they were made.
        templates: also compare grids, pixel size and precision with those of CryoLike's templates: their folder, or the parameter file
            that they were made with.
        zarr_store: path or URL of the Zarr store of the run, if it is not in the folder: see `load_stack`.

    Returns:
        One line a problem; empty when all is well.

    Raises:
        InputError: the folder holds no conversion, its store is outside it and was not named, or the parameters of the templates cannot be
            read.
    """
    root = Path(folder).expanduser().resolve()
    compared = None if templates is None else open_templates(templates)
    manifest = read_manifest(root)
    counters = published_counters(root)
    if manifest is None and not counters:
        raise InputError(f"{root} holds no conversion: there is no {MANIFEST} and no stack in it.")
    problems = list(_run_problems(root, manifest, counters))
    recorded = {stack["counter"]: stack for stack in (manifest or {}).get("stacks", [])}
    for counter in counters:
        problems.extend(_stack_problems(StackPaths(root, counter), manifest, recorded.get(counter), zarr_store))
    if manifest is not None and manifest["identity"]["settings"].get("output_format") == "zarr":
        store = named_store(manifest["identity"]["settings"]["zarr_store"] or ZARR_NAME, root, zarr_store)
        problems.extend(_commit_problems(store, sum(stack["n_images"] for stack in recorded.values())))
    if deep and not problems and manifest is not None:
        problems.extend(differences_from_source(root, manifest, counters, zarr_store=zarr_store))
    if compared is not None:
        problems.extend(differences_from_templates(compared, root))
    return problems


def _run_problems(root: Path, manifest: dict[str, Any] | None, counters: list[int]) -> Iterator[str]:
    if manifest is None:
        yield f"{root / MANIFEST} is missing"
        return
    if manifest.get("status") != "complete":
        yield f"the run is {manifest.get('status')}: {len(counters)} of {manifest.get('n_stacks')} stacks are there"
    wanted = list(range(int(manifest.get("n_stacks", 0))))
    missing = sorted(set(wanted) - set(counters))
    if missing:
        yield f"{plural(len(missing), 'stack')} {is_or_are(len(missing))} missing, the first is {missing[0]:06d}"
    for counter in sorted(set(counters) - set(wanted)):
        yield f"stack {counter:06d} does not belong to this run"
    for subfolder, kind in (("fft", "fourier"), ("phys", "phys")):
        for path in (root / subfolder).glob(f"particles_{kind}_stack_*.pt"):
            if path.stem.rsplit("_", 1)[1].isdigit() and int(path.stem.rsplit("_", 1)[1]) not in counters:
                yield f"{path} belongs to no complete stack"


def _stack_problems(
    paths: StackPaths, manifest: dict[str, Any] | None, recorded: dict[str, Any] | None, zarr_store: str
) -> Iterator[str]:
    name = f"stack {paths.counter:06d}"
    try:
        metadata = read_metadata(paths.metadata)
        descriptor = ImageDescriptor.from_dict(metadata)
        n = int(metadata["n_images"])
        grid = descriptor.polar_grid
        if manifest is not None and str(metadata["fingerprint"]) != manifest.get("fingerprint"):
            yield f"{name} was made by another run"
        if recorded is not None and recorded["n_images"] != n:
            yield f"{name} holds {plural(n, 'image')}, the manifest says {recorded['n_images']}"
        yield from _column_problems(name, metadata, n)
        tensors = [(paths.fourier, "fourier_crc32", (n, grid.n_shells, grid.n_inplanes), descriptor.complex_dtype)]
        if int(metadata["phys_crc32"]) >= 0:
            tensors.append((paths.physical, "phys_crc32", (n, *descriptor.n_pixels), np.dtype(np.float32)))
        store = zarr_location(paths, metadata, zarr_store)
        for path, key, shape, dtype in tensors:
            array = key.removesuffix("_crc32")
            crc = int(metadata[key])
            tensor = _load_from_store(store, array, paths.counter, n, crc) if store else _load_from_file(path, crc)
            if isinstance(tensor, str):
                yield f"{name}: {f'{store}/{array}' if store else path} {tensor}"
                continue
            if recorded is not None and recorded[key] != int(metadata[key]):
                yield f"{name}: the checksum of {path} differs from the manifest's"
            if tuple(tensor.shape) != shape or tensor.numpy().dtype != dtype:
                yield f"{name}: {path} holds {tensor.dtype} of shape {tuple(tensor.shape)}, its metadata say {dtype} {shape}"
            elif key == "fourier_crc32":
                yield from _fourier_problems(name, tensor, descriptor, set(metadata["zeroed"].tolist()))
            else:
                yield from _physical_problems(name, tensor)
    except KeyError as error:
        yield f"{name}: {paths.metadata} lacks {error.args[0]}"
    except UnnamedStoreError:
        raise
    except CryolikeError as error:
        yield f"{name}: {error}"


def _column_problems(name: str, metadata: dict[str, np.ndarray], n: int) -> Iterator[str]:
    for key in ("defocusU", "defocusV", "defocusAngle", "phaseShift", "files", "idxs", "row"):
        if metadata[key].shape != (n,):
            yield f"{name}: {key} has shape {metadata[key].shape}, not ({n},)"
        elif metadata[key].dtype.kind == "f" and not np.isfinite(metadata[key]).all():
            yield f"{name}: {key} has values that are not finite"


def _load_from_store(store: str, array: str, counter: int, n: int, crc: int) -> torch.Tensor | str:
    """A stack's images as any reader of Zarr gets them, or what is wrong with them."""
    import zarr

    try:
        open_object_store(store)  # refuses addresses of other kinds
        images: Any = zarr.open_group(store, mode="r", zarr_format=3)[array]
        first = counter * images.shards[0]
        values = np.ascontiguousarray(images[first : first + n])
    except (OSError, KeyError, ValueError) as error:
        return f"cannot be read ({error})"
    if crc32(values.view(np.uint8).reshape(-1)) != crc:
        return "is damaged: its checksum does not fit its data"
    return torch.from_numpy(values)


def _load_from_file(path: Path, crc: int) -> torch.Tensor | str:
    return _find_damage(path, crc) or load_tensor(path)


def _commit_problems(store: str, n_images: int) -> Iterator[str]:
    found = committed_images(store)
    if found != n_images:
        yield f"{store} counts {found or 0} images, but {n_images} are complete"


def _find_damage(path: Path, crc: int) -> str:
    try:
        layout = read_layout(path)
        if layout.crc != crc:
            return "carries another checksum than its metadata"
        if checksum_of_data(path, layout) != crc:
            return "is damaged: its checksum does not fit its data"
    except FileNotFoundError:
        return "is missing"
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        return f"is damaged ({error})"
    return ""


def _physical_problems(name: str, physical: torch.Tensor) -> Iterator[str]:
    at_once = max(1, _CHUNK_BYTES // (physical[0].numel() * physical.element_size()))
    for first in range(0, len(physical), at_once):
        finite = torch.isfinite(physical[first : first + at_once]).all(dim=(1, 2))
        for i in torch.nonzero(~finite).flatten().tolist():
            yield f"{name}: physical image {first + i} has values that are not finite"


def _fourier_problems(name: str, fourier: torch.Tensor, descriptor: ImageDescriptor, zeroed: set[int]) -> Iterator[str]:
    weights = torch.from_numpy(descriptor.polar_grid.shell_weights)
    at_once = max(1, _CHUNK_BYTES // (fourier[0].numel() * fourier.element_size()))
    for first in range(0, len(fourier), at_once):
        chunk = fourier[first : first + at_once]
        power = (torch.view_as_real(chunk).to(torch.float64) ** 2).sum(dim=(2, 3))  # (k, n_shells)
        norms = (power @ weights).sqrt()
        for i, norm in enumerate(norms.tolist()):
            if first + i in zeroed:
                if norm != 0:
                    yield f"{name}: image {first + i} has norm {norm:g}, its metadata say that it is all zero"
            elif not abs(norm - 1) <= _NORM_TOLERANCE[descriptor.precision]:
                what = f"has norm {norm:g} instead of 1" if norm else "is all zero"
                yield f"{name}: image {first + i} {what}"
