"""Particles of a cryoSPARC job directory: numbered batch files, and one table that describes their images."""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cryolike_dask.errors import InputError, MissingFileError
from cryolike_dask.filesystem.paths import input_path
from cryolike_dask.formatting import first_few, is_or_are, plural
from cryolike_dask.options import described_by
from cryolike_dask.particles.cryosparc.alignments import fill_alignments
from cryolike_dask.particles.cryosparc.batches import BatchFiles, batch_number, find_batches
from cryolike_dask.particles.cryosparc.columns import (
    BLOB,
    BLOB_REQUIRED,
    COLUMNS,
    fill_ctf,
    fill_image_size,
    fill_pixel_size,
    fill_sign,
    image_indexes,
    recorded_paths,
    with_ctf,
)
from cryolike_dask.particles.cryosparc.table import CsTable, find_uids, read_cs, sibling_tables
from cryolike_dask.particles.inputs import CryosparcJobInput
from cryolike_dask.particles.table import ParticleTable, Source, new_rows

ORDER_NOT_VERIFIED = "order not verified"


@dataclass(frozen=True)
class _ImageLocations:
    """Where the image of each row is, according to a table of the job.

    Args:
        file, index: (n,) position of the file in the batches and index in the file; meaningless if the row has no image.
        has_image: (n,) whether the row has an image in the batches.
        blob: the image columns of each row.
    """

    file: npt.NDArray[np.int64]
    index: npt.NDArray[np.int64]
    has_image: npt.NDArray[np.bool_]
    blob: CsTable


@described_by(CryosparcJobInput)
def particles_from_cryosparc_job(
    folder_cryosparc: str | os.PathLike[str] = "", job_number: int = 0, *, n_images_max: int | None = None
) -> ParticleTable:
    """Read the particles of a cryoSPARC job directory `folder_cryosparc/JN`. Only the headers of the image files are read.

    `JN_passthrough_particles.cs` describes the images of `restack/batch_NUMBER_restacked.mrc`, or, if there are none, of
    `downsample/batch_NUMBER_downsample.mrc`. Numbers start at 0 and may be padded with zeros; reading stops at the first gap.

    Particles are in the order of the table. If a table of the job records the file and index of each image, the uid of a row says which
    image it describes. Otherwise row k describes image k of the sequence, with a warning, and the source gets the note
    'order not verified'. The pixel size is read only from a table that records these images, because others may mean the
    images before they were restacked or downsampled. CTF columns that the table lacks are looked up by uid in the job's other
    tables.

    Args:
        n_images_max: read only this many particles; None for all.

    Raises:
        InputError: a file is missing or wrong, there are more images than rows, or uids or recorded paths contradict the order.
            If there are more rows than images, the remaining rows are not used, with a warning.

    Example:
        >>> len(particles_from_cryosparc_job("P3", 42))
        12
    """
    directory = _job_directory(folder_cryosparc, job_number)
    if n_images_max is not None and n_images_max < 1:
        raise InputError(f"n_images_max is {n_images_max}: give the largest number of images, at least 1, or None for all.")
    table = with_ctf(read_cs(_table_path(directory, job_number), COLUMNS))
    batches = find_batches(directory)
    _check_counts(table, batches)
    locations = _locate_by_uid(table, batches)
    rows = new_rows(len(table))
    rows["row"] = np.arange(len(table))
    groups, warnings = fill_ctf(rows, table)
    warnings += fill_alignments(rows, table)
    notes: tuple[str, ...]
    if locations is None:
        rows = rows[: batches.n_images]
        rows["file"], rows["index"] = _all_images_in_order(batches)
        notes = (ORDER_NOT_VERIFIED,)
        warnings.append(
            f"No table of {directory} records which image each particle of {table.path} has: row k is taken to describe image k of "
            f"{batches.folder}, in the order of the files ({ORDER_NOT_VERIFIED})."
        )
    else:
        rows["file"], rows["index"] = locations.file, locations.index
        warnings += fill_pixel_size(rows, locations.blob)
        fill_image_size(rows, locations.blob)
        notes, mixed = fill_sign(rows, locations.blob)
        warnings += mixed
        rows = rows[locations.has_image]
    without_image = np.setdiff1d(np.arange(len(table)), rows["row"])
    rows = rows[:n_images_max]
    if len(rows) == n_images_max:
        without_image = without_image[:0]
        if len(rows) < len(table):
            warnings.append(_unused(table, len(table) - len(rows), f"n_images_max is {n_images_max}"))
    warnings += _left_out(table, batches, len(without_image))
    skipped = tuple(f"{table.path}, particle {row + 1}: {batches.folder} has no image of it" for row in without_image.tolist())
    files = tuple(file.path for file in batches.files)
    return ParticleTable(rows, files, (Source("cryosparc-job", table.path, notes=notes),), groups, tuple(warnings), skipped)


