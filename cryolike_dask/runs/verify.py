"""Checks whether an output folder is complete, in order, undamaged, and consistent with its records."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cryolike_dask.errors import CryolikeError, InputError, OutputError
from cryolike_dask.metadata.image_descriptor import ImageDescriptor
from cryolike_dask.progress import Progress, ProgressOption
from cryolike_dask.progress_bars import showing
from cryolike_dask.runs.deep_check import differences_from_source
from cryolike_dask.runs.manifest import read_manifest
from cryolike_dask.runs.templates import differences_from_templates, open_templates
from cryolike_dask.runs.verify_records import (
    ALL_AGAIN,
    MADE_AGAIN,
    Manifest,
    manifest_problems,
    record_problems,
    stack_list_problems,
    with_remedy,
)
from cryolike_dask.stacks.archive import check_archive
from cryolike_dask.stacks.checksums import crc32
from cryolike_dask.stacks.complete import arrays_of_stack, check_tensor_file
from cryolike_dask.stacks.files import MANIFEST, StackPaths, conversion_folder, published_counters, read_metadata
from cryolike_dask.stacks.loading import UnnamedStoreError, zarr_location
from cryolike_dask.stacks.object_store import open_object_store
from cryolike_dask.stacks.zarr_shard import check_shard, shard_name

_NORM_TOLERANCE = {"single": 1e-5, "double": 1e-12}
_CHUNK_BYTES = 32 << 20


def verify_output(
    folder: str | Path,
    deep: bool = False,
    templates: str | Path | None = None,
    *,
    zarr_store: str = "",
    progress: ProgressOption = None,
) -> list[str]:
    """Find all problems of an output folder.

    This checks whether the stacks are complete, in order and of this run; every byte of their files; shapes, finite values, and the norm 1
    of each image; whether metadata fit the tensors; params.npz and particles.star; the columns and metadata of a Zarr store; and the
    manifest, both by itself and against everything else.

    Args:
        folder: output folder of a conversion.
        deep: also convert a random sample of images again from their source, by an independent method.
        templates: also compare grids, pixel size and precision with those of CryoLike's templates: their folder, or the parameter file
            with which they were made.
        zarr_store: path or URL of the Zarr store of the run, if it is not in the folder: see `load_stack`.
        progress: as for `Conversion.run`.

    Returns:
        One line per problem, with its remedy; empty if there is no problem.

    Raises:
        InputError: the folder holds no conversion, its store is outside it and was not named, or the parameters of the templates cannot be
            read.

    Example:
        >>> verify_output("converted", deep=True)
        []
    """
    root = conversion_folder(folder).resolve()
    with showing(progress) as shown:
        return _problems(root, deep, templates, zarr_store, shown)


def _problems(root: Path, deep: bool, templates: str | Path | None, zarr_store: str, progress: Progress) -> list[str]:
    compared = None if templates is None else open_templates(templates)
    counters = published_counters(root)
    manifest, problems = None, []
    try:
        manifest = read_manifest(root)
        if manifest is None:
            problems.append(with_remedy(f"{root / MANIFEST} is missing", ALL_AGAIN))
    except OutputError as error:
        problems.append(with_remedy(str(error).rstrip("."), ALL_AGAIN))
    if manifest is not None:
        problems.extend(manifest_problems(root, manifest, counters))
        problems.extend(stack_list_problems(root, manifest["n_stacks"], counters))
    records = None if manifest is None else _Records.of(manifest)
    for number, counter in enumerate(counters):
        progress.step("Verifying stacks", number, len(counters))
        problems.extend(_stack_problems(StackPaths(root, counter), records, zarr_store))
    if manifest is not None:
        problems.extend(record_problems(root, manifest, zarr_store))
    if deep and not problems and manifest is not None:
        problems.extend(differences_from_source(root, manifest, counters, zarr_store=zarr_store, progress=progress))
    if compared is not None:
        problems.extend(differences_from_templates(compared, root))
    return problems


@dataclass(frozen=True)
class _Records:
    """The records of the stacks in a manifest.

    Args:
        fingerprint: of the run.
        is_complete: whether the run was complete, so that all stacks are recorded.
        stacks: their records, by counter.
        inputs: paths of the image files.
    """

    fingerprint: str
    is_complete: bool
    stacks: dict[int, dict[str, Any]]
    inputs: frozenset[str]

    @classmethod
    def of(cls, manifest: Manifest) -> _Records:
        stacks = {stack["counter"]: stack for stack in manifest["stacks"]}
        inputs = frozenset(file["path"] for file in manifest["inputs"])
        return cls(manifest["fingerprint"], manifest["status"] == "complete", stacks, inputs)


def _stack_problems(paths: StackPaths, records: _Records | None, zarr_store: str) -> Iterator[str]:
    name = f"stack {paths.counter:06d}"
    try:
        metadata = read_metadata(paths.metadata)
        check_archive(paths.metadata, "the metadata of a stack")
        descriptor = ImageDescriptor.from_dict(metadata)
        n = int(metadata["n_images"])
        store = zarr_location(paths, metadata, zarr_store)
        crcs = {array: int(metadata[f"{array}_crc32"]) for array in ("fourier", "phys")}
        n_bytes, is_whole = paths.metadata.stat().st_size, True
        for problem in _metadata_problems(name, metadata, n, records):
            is_whole = False
            yield with_remedy(problem, MADE_AGAIN)
        for array, (shape, dtype) in arrays_of_stack(n, descriptor, crcs["phys"] >= 0).items():
            try:
                if store:
                    tensor, size = _load_from_store(
                        store, shard_name(array, paths.counter), paths.counter, shape, dtype, crcs[array]
                    )
                else:
                    path = paths.fourier if array == "fourier" else paths.physical
                    tensor = check_tensor_file(path, shape, dtype, crcs[array], read_data=True)
                    size = path.stat().st_size
            except InputError as error:
                is_whole = False
                yield with_remedy(f"{name}: {str(error).rstrip('.')}", MADE_AGAIN)
                continue
            n_bytes += size
            zeroed = set(metadata["zeroed"].tolist())
            for problem in _fourier_problems(tensor, descriptor, zeroed) if array == "fourier" else _physical_problems(tensor):
                # The checksum fits, so --skip-exist alone would keep this stack.
                yield with_remedy(f"{name}: {problem}", f"remove {paths.metadata}, then {MADE_AGAIN}")
        if records is not None and is_whole:
            found = {"n_images": n, "n_bytes": n_bytes, "fourier_crc32": crcs["fourier"], "phys_crc32": crcs["phys"]}
            for problem in _differences_from_record(paths.counter, found, records):
                yield with_remedy(f"{name}: {problem}", MADE_AGAIN)
    except UnnamedStoreError:
        raise
    except KeyError as error:
        yield with_remedy(f"{name}: {paths.metadata} lacks {error.args[0]}", MADE_AGAIN)
    except (CryolikeError, LookupError, TypeError, ValueError, AttributeError) as error:
        yield with_remedy(f"{name}: {str(error).rstrip('.')}", MADE_AGAIN)


def _metadata_problems(name: str, metadata: dict[str, np.ndarray], n: int, records: _Records | None) -> Iterator[str]:
    if records is not None:
        if str(metadata["fingerprint"]) != records.fingerprint:
            yield f"{name} was made by another run"
        elif not {str(path) for path in metadata["files"]} <= records.inputs:
            yield f"{name} names image files that are not in {MANIFEST}"
    for key in ("defocusU", "defocusV", "defocusAngle", "phaseShift", "files", "idxs", "row"):
        if metadata[key].shape != (n,):
            yield f"{name}: {key} has shape {metadata[key].shape}, not ({n},)"
        elif metadata[key].dtype.kind == "f" and not np.isfinite(metadata[key]).all():
            yield f"{name}: {key} has values that are not finite"


def _differences_from_record(counter: int, found: dict[str, int], records: _Records) -> Iterator[str]:
    recorded = records.stacks.get(counter)
    if recorded is not None:
        for key, value in found.items():
            if recorded[key] != value:
                yield f"its {key} is {value}, but {MANIFEST} says {recorded[key]}"
    elif records.is_complete:  # a run that was killed has recorded no stacks
        yield f"{MANIFEST} does not list it"


def _load_from_store(
    store: str, name: str, counter: int, shape: tuple[int, ...], dtype: np.dtype[Any], crc: int
) -> tuple[torch.Tensor, int]:
    """A stack's images, read with the Zarr library as by any other reader, and the size of their shard in bytes.

    Raises:
        InputError: the images are damaged or missing.
    """
    import zarr

    array = name.partition("/")[0]
    try:
        objects = open_object_store(store)  # refuses addresses of other kinds
        images: Any = zarr.open_group(store, mode="r", zarr_format=3)[array]
        images_per_shard = images.shards[0]
        size = check_shard(objects, name, shape[0], images_per_shard, int(np.prod(shape[1:])) * dtype.itemsize)
        first = counter * images_per_shard
        values = np.ascontiguousarray(images[first : first + shape[0]])
    except (OSError, LookupError, ValueError, TypeError, AttributeError, RuntimeError, ArithmeticError) as error:
        raise InputError(f"{store}/{array} cannot be read ({error})") from error
    if (values.shape, values.dtype) != (shape, dtype):
        raise InputError(f"{store}/{array} holds {values.dtype} of shape {values.shape}, but its metadata say {dtype} {shape}")
    if crc32(values.view(np.uint8).reshape(-1)) != crc:
        raise InputError(f"{store}/{name} is damaged: its checksum does not fit its data")
    return torch.from_numpy(values), size


def _physical_problems(physical: torch.Tensor) -> Iterator[str]:
    at_once = max(1, _CHUNK_BYTES // (physical[0].numel() * physical.element_size()))
    for first in range(0, len(physical), at_once):
        finite = torch.isfinite(physical[first : first + at_once]).all(dim=(1, 2))
        for i in torch.nonzero(~finite).flatten().tolist():
            yield f"physical image {first + i} has values that are not finite"


def _fourier_problems(fourier: torch.Tensor, descriptor: ImageDescriptor, zeroed: set[int]) -> Iterator[str]:
    weights = torch.from_numpy(descriptor.polar_grid.shell_weights)
    at_once = max(1, _CHUNK_BYTES // (fourier[0].numel() * fourier.element_size()))
    for first in range(0, len(fourier), at_once):
        chunk = fourier[first : first + at_once]
        power = (torch.view_as_real(chunk).to(torch.float64) ** 2).sum(dim=(2, 3))  # (k, n_shells)
        norms = (power @ weights).sqrt()
        for i, norm in enumerate(norms.tolist()):
            if first + i in zeroed:
                if norm != 0:
                    yield f"image {first + i} has norm {norm:g}, but its metadata say that it is all zero"
            elif not abs(norm - 1) <= _NORM_TOLERANCE[descriptor.precision]:
                what = f"has norm {norm:g} instead of 1" if norm else "is all zero"
                yield f"image {first + i} {what}"
