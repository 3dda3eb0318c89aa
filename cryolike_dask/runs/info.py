"""A readable summary of an output folder, from its manifest if there is one, and from the stacks themselves."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cryolike_dask.ctf_check.of_stacks import check_stacks, sampled_stacks
from cryolike_dask.ctf_check.verdict import CtfCheck
from cryolike_dask.errors import CryolikeError, InputError, OutputError
from cryolike_dask.formatting import entry, format_bytes, plural, printable
from cryolike_dask.metadata.image_descriptor import ImageDescriptor
from cryolike_dask.runs.manifest import read_manifest
from cryolike_dask.runs.verify_records import (
    MADE_AGAIN,
    Manifest,
    manifest_problems,
    record_problems,
    stack_list_problems,
    with_remedy,
)
from cryolike_dask.settings import ZARR_NAME, ConversionSettings
from cryolike_dask.settings.words import settings_in_words
from cryolike_dask.stacks.complete import arrays_of_stack
from cryolike_dask.stacks.files import StackPaths, conversion_folder, published_counters, read_metadata
from cryolike_dask.stacks.loading import UnnamedStoreError, named_store
from cryolike_dask.stacks.object_store import open_object_store
from cryolike_dask.stacks.zarr_shard import check_shard, shard_name

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class OutputInfo:
    """An output folder in numbers.

    Args:
        folder: absolute path.
        status: 'complete': the run and its files are complete; 'damaged': the run was complete, but its files are not; 'unchecked': the
            run was complete, but its files are in a store that was not named; 'incomplete'; 'running' (or killed while it ran); 'unknown'
            without a manifest.
        problems: of a run that was complete, each with its remedy, if they can be found without reading stacks.
        n_stacks, n_images: numbers of complete and visible stacks, and of their images.
        n_stacks_planned, n_images_planned: of the run; None without a manifest.
        n_bytes: size of the files of complete stacks.
        version: of cryolike_dask that wrote them; None without a manifest.
        written: when the manifest was written; None without one.
        settings: of the run.
        descriptor: grids and precision.
        sources: tables from which the particles came.
        pixel_size_from: the place where the pixel size was found, such as 'table'.
        warnings: of the run.
        skipped: one line for each particle that was left out.
        ctf: whether the CTF of the table fits the images; None if their power was not recorded.
    """

    folder: str
    status: str
    problems: tuple[str, ...]
    n_stacks: int
    n_images: int
    n_stacks_planned: int | None
    n_images_planned: int | None
    n_bytes: int
    version: str | None
    written: str | None
    settings: dict[str, Any]
    descriptor: dict[str, Any]
    sources: tuple[str, ...]
    pixel_size_from: str | None
    warnings: tuple[str, ...]
    skipped: tuple[str, ...]
    ctf: CtfCheck | None

    def to_dict(self) -> dict[str, Any]:
        """Everything as numbers and text, for JSON."""
        return asdict(replace(self, ctf=None)) | {"ctf": None if self.ctf is None else self.ctf.to_dict()}

    def __str__(self) -> str:
        lines = {
            "folder": self.folder,
            "status": _STATUS[self.status],
            "problems": "\n".join((*self.problems[:_SHOWN], *(["and more"] if len(self.problems) > _SHOWN else []))),
            "stacks": _of(self.n_stacks, self.n_stacks_planned),
            "images": _of(self.n_images, self.n_images_planned),
            "size": format_bytes(self.n_bytes),
            "from": "\n".join(self.sources),
            "pixel size": self._pixel_size(),
            "polar grid": self._grid(),
            "CTF": "" if self.ctf is None else str(self.ctf),
            "settings": "; ".join(f"{name}: {value}" for name, value in settings_in_words(self.settings)[0].items()),
            "written": f"{self.written} by cryolike_dask {self.version}" if self.version else "",
            "skipped": plural(len(self.skipped), "particle") if self.skipped else "",
            "warnings": "\n".join(self.warnings),
        }
        return printable("\n".join(entry(name, text, 11) for name, text in lines.items() if text))

    def _pixel_size(self) -> str:
        source = f", from the {self.pixel_size_from}" if self.pixel_size_from else ""
        return f"{self.descriptor['pixel_size'][0]:g} Å{source}" if self.descriptor else ""

    def _grid(self) -> str:
        if not self.descriptor:
            return ""
        d = self.descriptor
        polar = f"radius {d['radius_max']:g}, shells {d['dist_radii']:g} apart, {d['n_inplanes']} in-plane angles"
        return f"{polar}, {d['precision']} precision"


_SHOWN = 5
_STATUS = {
    "complete": "complete",
    "incomplete": "incomplete: continue with --skip-exist",
    "running": "being written now; if its run was killed, continue with --skip-exist",
    "damaged": "the run was complete, but files are missing or damaged; `cryolike-dask verify` checks the stacks, too",
    "unchecked": "the run was complete; to check its Zarr store outside this folder, name it with --zarr-store",
    "unknown": "unknown, as there is no manifest.json",
}


def describe_output(folder: str | Path, *, zarr_store: str = "") -> OutputInfo:
    """Summarize an output folder: the content of its manifest, and whether its files exist. No image is read.

    Args:
        folder: output folder of a conversion.
        zarr_store: path or URL of the Zarr store of the run, if it is not in the folder: see `load_stack`.

    Raises:
        InputError: there is no such folder, or no conversion in it.
        OutputError: its manifest is damaged.
    """
    root = conversion_folder(folder).resolve()
    manifest = read_manifest(root)
    counters = published_counters(root)
    content = manifest or {}
    identity = content.get("identity", {})
    status = content.get("status", "unknown")
    if status not in _STATUS:
        raise OutputError(f"{root}: its manifest.json has the status {status!r}, which this version does not know.")
    problems: tuple[str, ...] = ()
    if manifest is not None and status == "complete":
        try:
            problems = tuple(_problems(root, manifest, counters, zarr_store))
            status = "damaged" if problems else status
        except UnnamedStoreError:
            status = "unchecked"
    images = {stack["counter"]: stack["n_images"] for stack in content.get("stacks", [])}
    recorded = {stack["counter"]: stack["n_bytes"] for stack in content.get("stacks", [])}
    return OutputInfo(
        folder=str(root),
        status=status,
        problems=problems,
        n_stacks=len(counters),
        n_images=sum(images[counter] if counter in images else _count_images(root, counter) for counter in counters),
        n_stacks_planned=content.get("n_stacks"),
        n_images_planned=content.get("n_images"),
        n_bytes=sum(recorded[counter] if counter in recorded else _bytes(root, counter) for counter in counters),
        version=content.get("version"),
        written=content.get("written"),
        settings=content.get("settings", {}),
        descriptor=identity.get("descriptor", {}),
        sources=tuple(source["table"] for source in identity.get("sources", [])),
        pixel_size_from=content.get("pixel_size_from"),
        warnings=tuple(content.get("warnings", [])),
        skipped=tuple(content.get("skipped", [])),
        ctf=check_ctf_of_stacks(root, counters),
    )


def check_ctf_of_stacks(folder: Path, counters: list[int]) -> CtfCheck | None:
    """Whether the CTF fits, from the metadata of a few of the stacks with these numbers; None if their power was not recorded."""
    metadata = []
    for counter in sampled_stacks(counters):
        # `verify` reports problems of stacks; the other stacks are enough for this check.
        with suppress(CryolikeError, OSError):
            metadata.append(read_metadata(StackPaths(folder, counter).metadata))
    try:
        return check_stacks(metadata)
    except (CryolikeError, ArithmeticError, LookupError, TypeError, ValueError) as error:
        logger.info("The CTF of %s was not checked: %s", folder, error)
        return None


def _problems(root: Path, manifest: Manifest, counters: list[int], zarr_store: str) -> Iterator[str]:
    """The problems of a run that was complete.

    Raises:
        UnnamedStoreError: the store is outside the folder, and the user did not name it.
    """
    yield from manifest_problems(root, manifest, counters)
    yield from stack_list_problems(root, manifest["n_stacks"], counters)
    yield from record_problems(root, manifest, zarr_store)
    for stack in manifest["stacks"]:
        if stack["counter"] in counters:
            try:
                n_bytes = _bytes(root, stack["counter"]) + _bytes_in_store(root, manifest, stack, zarr_store)
            except (InputError, OSError) as error:
                yield with_remedy(f"stack {stack['counter']:06d}: {error}", MADE_AGAIN)
                continue
            if n_bytes != stack["n_bytes"]:
                yield with_remedy(
                    f"stack {stack['counter']:06d}: its files have {n_bytes:,} bytes of {stack['n_bytes']:,}", MADE_AGAIN
                )


def _count_images(folder: Path, counter: int) -> int:
    return int(np.asarray(read_metadata(StackPaths(folder, counter).metadata).get("n_images", 0)))


def _bytes(folder: Path, counter: int) -> int:
    paths = StackPaths(folder, counter)
    return sum(path.stat().st_size for path in (paths.fourier, paths.physical, paths.metadata) if path.exists())


def _bytes_in_store(root: Path, manifest: Manifest, stack: dict[str, Any], zarr_store: str) -> int:
    """Bytes of a stack's shards; 0 without a store.

    Raises:
        InputError: a shard is missing or incomplete.
        OSError: a shard cannot be read.
    """
    identity = manifest["identity"]
    settings = ConversionSettings.from_options(identity["settings"])
    if settings.output_format != "zarr":
        return 0
    store = open_object_store(named_store(settings.zarr_store or ZARR_NAME, root, zarr_store))
    arrays = arrays_of_stack(stack["n_images"], ImageDescriptor.from_dict(identity["descriptor"]), settings.save_phys)
    return sum(
        check_shard(
            store, shard_name(array, stack["counter"]), shape[0], settings.batch_size, int(np.prod(shape[1:])) * dtype.itemsize
        )
        for array, (shape, dtype) in arrays.items()
    )


def _of(found: int, planned: int | None) -> str:
    return f"{found:,}" if planned is None or found == planned else f"{found:,} of {planned:,}"
