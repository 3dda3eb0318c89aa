"""A plan on disk, so that tasks carry a folder and a number instead of a table.

The rows lie in one file of which workers read what they need; the rest is JSON. Nothing is pickled.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from cryolike_dask.filesystem.pinned import create_file
from cryolike_dask.metadata.image_descriptor import ImageDescriptor
from cryolike_dask.mrc.boxes import BoxCut
from cryolike_dask.mrc.header import ImageFile
from cryolike_dask.particles.table import PARTICLE_DTYPE, ParticleTable, Source
from cryolike_dask.planning.plan import Plan, StackPlan, offset_in_file, stack_descriptor
from cryolike_dask.settings import ConversionSettings

_ROWS = "rows.bin"


def store_plan(plan: Plan, folder: Path) -> None:
    """Write the plan into an existing folder.

    Raises:
        OSError: the file system refuses.
    """
    with os.fdopen(create_file(folder / _ROWS), "wb") as file:
        plan.table.rows.tofile(file)
    content = {
        "files": [None if file is None else asdict(file) for file in plan.files],
        "sources": [asdict(source) for source in plan.table.sources],
        "descriptor": asdict(plan.descriptor),
        "settings": asdict(plan.settings),
        "fingerprint": plan.fingerprint,
        "bounds": plan.bounds.tolist(),
        "pixel_size": plan.pixel_size.tolist(),
        "file_offsets": plan.file_offsets.tolist(),
        # What follows is for who begins and finishes the run; who makes a stack needs none of it.
        "paths": plan.table.files,
        "optics_groups": plan.table.optics_groups,
        "skipped": plan.table.skipped,
        "pixel_size_from": plan.pixel_size_from,
        "warnings": plan.warnings,
        "particles": plan.particles,
    }
    # The last file of the plan: where it is, the rest is too.
    partial = folder / "plan.json.partial"
    with os.fdopen(create_file(partial), "w", encoding="utf-8", errors="surrogateescape") as text:
        json.dump(content, text)
    partial.replace(folder / "plan.json")


@dataclass(frozen=True)
class StoredPlan:
    """A plan read back. `stack` reads only that stack's rows."""

    rows_file: Path
    files: tuple[ImageFile | None, ...]
    sources: tuple[Source, ...]
    descriptor: ImageDescriptor
    settings: ConversionSettings
    fingerprint: str
    bounds: tuple[tuple[int, int], ...]
    pixel_size: tuple[float, ...]
    file_offsets: tuple[int, ...]

    def stack(self, counter: int) -> StackPlan:
        """What a worker needs for this stack."""
        first, last = self.bounds[counter]
        # Read, not mapped: a mapped file that another host removes kills the process that touches it.
        rows = np.fromfile(self.rows_file, PARTICLE_DTYPE, last - first, offset=first * PARTICLE_DTYPE.itemsize)
        files: dict[int, ImageFile] = {}
        for position in np.unique(rows["file"]).tolist():
            file = self.files[position]
            assert file is not None  # a planned particle's file was found
            files[position] = file
        return StackPlan(
            counter=counter,
            rows=rows,
            files=files,
            sources=self.sources,
            descriptor=stack_descriptor(self.descriptor, self.pixel_size[counter]),
            settings=self.settings,
            fingerprint=self.fingerprint,
            file_offset=offset_in_file(self.file_offsets, counter),
        )


@lru_cache(maxsize=2)
def load_plan(folder: Path, run_id: str) -> StoredPlan:
    """The plan in this folder; each process reads it once a run.

    Args:
        folder: where `store_plan` wrote it.
        run_id: of the run, so that a later run in the same folder is not taken for this one.

    Raises:
        FileNotFoundError: there is none, or none any more.
    """
    content = _content(folder)
    return StoredPlan(
        rows_file=folder / _ROWS,
        files=_files(content),
        sources=tuple(_source(source) for source in content["sources"]),
        descriptor=ImageDescriptor.from_dict(content["descriptor"]),
        settings=ConversionSettings(**content["settings"]),
        fingerprint=content["fingerprint"],
        bounds=tuple((first, last) for first, last in content["bounds"]),
        pixel_size=tuple(content["pixel_size"]),
        file_offsets=tuple(content["file_offsets"]),
    )


def load_whole_plan(folder: Path) -> Plan:
    """The plan in this folder as it was made, all rows in memory.

    Raises:
        FileNotFoundError: there is none.
    """
    content = _content(folder)
    table = ParticleTable(
        rows=np.fromfile(folder / _ROWS, PARTICLE_DTYPE),
        files=tuple(content["paths"]),
        sources=tuple(_source(source) for source in content["sources"]),
        optics_groups=tuple(content["optics_groups"]),
        skipped=tuple(content["skipped"]),
    )
    return Plan(
        table=table,
        files=_files(content),
        descriptor=ImageDescriptor.from_dict(content["descriptor"]),
        pixel_size_from=content["pixel_size_from"],
        settings=ConversionSettings(**content["settings"]),
        bounds=np.array(content["bounds"], dtype=np.int64),
        pixel_size=np.array(content["pixel_size"]),
        file_offsets=np.array(content["file_offsets"], dtype=np.int64),
        warnings=tuple(content["warnings"]),
        particles=content["particles"],
    )


def _content(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "plan.json").read_text(encoding="utf-8", errors="surrogateescape"))
    return content


def _files(content: dict[str, Any]) -> tuple[ImageFile | None, ...]:
    return tuple(None if file is None else ImageFile(**file) for file in content["files"])


def _source(content: dict[str, Any]) -> Source:
    boxes = content.pop("boxes")
    return Source(boxes=None if boxes is None else BoxCut(**boxes), **(content | {"notes": tuple(content["notes"])}))
