"""Reads cryoSPARC tables (.cs) as NumPy arrays, and looks up columns in other tables by uid."""

from __future__ import annotations

import os
import warnings
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from cryolike_dask.errors import InputError, MissingFileError
from cryolike_dask.filesystem.file_kind import CRYOSPARC, cryosparc_group, foreign_content, other_input
from cryolike_dask.filesystem.paths import input_path
from cryolike_dask.filesystem.reading import UNREADABLE_ARRAY, open_input
from cryolike_dask.formatting import plural
from cryolike_dask.particles.cryosparc.csdat import MAGIC as CSDAT_MAGIC
from cryolike_dask.particles.cryosparc.csdat import read_csdat
from cryolike_dask.particles.inputs import job_of

_NPY_MAGIC = b"\x93NUMPY"
_MAX_HEADER_BYTES = (
    1 << 20
)  # tables with many classes have headers of 30 kB, above NumPy's default limit; headers are parsed as Python
_LARGEST_GROUP = 1 << 16  # bytes of a .csg file, which is a few lines of text
_CHUNK_ROWS = 1 << 16
_SIBLINGS_FIRST = ("restacked_particles", "downsampled_particles", "extracted_particles", "imported_particles", "passthrough")


@dataclass(frozen=True)
class CsTable:
    """Some columns of a cryoSPARC table, one row per particle.

    Args:
        path: the table.
        names: names of all columns of the table, including those that were not read.
        columns: the columns that were read, each (n,) or (n, k).
        joined: columns that came from another table, with the path of that table.
    """

    path: str
    names: tuple[str, ...]
    columns: Mapping[str, npt.NDArray[Any]]
    length: int
    joined: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.length

    def __contains__(self, name: object) -> bool:
        return name in self.columns

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        return self.columns[name]

    def has(self, *names: str) -> bool:
        """Whether all these columns were read."""
        return all(name in self.columns for name in names)

    def where(self, row: int, name: str) -> str:
        """How to name a value in a message; the row is counted from 0 here and from 1 in the message."""
        source = f" (looked up by uid in {self.joined[name]})" if name in self.joined else ""
        return f"{self.path}, particle {row + 1}: {name}{source}"

    def where_all(self, name: str, rows: npt.NDArray[np.intp]) -> str:
        """The same for values in several rows, of which the first is named."""
        more = f" (and {plural(len(rows) - 1, 'more particle')})" if len(rows) > 1 else ""
        return f"{self.where(int(rows[0]), name)}{more}"


def read_cs(path: str | os.PathLike[str], wanted: Collection[str]) -> CsTable:
    """Read columns of a .cs file; wanted columns that do not exist are left out. Nothing is unpickled.

    Raises:
        InputError: the file is missing, is not a cryoSPARC table, is damaged, or holds no particles.
    """
    file = str(input_path(path))
    if os.path.isdir(file) and (advice := _as_job(file)):
        raise InputError(f"{file} is the directory of a job.{advice}")
    try:
        with open_input(file, "a .cs file") as stream:
            start = stream.read(_LARGEST_GROUP)
    except FileNotFoundError:
        raise MissingFileError(f"The cryoSPARC table {file} does not exist. Check the path.") from None
    except OSError as error:
        raise InputError(f"The cryoSPARC table {file} cannot be read: {error}.") from error
    foreign = foreign_content(start) or other_input(start, CRYOSPARC)
    if foreign:
        raise InputError(f"{file} is {foreign}.")
    if start.startswith(CSDAT_MAGIC):
        names, rows = read_csdat(file, wanted)
    elif start.startswith(_NPY_MAGIC):
        names, rows = _read_npy(file, start, wanted)
    elif (tables := cryosparc_group(start)) is not None:
        raise InputError(
            f"{file} is a cryoSPARC result group (.csg), which only names tables: {', '.join(tables)}. Give the one of these with the "
            "images (blob/path) instead; columns that it lacks are looked up in the others beside it."
        )
    else:
        raise InputError(f"{file} is not a cryoSPARC table: it begins with {start[:8]!r}. Give a .cs file as cryoSPARC writes it.")
    if not len(rows):
        raise InputError(f"{file} holds no particles (it has no rows). Give a table with at least one particle.")
    columns = {name: np.ascontiguousarray(rows[name]) for name in rows.dtype.names or ()}
    if "uid" in columns:
        columns["uid"] = _as_uids(file, columns["uid"])
    return CsTable(path=file, names=names, columns=columns, length=len(rows))


def sibling_tables(path: str) -> list[str]:
    """The other particle tables in the folder of this one. Tables that a job made come before those that it passed through, and later
    iterations before earlier ones."""
    folder, own = os.path.split(path)
    found = [name for name in os.listdir(folder) if name.endswith(".cs") and name != own]
    found = sorted((name for name in found if "particles" in name), reverse=True)
    rank = {name: next((i for i, part in enumerate(_SIBLINGS_FIRST) if part in name), len(_SIBLINGS_FIRST)) for name in found}
    return [os.path.join(folder, name) for name in sorted(found, key=rank.__getitem__)]


