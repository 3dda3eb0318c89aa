"""Reads, checks and interprets the headers of MRC image files."""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from cryolike_dask.errors import InputError, MissingFileError
from cryolike_dask.filesystem.file_kind import foreign_content
from cryolike_dask.filesystem.reading import open_regular_file
from cryolike_dask.formatting import format_file_state, plural
from cryolike_dask.mrc.compressed import detect_compression, read_first_bytes

HEADER_BYTES = 1024
IMAGE_FILE = "an image file"
_MAX_COMPRESSED_PIXELS = 1 << 28  # 16384 x 16384, as large as micrographs get; a whole image is kept in memory
_MAX_COMPRESSED_EXTENDED_HEADER = 1 << 26  # bytes that are decompressed before the first image
_MAX_EDGE = 65535  # in the wrong byte order, an edge up to this reads as more than this, so only one order is plausible
_DTYPES_BY_MODE = {0: "i1", 1: "i2", 2: "f4", 6: "u2", 12: "f2"}
_UNSUPPORTED_MODES = {3: "complex 16-bit integers", 4: "complex floats, a Fourier transform", 101: "packed 4-bit integers"}
_IMOD_STAMP, _IMOD_SIGNED_BYTES, _IMOD_PACKED = 1146047817, 1, 16
_MAX_ERRORS_SHOWN = 10


@dataclass(frozen=True)
class ImageFile:
    """What the header of an image file says, and the state of the file when it was read.

    Args:
        path: path of the file.
        n_images, n_rows, n_columns: number and shape of its images; a two-dimensional file has one.
        dtype: numpy type of a pixel on disk, with byte order, such as '<f4'.
        data_offset: bytes before the first image, after decompression.
        pixel_size: Å; NaN if it is not believable (0, 1, not finite, or different along rows and columns).
        compression: '', 'gz' or 'bz2'.
        size: bytes on disk.
        mtime_ns: time of the last change on disk, so that a later change can be noticed.
    """

    path: str
    n_images: int
    n_rows: int
    n_columns: int
    dtype: str
    data_offset: int
    pixel_size: float
    compression: str
    size: int
    mtime_ns: int

    @property
    def image_bytes(self) -> int:
        """Bytes of one image, after decompression."""
        return self.n_rows * self.n_columns * np.dtype(self.dtype).itemsize

    def change(self, now: os.stat_result) -> str:
        """How the file has changed since its header was read; '' if it has not."""
        if (now.st_size, now.st_mtime_ns) == (self.size, self.mtime_ns):
            return ""
        return f"{format_file_state(self.size, self.mtime_ns)} then, {format_file_state(now.st_size, now.st_mtime_ns)} now"


def read_header(path: str | os.PathLike[str]) -> ImageFile:
    """Read and check the header of an MRC file, plain or compressed, without reading an image.

    Raises:
        InputError: the file is missing, is something else (Git LFS pointer, HTML page, empty), has a header that makes no sense or
            a data type that cannot hold real images, or is not as long as its header says. The length of a compressed file is known
            only after its images are read.
    """
    try:
        return _read_header(os.fspath(path))
    except (FileNotFoundError, NotADirectoryError):
        raise MissingFileError(f"The image file {path} does not exist. Check the path.", [os.fspath(path)]) from None


def scan_headers(paths: Sequence[str], n_threads: int = 16) -> list[ImageFile | None]:
    """Read the headers of many files in parallel, in the order of `paths`; None for a file that does not exist.

    Raises:
        InputError: some files exist but cannot be used; the message lists their faults.
    """
    with ThreadPoolExecutor(max_workers=n_threads) as pool:
        found = list(pool.map(_header_or_error, paths))
    errors = [str(outcome) for outcome in found if isinstance(outcome, InputError)]
    if len(errors) == 1:
        raise InputError(errors[0])
    if errors:
        more = f" And {len(errors) - _MAX_ERRORS_SHOWN} more." if len(errors) > _MAX_ERRORS_SHOWN else ""
        raise InputError(f"{len(errors)} image files cannot be used. {' '.join(errors[:_MAX_ERRORS_SHOWN])}{more}")
    return [outcome for outcome in found if not isinstance(outcome, InputError)]


