"""Checks everything but the stacks in an output folder: the manifest, the parameters, the particles and the records of a Zarr store."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

from cryolike_dask.errors import InputError
from cryolike_dask.formatting import is_or_are, plural
from cryolike_dask.metadata.image_descriptor import ImageDescriptor
from cryolike_dask.settings import ZARR_NAME, fingerprint
from cryolike_dask.stacks.archive import check_archive
from cryolike_dask.stacks.checksums import crc32_of_file, is_sealed
from cryolike_dask.stacks.files import MANIFEST, PARAMS_FILE, STAR_FILE, StackPaths, read_metadata
from cryolike_dask.stacks.loading import named_store
from cryolike_dask.stacks.object_store import open_object_store
from cryolike_dask.stacks.zarr_store import store_attributes, store_problems

Manifest = dict[str, Any]

MADE_AGAIN = "--skip-exist makes it again"
WRITTEN_AGAIN = "--skip-exist writes it again"
CONTINUED = "--skip-exist continues it"
ALL_AGAIN = "--overwrite makes everything again"
ELSEWHERE = "if nothing else uses this store, remove it; --skip-exist then makes it again"
NOT_OF_THIS_RUN = "remove it, or make everything again with --overwrite"


def with_remedy(problem: str, remedy: str) -> str:
    """One line about a problem that says what to do."""
    return f"{problem} ({remedy})"


def manifest_problems(root: Path, manifest: Manifest, counters: list[int]) -> Iterator[str]:
    """The problems of a manifest, by itself and compared with the visible stacks.

    Args:
        root: output folder.
        manifest: as read from it.
        counters: of the visible stacks, ascending.
    """
    path = root / MANIFEST
    faults = list(_manifest_faults(manifest))
    remedy = WRITTEN_AGAIN if faults and _can_be_continued(root, manifest, counters) else ALL_AGAIN
    yield from (with_remedy(f"{path} {fault}", remedy) for fault in faults)
    if manifest["status"] != "complete":
        yield with_remedy(f"the run is {manifest['status']}: {len(counters)} of {manifest['n_stacks']} stacks are there", CONTINUED)


def _manifest_faults(manifest: Manifest) -> Iterator[str]:
    if not is_sealed(manifest):
        yield "is damaged: its checksum does not fit"
    if fingerprint(manifest["identity"]) != manifest["fingerprint"]:
        yield "states a fingerprint that is not that of its identity"
    for key, value in manifest["identity"]["settings"].items():
        if manifest["settings"].get(key) != value:
            yield f"states {key} as {manifest['settings'].get(key)!r} in its settings, {value!r} in its identity"
    rows = 0
    for position, stack in enumerate(manifest["stacks"]):
        if stack["counter"] != position or stack["rows"] != [rows, rows + stack["n_images"]]:
            yield f"is inconsistent: its record of stack {position:06d} does not follow on the record before it"
            break
        rows += stack["n_images"]
    found = (len(manifest["stacks"]), sum(stack["n_images"] for stack in manifest["stacks"]))
    if manifest["status"] == "complete" and found != (manifest["n_stacks"], manifest["n_images"]):
        yield "is inconsistent: it lists {} stacks of {} images, and counts {} of {}".format(
            *found, manifest["n_stacks"], manifest["n_images"]
        )


def _can_be_continued(root: Path, manifest: Manifest, counters: list[int]) -> bool:
    """Whether a manifest with errors still has the correct values that resuming needs: how the stacks were made, and from which files."""
    try:
        metadata = [read_metadata(StackPaths(root, counter).metadata) for counter in counters[:1]]
        states = [os.stat(file["path"]) for file in manifest["inputs"]]
    except (OSError, ValueError):
        return False
    return (
        all(str(values.get("fingerprint")) == fingerprint(manifest["identity"]) for values in metadata)
        and [(file["size"], file["mtime_ns"]) for file in manifest["inputs"]] == [(now.st_size, now.st_mtime_ns) for now in states]
        and all({str(name) for name in values["files"]} <= {file["path"] for file in manifest["inputs"]} for values in metadata)
    )


def stack_list_problems(root: Path, n_stacks: int, counters: list[int]) -> Iterator[str]:
    """The problems of missing and surplus stacks.

    Args:
        root: output folder.
        n_stacks: number of stacks of the run.
        counters: of the visible stacks, ascending.
    """
    there = set(counters)
    n_missing = n_stacks - sum(counter < n_stacks for counter in there)
    if n_missing:
        first = next(counter for counter in count() if counter not in there)
        remedy = MADE_AGAIN if n_missing == 1 else "--skip-exist makes them again"
        yield with_remedy(f"{plural(n_missing, 'stack')} {is_or_are(n_missing)} missing, the first is {first:06d}", remedy)
    for counter in counters:
        if counter >= n_stacks:
            yield with_remedy(f"stack {counter:06d} does not belong to this run", NOT_OF_THIS_RUN)
    for subfolder, kind in (("fft", "fourier"), ("phys", "phys")):
        for path in sorted((root / subfolder).glob(f"particles_{kind}_stack_*.pt")):
            digits = path.stem.rsplit("_", 1)[1]
            if digits.isascii() and digits.isdigit() and int(digits) not in there:
                yield with_remedy(f"{path} belongs to no complete stack", MADE_AGAIN if int(digits) < n_stacks else NOT_OF_THIS_RUN)


def record_problems(root: Path, manifest: Manifest, zarr_store: str) -> Iterator[str]:
    """The problems of params.npz, particles.star, and everything but the images of a Zarr store.

    Args:
        root: output folder.
        manifest: of the run.
        zarr_store: location of the store if the user named it, else ''.

    Raises:
        UnnamedStoreError: the store is outside the folder, and the user did not name it.
    """
    for problem in (_params_problem(root / PARAMS_FILE, manifest), _star_problem(root / STAR_FILE, manifest)):
        if problem:
            yield with_remedy(problem, MADE_AGAIN)
    settings = manifest["identity"]["settings"]
    if settings.get("output_format") == "zarr":
        store = named_store(str(settings.get("zarr_store") or ZARR_NAME), root, zarr_store)
        n_images = sum(stack["n_images"] for stack in manifest["stacks"])
        # A store outside the folder may belong to another run by now. Resuming changes it only if its fingerprint is that of this run.
        is_ours = (
            not settings.get("zarr_store")
            or (store_attributes(open_object_store(store)) or {}).get("fingerprint") == manifest["fingerprint"]
        )
        for problem in store_problems(store, manifest["fingerprint"], n_images):
            yield with_remedy(problem, MADE_AGAIN if is_ours else ELSEWHERE)


def _params_problem(path: Path, manifest: Manifest) -> str:
    try:
        check_archive(path, "a params file")
        found = ImageDescriptor.load(path)
    except FileNotFoundError:
        return f"{path} is missing"
    except (InputError, OSError) as error:
        return f"{path} cannot be used: {str(error).rstrip('.')}"
    try:
        expected = ImageDescriptor.from_dict(manifest["identity"]["descriptor"])
    except InputError as error:
        return f"{path.parent / MANIFEST}: {error}"
    return "" if found == expected else f"{path} is not the descriptor with which the stacks were made"


def _star_problem(path: Path, manifest: Manifest) -> str:
    record = manifest["star_file"]
    if manifest["status"] != "complete" or record is None:
        return ""
    try:
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode):
            return f"{path} is not a regular file"
        if (status.st_size, crc32_of_file(path)) != (record["n_bytes"], record["crc32"]):
            return f"{path} was changed after it was written: its size or its checksum differs"
    except FileNotFoundError:
        return f"{path} is missing"
    except OSError as error:
        return f"{path} cannot be read ({error.strerror or error})"
    return ""