def join_columns_by_uid(table: CsTable, names: Collection[str], required: Iterable[str], what: str) -> CsTable:
    """Look up columns by uid in the first table beside this one that has the required ones for all its particles.

    Args:
        table: the table that lacks them; it needs a uid column.
        names: columns to look up.
        required: those that the other table must have.
        what: name of the columns in a message.

    Raises:
        InputError: no table beside it has them for all particles.
    """
    required = tuple(required)
    tried = []
    for path in sibling_tables(table.path) if "uid" in table else []:
        other = read_cs(path, {"uid", *names})
        if not other.has("uid", *required):
            continue
        position = find_uids(table["uid"], other["uid"])
        if position is None or np.any(position < 0):
            tried.append(os.path.basename(path))
            continue
        columns = {name: other[name][position] for name in names if name in other}
        own = {name: column for name, column in table.columns.items() if name not in names}
        joined = dict.fromkeys(columns, other.path)
        return replace(table, columns=own | columns, joined={**table.joined, **joined})
    beside = f" ({', '.join(tried)} beside it lacks some of its particles or repeats a uid)" if tried else ""
    raise InputError(
        f"{table.path} lacks {what} ({', '.join(required)}), and no other particle table in its folder has them for all of its "
        f"particles{beside}. Put the job's other .cs files beside it, or export the particles from cryoSPARC again."
        f"{_as_job(os.path.dirname(table.path))}"
    )


def _as_job(directory: str) -> str:
    """A sentence on how to convert the directory of a job; '' if it does not have the name of one."""
    job = job_of(directory)
    if job is None:
        return ""
    return (
        f" To convert the restacked or downsampled images of the job, use `cryolike-dask convert cryosparc-job {job.folder_cryosparc} "
        f"{job.job_number}` (in Python, particles_from_cryosparc_job)."
    )


def find_uids(uids: npt.NDArray[Any], among: npt.NDArray[Any]) -> npt.NDArray[np.int64] | None:
    """(n,) position of each uid in `among`, -1 if it is not there; None if a uid occurs twice in `among`."""
    order = np.argsort(among, kind="stable")
    ordered = among[order]
    if np.any(ordered[1:] == ordered[:-1]):
        return None
    nearest = np.minimum(np.searchsorted(ordered, uids), len(ordered) - 1)
    return np.where(ordered[nearest] == uids, order[nearest], -1).astype(np.int64)


def _read_npy(path: str, beginning: bytes, wanted: Collection[str]) -> tuple[tuple[str, ...], npt.NDArray[np.void]]:
    header_bytes = int.from_bytes(beginning[8:10] if beginning[6] == 1 else beginning[8:12], "little")
    if header_bytes > _MAX_HEADER_BYTES:
        raise InputError(
            f"{path} states a header of {header_bytes:,} bytes, but a table may have at most {_MAX_HEADER_BYTES:,}. "
            "Export the particles from cryoSPARC again."
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # warnings about headers written by Python 2, which are fine, or damaged ones, which fail below
            stored = np.load(path, mmap_mode="r", allow_pickle=False, max_header_size=_MAX_HEADER_BYTES)
        size = os.stat(path).st_size
    except UNREADABLE_ARRAY as error:
        raise InputError(_unreadable(path, error)) from error
    names = stored.dtype.names
    if stored.ndim != 1 or names is None:
        raise InputError(f"{path} is a numpy array without named columns, not a cryoSPARC table. Give a .cs file.")
    if stored.offset + stored.nbytes != size:
        raise InputError(
            f"{path} is damaged: its header ({stored.offset} bytes) states {len(stored)} rows of {stored.dtype.itemsize} bytes, "
            f"and the file has {size} bytes. Copy it again from where it came from."
        )
    if len({kind for name in names if (kind := stored.dtype[name].base.str[0]) in "<>"}) > 1:
        raise InputError(f"{path} is damaged: its columns have different byte orders. Copy it again from where it came from.")
    present = [name for name in names if name in wanted]
    rows = np.empty(len(stored), dtype=[(name, stored.dtype[name]) for name in present])
    # Reads the file once, in parts: each column is spread over the whole file, and the file can be larger than memory.
    for start in range(0, len(stored), _CHUNK_ROWS):
        part = stored[start : start + _CHUNK_ROWS]
        for name in present:
            rows[name][start : start + len(part)] = part[name]
    return tuple(names), rows


def _as_uids(path: str, column: npt.NDArray[Any]) -> npt.NDArray[np.uint64]:
    if column.dtype.kind not in "iu" or column.ndim != 1:
        raise InputError(f"The column uid of {path} is of type {column.dtype}: whole numbers are needed, one per particle.")
    return column.astype(np.uint64)


def _unreadable(path: str, error: BaseException) -> str:
    # What NumPy says if columns hold Python objects, memory-mapped or not.
    if any(phrase in str(error) for phrase in ("Python objects", "Object arrays", "allow_pickle")):
        return (
            f"{path} stores its paths as Python objects, which are never unpickled here, because that could run a program hidden in "
            "the file. Export the particles from cryoSPARC again, or, if you trust the file, write it again in Python with "
            "cryosparc-tools: `Dataset(np.load(FILE, allow_pickle=True)).save(NEW)`."
        )
    return f"{path} is damaged: it cannot be read as a cryoSPARC table ({error}). Copy it again from where it came from."