def _left_out(table: CsTable, batches: BatchFiles, n_without_image: int) -> list[str]:
    """Warnings about files after a gap in the numbers, and about rows without an image."""
    lines = []
    if batches.after_gap:
        lines.append(
            f"{batches.folder} has no {batches.missing}: reading stops there. Not read: {plural(len(batches.after_gap), 'later file')} "
            f"({first_few(batches.after_gap, 5)})."
        )
    if n_without_image:
        files = plural(len(batches.files), "file")
        held = f"the {files} in {batches.folder} hold{'s' if len(batches.files) == 1 else ''} {plural(batches.n_images, 'image')}"
        lines.append(
            f"{_unused(table, n_without_image, held)} These particles are left out. If the job has a file {batches.missing}, copy it "
            "there and convert again."
        )
    return lines


def _unused(table: CsTable, n: int, reason: str) -> str:
    return f"{n:,} of the {len(table):,} rows of {table.path} {is_or_are(n)} unused: {reason}."


def _job_directory(folder: str | os.PathLike[str], job_number: int) -> str:
    if isinstance(job_number, bool) or not isinstance(job_number, (int, np.integer)) or job_number < 0:
        raise InputError(f"job_number is {job_number!r}: give the number N of the job directory JN, a whole number of at least 0.")
    parent = input_path(folder)
    directory = parent / f"J{job_number}"
    if not directory.is_dir():
        if not parent.is_dir():
            raise MissingFileError(
                f"The folder {parent}, which should hold the job directory J{job_number}, does not exist. Check the path."
            )
        if parent.name == directory.name:
            raise MissingFileError(
                f"{parent} has the name of the job directory itself: give the folder that holds it, {parent.parent}, and the number "
                f"{job_number}."
            )
        others = sorted(path.name for path in parent.glob("J*") if path.is_dir())
        there = f"there are {first_few(others, 5)}" if others else "there is no job directory at all"
        raise MissingFileError(
            f"The job directory {directory} does not exist; in {parent} {there}. Check the folder and the number of the job."
        )
    return str(directory)


def _table_path(directory: str, job_number: int) -> str:
    path = os.path.join(directory, f"J{job_number}_passthrough_particles.cs")
    if os.path.exists(path):
        return path
    # Some versions of cryoSPARC put the name of the project first, as in P45_J103_passthrough_particles.cs.
    found = sorted(str(other) for other in Path(directory).glob(f"*_J{job_number}_passthrough_particles.cs"))
    if len(found) == 1:
        return found[0]
    others = [os.path.basename(other) for other in sibling_tables(path)]
    hint = (
        f" Of the tables there ({first_few(others, 5)}), one with blob/path can be converted as an indexed .cs file."
        if others
        else ""
    )
    raise MissingFileError(f"The job directory has no table {path}. Copy it there from the cryoSPARC project.{hint}")


