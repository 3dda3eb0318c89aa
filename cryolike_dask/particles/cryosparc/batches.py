"""Finds the image files of a cryoSPARC job directory, which are numbered batches."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from cryolike_dask.errors import InputError, MissingFileError
from cryolike_dask.formatting import first_few
from cryolike_dask.mrc.reader import ImageFile, scan_headers

_KINDS = {
    "restack": "restacked",
    "downsample": "downsample",
}  # folder, and the last part of its file names; the first folder with files is used
_FILE_NAME = "batch_{number}_{ending}.mrc"


@dataclass(frozen=True)
class BatchFiles:
    """The image files of a job, in order of their numbers, up to the first gap.

    Args:
        folder: folder of the files.
        pattern: pattern of their names, with the number as its only group.
        files: their headers; file k has number k.
        after_gap: names of the files that come after a gap in the numbers.
    """

    folder: str
    pattern: re.Pattern[str]
    files: tuple[ImageFile, ...]
    after_gap: tuple[str, ...]

    @property
    def n_images(self) -> int:
        return sum(file.n_images for file in self.files)

    @property
    def missing(self) -> str:
        """The name of the file that should come next, written as that of the last file."""
        last = os.path.basename(self.files[-1].path)
        digits = last.split("_")[1]
        number = str(len(self.files))
        return last.replace(digits, number.zfill(len(digits)) if digits.startswith("0") and len(digits) > 1 else number, 1)


def find_batches(directory: str) -> BatchFiles:
    """Find the restacked images of a job directory, or, if there are none, the downsampled ones.

    Raises:
        InputError: there are neither, file 0 is missing, or a file cannot be used.
    """
    for kind, ending in _KINDS.items():
        folder = os.path.join(directory, kind)
        pattern = re.compile(rf"batch_([0-9]+)_{ending}\.mrcs?")
        names = [name for name in os.listdir(folder) if _number(pattern, name) >= 0] if os.path.isdir(folder) else []
        if names:
            return _read_batches(folder, pattern, names)
    looked_for = " nor ".join(
        os.path.join(directory, kind, _FILE_NAME.format(number="NUMBER", ending=ending)) for kind, ending in _KINDS.items()
    )
    raise MissingFileError(f"There are no image files in the job directory: neither {looked_for}. Check the job number.")


def batch_number(path: str, batches: BatchFiles) -> int:
    """The number of the batch file that a recorded path names; -1 if it names another file, such as one of another job."""
    directory, kind = os.path.split(batches.folder)
    *parents, name = path.split("/")
    same_folder = parents[-1:] in ([], [kind])
    same_job = not re.fullmatch(r"J[0-9]+", parents[-2] if len(parents) > 1 else "") or parents[-2] == os.path.basename(directory)
    return _number(batches.pattern, name) if same_folder and same_job else -1


def _read_batches(folder: str, pattern: re.Pattern[str], names: list[str]) -> BatchFiles:
    by_number: dict[int, str] = {}
    for name in sorted(names):
        earlier = by_number.setdefault(_number(pattern, name), name)
        if earlier != name:
            raise InputError(
                f"{folder} has two files with one number, {earlier} and {name}. Remove the one that does not belong there."
            )
    if 0 not in by_number:
        first = by_number[min(by_number)]
        raise MissingFileError(
            f"{folder} has no file with number 0, where the sequence starts; the first is {first}. Copy the missing files."
        )
    n_files = next(number for number in range(len(by_number) + 1) if number not in by_number)
    paths = [os.path.join(folder, by_number[number]) for number in range(n_files)]
    files = scan_headers(paths)
    missing = [path for path, file in zip(paths, files, strict=True) if file is None]
    if missing:
        raise MissingFileError(
            f"Image files cannot be opened: {first_few(missing, 5)}. Check that the links in the job directory lead to files.",
            missing,
        )
    beyond = tuple(by_number[number] for number in sorted(by_number) if number >= n_files)
    return BatchFiles(folder, pattern, tuple(file for file in files if file is not None), beyond)


def _number(pattern: re.Pattern[str], name: str) -> int:
    """The number in the name of a batch file; -1 for other names."""
    match = pattern.fullmatch(name)
    return int(match[1]) if match else -1
