"""A plan on disk, so that tasks carry a folder and a number instead of a table.

Data that grow with the number of particles, stacks or image files are in `.npy` files, from which a task reads only the rows that it needs.
The rest is JSON. Nothing is pickled.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cryolike_dask.errors import OutputError
from cryolike_dask.filesystem.pinned import create_file
from cryolike_dask.filesystem.reading import read_array_header
from cryolike_dask.metadata.image_descriptor import ImageDescriptor
from cryolike_dask.mrc.boxes import BoxCut
from cryolike_dask.mrc.header import ImageFile
from cryolike_dask.particles.table import PARTICLE_DTYPE, ParticleTable, Source
from cryolike_dask.planning.plan import Plan, StackPlan, offset_in_file, stack_descriptor
from cryolike_dask.settings import ConversionSettings

_STACK_DTYPE = np.dtype([("first", np.int64), ("last", np.int64), ("pixel_size", np.float64), ("file_offset", np.int64)])
"""One stack: its entries of `Plan.bounds`, `Plan.pixel_size` and `Plan.file_offsets`."""
_FILE_DTYPE = np.dtype(
    [
        ("path_start", np.int64),  # in paths.npy
        ("path_end", np.int64),
        ("planned", np.bool_),  # whether particles of it are left; if not, the following fields are not set
        ("n_images", np.int64),
        ("n_rows", np.int64),
        ("n_columns", np.int64),
        ("dtype", "S8"),
        ("data_offset", np.int64),
        ("pixel_size", np.float64),
        ("compression", "S8"),
        ("size", np.int64),
        ("mtime_ns", np.int64),
    ]
)
"""One image file: its entry of `ParticleTable.files`, and the `ImageFile` that belongs to it."""
_HEADER_FIELDS = _FILE_DTYPE.names[3:]  # type: ignore[index]


def store_plan(plan: Plan, folder: Path) -> None:
    """Write the plan into an existing folder.

    Raises:
        OSError: the file system refuses it.
    """
    stacks = np.empty(plan.n_stacks, dtype=_STACK_DTYPE)
    stacks["first"], stacks["last"] = plan.bounds.T
    stacks["pixel_size"] = plan.pixel_size
    stacks["file_offset"] = plan.file_offsets if len(plan.file_offsets) else -1
    paths = [path.encode("utf-8", errors="surrogateescape") for path in plan.table.files]
    files = np.zeros(len(paths), dtype=_FILE_DTYPE)
    files["path_end"] = np.cumsum([len(path) for path in paths], dtype=np.int64)
    files["path_start"][1:] = files["path_end"][:-1]
    for position, file in enumerate(plan.files):
        if file is not None:
            assert file.path == plan.table.files[position]
            files["planned"][position] = True
            for name in _HEADER_FIELDS:
                files[name][position] = getattr(file, name)
    _write(folder, "rows", plan.table.rows)
    _write(folder, "stacks", stacks)
    _write(folder, "files", files)
    _write(folder, "paths", np.frombuffer(b"".join(paths), dtype=np.uint8))
    # Needed to begin and to finish the run, but not to make a stack.
    record = {
        "optics_groups": plan.table.optics_groups,
        "skipped": plan.table.skipped,
        "pixel_size_from": plan.pixel_size_from,
        "warnings": plan.warnings,
        "particles": plan.particles,
        "command": plan.command,
    }
    _write_json(folder / "record.json", record)
    content = {
        "sources": [asdict(source) for source in plan.table.sources],
        "descriptor": asdict(plan.descriptor),
        "settings": asdict(plan.settings),
        "fingerprint": plan.fingerprint,
    }
    # The last file of the plan: if it exists, all others do.
    partial = folder / "plan.json.partial"
    _write_json(partial, content)
    partial.replace(folder / "plan.json")


class _Column:
    """A one-dimensional `.npy` file that is read in parts.

    Args:
        path: the file.
        dtype: that it must have.
    """

    def __init__(self, path: Path, dtype: npt.DTypeLike) -> None:
        self.path, self.dtype = path, np.dtype(dtype)
        try:
            with path.open("rb") as file:
                (self.n,), _, found = read_array_header(file)
                self._data_offset = file.tell()
        except ValueError as error:
            raise OutputError(f"{path} is damaged ({error}). Check the file system, then convert again.") from error
        if found != self.dtype:
            raise OutputError(f"{path} was written by another version of cryolike_dask. Use the same version everywhere.")

    def part(self, first: int, last: int) -> npt.NDArray[Any]:
        """(last - first,) of its rows."""
        # Read, not mapped: a mapped file that another host removes kills the process that touches it.
        found = np.fromfile(self.path, self.dtype, last - first, offset=self._data_offset + first * self.dtype.itemsize)
        if len(found) < last - first:
            raise OutputError(f"{self.path} is shorter than it was when it was written. Check the file system, then convert again.")
        return found

    def whole(self) -> npt.NDArray[Any]:
        """(n,) all rows."""
        return self.part(0, self.n)


class _Files:
    """The image files of a stored plan."""

    def __init__(self, folder: Path) -> None:
        self._files, self._paths = _Column(folder / "files.npy", _FILE_DTYPE), _Column(folder / "paths.npy", np.uint8)

    def one(self, position: int) -> ImageFile:
        """The file at this position of the table's files."""
        (entry,) = self._files.part(position, position + 1)
        file = self._file(entry, self._paths.part(int(entry["path_start"]), int(entry["path_end"])).tobytes())
        assert file is not None  # a planned particle's file was found
        return file

    def all(self) -> tuple[tuple[str, ...], tuple[ImageFile | None, ...]]:
        """Paths of all files, and their headers, None where no particle is left."""
        text, entries = self._paths.whole().tobytes(), self._files.whole()
        paths = [text[entry["path_start"] : entry["path_end"]] for entry in entries]
        files = tuple(self._file(entry, path) for entry, path in zip(entries, paths, strict=True))
        return tuple(_text(path) for path in paths), files

    @staticmethod
    def _file(entry: np.void, path: bytes) -> ImageFile | None:
        if not entry["planned"]:
            return None
        values: dict[str, Any] = {name: entry[name].item() for name in _HEADER_FIELDS}
        values |= {name: _text(values[name]) for name in ("dtype", "compression")}
        return ImageFile(_text(path), **values)