def _check_counts(table: CsTable, batches: BatchFiles) -> None:
    """Refuse a table with fewer rows than there are images; it may have more."""
    n_rows, n_images = len(table), batches.n_images
    if n_images > n_rows:
        count = ", ".join(f"{os.path.basename(file.path)}: {file.n_images}" for file in batches.files[:10])
        more = ", ..." if len(batches.files) > 10 else ""
        files = plural(len(batches.files), "file")
        raise InputError(
            f"{table.path} describes {plural(n_rows, 'image')}, and the {files} in {batches.folder} hold {n_images:,} "
            f"({count}{more}), so it is not clear which row belongs to which image. Give the table that belongs to these files."
        )


def _all_images_in_order(batches: BatchFiles) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """File and index of every image, one file after the other."""
    counts = [file.n_images for file in batches.files]
    return np.repeat(np.arange(len(counts)), counts), np.concatenate([np.arange(count) for count in counts])


def _locate_by_uid(table: CsTable, batches: BatchFiles) -> _ImageLocations | None:
    """The image of each row according to the first table of the job that records these files; None if there is no such table."""
    if "uid" not in table:
        return None
    for other in chain([table], (read_cs(path, {"uid", *BLOB}) for path in sibling_tables(table.path))):
        if not other.has("uid", *BLOB_REQUIRED):
            continue
        recorded, code = recorded_paths(other)
        number_of = np.array([batch_number(path, batches) for path in recorded], dtype=np.int64)
        if np.all(number_of < 0):
            continue
        position = np.arange(len(table)) if other is table else find_uids(table["uid"], other["uid"])
        if position is None:
            raise InputError(f"{other.path} has the same uid twice, so its images cannot be distinguished. Export it again.")
        file = np.where(position >= 0, number_of[code[position]], -1)
        index = np.where(position >= 0, image_indexes(other)[position], -1)
        has_image = (file >= 0) & (file < len(batches.files))
        _check_one_row_per_image(table, other, batches, file[has_image], index[has_image])
        _check_no_row_skipped(table, other, has_image | ((file >= 0) & bool(batches.after_gap)), int(np.flatnonzero(has_image)[-1]))
        columns = {name: other[name][np.maximum(position, 0)] for name in BLOB if name in other}
        joined = {} if other is table else dict.fromkeys(columns, other.path)
        return _ImageLocations(file, index, has_image, CsTable(table.path, other.names, columns, len(table), joined))
    return None


def _check_one_row_per_image(
    table: CsTable, other: CsTable, batches: BatchFiles, file: npt.NDArray[np.int64], index: npt.NDArray[np.int64]
) -> None:
    """Refuse tables by which an image does not belong to exactly one row."""
    first = np.cumsum([0, *(header.n_images for header in batches.files)])
    beyond = np.flatnonzero(index >= np.diff(first)[file])
    if len(beyond):
        header, wrong = batches.files[file[beyond[0]]], int(index[beyond[0]])
        raise InputError(
            f"{other.path} names image {wrong} (counted from 0) of {header.path}, which has {plural(header.n_images, 'image')}."
        )
    times = np.bincount(first[file] + index, minlength=batches.n_images)
    wrong_image = np.flatnonzero(times != 1)
    if len(wrong_image):
        image = int(wrong_image[0])
        in_file = int(np.searchsorted(first, image, side="right")) - 1
        path = batches.files[in_file].path
        raise InputError(
            f"Image {image - int(first[in_file])} (counted from 0) of {path} belongs to {times[image] or 'no'} particles of {table.path}, "
            f"by the uids in {other.path}, but must belong to one. Copy the job's tables again."
        )


def _check_no_row_skipped(table: CsTable, other: CsTable, accounted_for: npt.NDArray[np.bool_], last: int) -> None:
    """Refuse a row without an image before rows with images, unless its image is in a file after a gap."""
    without = np.flatnonzero(~accounted_for[:last])
    if len(without):
        raise InputError(
            f"{table.path}, particle {int(without[0]) + 1} has no image in the job directory, by its uid in {other.path}, but later "
            "particles have. Copy the missing image files or the job's tables again."
        )