def _header_or_error(path: str) -> ImageFile | InputError | None:
    try:
        return _read_header(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except InputError as error:
        return error


def _read_header(path: str) -> ImageFile:
    try:
        fd = open_regular_file(path, IMAGE_FILE)
        try:
            found = os.fstat(fd)
            start = os.pread(fd, HEADER_BYTES, 0)
            compression = detect_compression(start)
            if compression:
                start = read_first_bytes(path, fd, compression, HEADER_BYTES)
        finally:
            os.close(fd)
    except (FileNotFoundError, NotADirectoryError):
        raise
    except OSError as error:
        raise InputError(f"The image file {path!r} cannot be read: {error}.") from error
    return _parse(path, start, compression, found)


def _parse(path: str, start: bytes, compression: str, found: os.stat_result) -> ImageFile:
    foreign = foreign_content(start)
    if foreign:
        raise InputError(f"{path} is {foreign}.")
    if len(start) < HEADER_BYTES:
        raise InputError(f"{path} is not an MRC file: it has {len(start)} bytes, fewer than the {HEADER_BYTES} of an MRC header.")
    order = _byte_order(path, start)
    n_columns, n_rows, n_images, mode = struct.unpack_from(f"{order}4i", start, 0)
    axes = struct.unpack_from(f"{order}3i", start, 64)
    (extended_bytes,) = struct.unpack_from(f"{order}i", start, 92)
    if n_images < 1 or extended_bytes < 0:
        raise InputError(
            f"The MRC header of {path} makes no sense: {n_images} images, {extended_bytes} bytes of extended header. "
            "Copy or write the file again."
        )
    if axes not in ((1, 2, 3), (0, 0, 0)):
        raise InputError(
            f"{path} stores its axes in the order {axes} (MAPC, MAPR, MAPS); only files in the order (1, 2, 3) are read. "
            "Write it again with the axes in that order."
        )
    file = ImageFile(
        path=path,
        n_images=n_images,
        n_rows=n_rows,
        n_columns=n_columns,
        dtype=_pixel_dtype(path, start, order, mode),
        data_offset=HEADER_BYTES + extended_bytes,
        pixel_size=_pixel_size(start, order),
        compression=compression,
        size=found.st_size,
        mtime_ns=found.st_mtime_ns,
    )
    if compression:
        _check_cost(file)
    else:
        _check_size(file)
    return file


def _check_cost(file: ImageFile) -> None:
    """Refuse a compressed file that would unpack to too much; its size on disk says little about that."""
    if file.n_rows * file.n_columns > _MAX_COMPRESSED_PIXELS:
        raise InputError(
            f"{file.path} is compressed and states images of {file.n_rows} × {file.n_columns} pixels; compressed ones may have "
            f"{_MAX_COMPRESSED_PIXELS:,} at most. Decompress it first."
        )
    if file.data_offset - HEADER_BYTES > _MAX_COMPRESSED_EXTENDED_HEADER:
        raise InputError(
            f"{file.path} is compressed and states an extended header of {file.data_offset - HEADER_BYTES:,} bytes; in a compressed "
            f"file it may have {_MAX_COMPRESSED_EXTENDED_HEADER:,} at most. Decompress it first."
        )


def _check_size(file: ImageFile) -> None:
    stated = f"{plural(file.n_images, 'image')} of {file.n_rows} × {file.n_columns} ({file.dtype})"
    end = file.data_offset + file.n_images * file.image_bytes
    if file.size < end:
        complete = max(0, (file.size - file.data_offset) // file.image_bytes)
        raise InputError(
            f"{file.path} is too short: its header states {stated}, and image {complete + 1} (counted from 1) is missing or "
            f"cut off after {file.size} bytes. Copy the file again from where it came from."
        )
    if file.size > end:
        # If the header states the wrong length of the extended header, reading on would give shifted images.
        raise InputError(
            f"{file.path} is too long: its header states {stated} after {file.data_offset} bytes, {end} in all, and it has "
            f"{file.size}. Write it again; if you are sure that the rest is not needed, cut it off with `truncate -s {end}`."
        )


def _byte_order(path: str, header: bytes) -> str:
    """The byte order in which the image edges make sense. Machine stamps are often missing or wrong, and are not used."""
    for order in "<>":
        if all(1 <= edge <= _MAX_EDGE for edge in struct.unpack_from(f"{order}2i", header, 0)):
            return order
    raise InputError(f"{path} is not an MRC file: its first numbers are not the edges of an image in either byte order.")


def _pixel_dtype(path: str, header: bytes, order: str, mode: int) -> str:
    if mode in _UNSUPPORTED_MODES:
        raise InputError(f"{path} has MRC mode {mode} ({_UNSUPPORTED_MODES[mode]}). Convert it to 32-bit floats (mode 2).")
    if mode not in _DTYPES_BY_MODE:
        known = ", ".join(map(str, _DTYPES_BY_MODE))
        raise InputError(f"{path} has MRC mode {mode}, which is not supported; modes {known} are. Convert it to mode 2.")
    if mode == 0:
        # IMOD marks its files, and in those bytes are signed only if a flag says so.
        stamp, flags = struct.unpack_from(f"{order}2i", header, 152)
        if stamp == _IMOD_STAMP and flags & _IMOD_PACKED:
            raise InputError(
                f"{path} holds {_UNSUPPORTED_MODES[101]} (an IMOD flag says so). Convert it to 32-bit floats (mode 2)."
            )
        return "|u1" if stamp == _IMOD_STAMP and not flags & _IMOD_SIGNED_BYTES else "|i1"
    return np.dtype(order + _DTYPES_BY_MODE[mode]).str


def _pixel_size(header: bytes, order: str) -> float:
    """The pixel size in Å, or NaN if the header does not state a believable one."""
    samples = struct.unpack_from(f"{order}2i", header, 28)
    cell = struct.unpack_from(f"{order}2f", header, 40)
    if min(samples) < 1 or not all(math.isfinite(edge) and edge > 0 for edge in cell):
        return math.nan
    along_columns, along_rows = cell[0] / samples[0], cell[1] / samples[1]
    if not math.isclose(along_columns, along_rows, rel_tol=1e-4) or math.isclose(along_columns, 1.0, rel_tol=1e-6):
        return math.nan
    return float(along_columns)