@dataclass(frozen=True)
class StoredPlan:
    """A plan read back: what all stacks have in common. The rest is read from the files of the plan when it is needed."""

    rows: _Column
    stacks: _Column
    files: _Files
    sources: tuple[Source, ...]
    descriptor: ImageDescriptor
    settings: ConversionSettings
    fingerprint: str

    def end_of(self, counter: int) -> int:
        """The row after the last one of this stack."""
        return int(self.stacks.part(counter, counter + 1)["last"][0])

    def stack(self, counter: int) -> StackPlan:
        """Everything that a worker needs for this stack."""
        (stack,) = self.stacks.part(counter, counter + 1)
        rows = self.rows.part(int(stack["first"]), int(stack["last"]))
        return StackPlan(
            counter=counter,
            rows=rows,
            files={position: self.files.one(position) for position in np.unique(rows["file"]).tolist()},
            sources=self.sources,
            descriptor=stack_descriptor(self.descriptor, float(stack["pixel_size"])),
            settings=self.settings,
            fingerprint=self.fingerprint,
            file_offset=offset_in_file([int(stack["file_offset"])], 0),
        )


@lru_cache(maxsize=16)
def load_plan(folder: Path, run_id: str) -> StoredPlan:
    """The plan in this folder; each process reads it once per run.

    Args:
        folder: where `store_plan` wrote it.
        run_id: of the run, so that a later run in the same folder is not taken for this one.

    Raises:
        FileNotFoundError: there is no plan, or it was removed.
        OutputError: it was written by another version of this package.
    """
    content = _read_json(folder / "plan.json")
    return StoredPlan(
        rows=_Column(folder / "rows.npy", PARTICLE_DTYPE),
        stacks=_Column(folder / "stacks.npy", _STACK_DTYPE),
        files=_Files(folder),
        sources=tuple(_source(source) for source in content["sources"]),
        descriptor=ImageDescriptor.from_dict(content["descriptor"]),
        settings=ConversionSettings(**content["settings"]),
        fingerprint=content["fingerprint"],
    )


def load_whole_plan(folder: Path) -> Plan:
    """The complete plan in this folder, with all rows in memory.

    Raises:
        FileNotFoundError: there is none.
        OutputError: it was written by another version of this package.
    """
    stored, record = load_plan.__wrapped__(folder, ""), _read_json(folder / "record.json")
    paths, files = stored.files.all()
    stacks = stored.stacks.whole()
    table = ParticleTable(
        rows=stored.rows.whole(),
        files=paths,
        sources=stored.sources,
        optics_groups=tuple(record["optics_groups"]),
        skipped=tuple(record["skipped"]),
    )
    return Plan(
        table=table,
        files=files,
        descriptor=stored.descriptor,
        pixel_size_from=record["pixel_size_from"],
        settings=stored.settings,
        bounds=np.stack([stacks["first"], stacks["last"]], axis=1),
        pixel_size=stacks["pixel_size"].copy(),
        file_offsets=stacks["file_offset"].copy(),
        warnings=tuple(record["warnings"]),
        particles=record["particles"],
        command=record["command"],
    )


def _write(folder: Path, name: str, column: npt.NDArray[Any]) -> None:
    with os.fdopen(create_file(folder / f"{name}.npy"), "wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(column))
        # Not NumPy's `tofile`: its error does not say whether the disk is full.
        file.write(np.ascontiguousarray(column).view(np.uint8).data)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    with os.fdopen(create_file(path), "w", encoding="utf-8", errors="surrogateescape") as file:
        json.dump(content, file)


def _read_json(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8", errors="surrogateescape"))
    return content


def _text(value: bytes) -> str:
    return value.decode("utf-8", errors="surrogateescape")


def _source(content: dict[str, Any]) -> Source:
    boxes = content.pop("boxes")
    return Source(boxes=None if boxes is None else BoxCut(**boxes), **(content | {"notes": tuple(content["notes"])}))
