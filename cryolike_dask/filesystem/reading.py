"""Opens files of unknown origin: without waiting for pipes or devices, and with limits on the unpacked size of archives.

Every file that a user or another file can name is opened here. Libraries get the open file.
"""

from __future__ import annotations

import math
import os
import stat
import threading
import tokenize
import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from cryolike_dask.errors import InputError, MissingFileError
from cryolike_dask.filesystem.paths import input_path
from cryolike_dask.formatting import format_bytes

UNREADABLE_ARRAY = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    SyntaxError,
    LookupError,
    ArithmeticError,
    MemoryError,
    RecursionError,
    RuntimeError,
    NotImplementedError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
"""The errors that damaged `.npy` and `.npz` files cause; numpy evaluates their headers as Python literals."""

_KINDS = {
    stat.S_IFDIR: "folder",
    stat.S_IFIFO: "named pipe",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
    stat.S_IFSOCK: "socket",
}


class ObjectArrayError(ValueError):
    """An array holds Python objects, which are never unpickled from a file.

    Args:
        shape: of the array.
        pickle: the pickled content.
    """

    def __init__(self, shape: tuple[int, ...], pickle: bytes) -> None:
        super().__init__("it holds a Python object, which is never unpickled from a file")
        self.shape, self.pickle = shape, pickle


def existing_folder(path: str | os.PathLike[str], what: str) -> Path:
    """The folder at a path that the user gave; `~` is expanded.

    Args:
        path: of the folder.
        what: it should be, such as 'the output folder of a conversion'.

    Raises:
        InputError: it does not exist (the error is then also a FileNotFoundError), or is a file.
    """
    folder = input_path(path)
    if not folder.exists():
        raise MissingFileError(f"{folder} does not exist. Give {what}.")
    if not folder.is_dir():
        raise InputError(f"{folder} is a file, not a folder. Give {what}.")
    return folder


def open_regular_file(path: str | os.PathLike[str], what: str) -> int:
    """Open a file for reading, refusing folders, pipes and devices without opening or waiting for them.

    Args:
        path: the file.
        what: the expected kind of file, for messages, such as 'an image file'.

    Returns:
        its file descriptor.

    Raises:
        InputError: it is not a regular file, or not a valid path.
        OSError: it cannot be opened.
    """
    try:
        found = os.stat(path)
    except ValueError as error:
        raise InputError(f"{os.fspath(path)!r} cannot be read: {error}.") from error
    _check_regular(path, found, what)
    # The file may have been replaced meanwhile. Without O_NONBLOCK, opening a named pipe would wait forever.
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0))
    try:
        _check_regular(path, os.fstat(fd), what)
    except InputError:
        os.close(fd)
        raise
    return fd


def _check_regular(path: str | os.PathLike[str], found: os.stat_result, what: str) -> None:
    if not stat.S_ISREG(found.st_mode):
        kind = _KINDS.get(stat.S_IFMT(found.st_mode), "special file")
        raise InputError(f"{path} is a {kind}, not {what}. Correct the path.")


def open_input(path: str | os.PathLike[str], what: str) -> BinaryIO:
    """Open a file as `open_regular_file` does, as a binary stream."""
    return os.fdopen(open_regular_file(path, what), "rb")


def read_input(path: str | os.PathLike[str], what: str, most: int | None = None) -> bytes:
    """The content of a regular file.

    Args:
        path, what: as for `open_regular_file`.
        most: largest number of bytes that such a file may have; None for no limit.

    Raises:
        InputError: it is not a regular file, or is larger.
        OSError: it cannot be read.
    """
    with open_input(path, what) as file:
        content = file.read(-1 if most is None else most + 1)
    if most is not None and len(content) > most:
        raise InputError(f"{path} has more than {format_bytes(most)}, the most that {what} may have. Check the path.")
    return content


def open_archive(file: BinaryIO, path: str | os.PathLike[str], what: str, most: int) -> zipfile.ZipFile:
    """Open a zip archive whose members take at most `most` bytes together when they are unpacked.

    Raises:
        InputError: they take more.
        OSError, ValueError, zipfile.BadZipFile: the file is not an archive, or is damaged.
    """
    archive = zipfile.ZipFile(file)
    n_bytes = sum(member.file_size for member in archive.infolist())
    if n_bytes > most:
        archive.close()
        raise InputError(
            f"{path} would unpack to {format_bytes(n_bytes)}: {what} may take {format_bytes(most)} at most. It was not opened; get the "
            "file again from its source."
        )
    return archive


_parsing = threading.Lock()
"""Headers are Python literals, and Python 3.11 occasionally fails to parse two of them at the same time (SystemError, gh-106905)."""


def read_arrays(archive: zipfile.ZipFile, names: Collection[str] | None = None) -> dict[str, npt.NDArray[Any]]:
    """The arrays of an `.npz` archive: all, or those with one of these names.

    Raises:
        ObjectArrayError: an array holds Python objects.
        any of UNREADABLE_ARRAY: an array is damaged.
    """
    arrays = {}
    for member in archive.infolist():
        name = member.filename.removesuffix(".npy")
        if names is None or name in names:
            with archive.open(member) as stream:
                arrays[name] = read_array(stream, member.file_size)
    return arrays


def read_array(stream: Any, n_bytes: int) -> npt.NDArray[Any]:
    """The array of an `.npy` stream. It takes as much memory as there are bytes, whatever shape the header states.

    Args:
        stream: at the beginning of the array; read to its end.
        n_bytes: size of the stream.

    Raises:
        ObjectArrayError: it holds Python objects.
        any of UNREADABLE_ARRAY: it is damaged.
    """
    shape, is_fortran, dtype = read_array_header(stream)
    # Read with its size: without one, an archive that states too small a size would still be unpacked to its end.
    content = bytearray(n_bytes - stream.tell())
    if stream.readinto(content) != len(content):
        raise EOFError("it ends too early")
    if dtype.hasobject:
        raise ObjectArrayError(shape, bytes(content))
    if min(shape, default=0) < 0 or not dtype.itemsize or math.prod(shape) * dtype.itemsize != len(content):
        raise ValueError(f"its header states the shape {shape} of {dtype}, but there are {len(content)} bytes")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if is_fortran else "C")


def read_array_header(stream: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, Fortran order and type of the array of an `.npy` stream. Afterwards the stream is at the first byte of the data.

    Raises:
        any of UNREADABLE_ARRAY: it is damaged.
    """
    with _parsing:
        version = np.lib.format.read_magic(stream)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, is_fortran, dtype = read_header(stream)
    return shape, is_fortran, dtype


def read_array_file(path: Path, what: str) -> npt.NDArray[Any]:
    """The array of an `.npy` file.

    Raises:
        InputError: it is not a regular file.
        FileNotFoundError: it does not exist.
        any of UNREADABLE_ARRAY: it is damaged.
    """
    with open_input(path, what) as file:
        return read_array(file, os.fstat(file.fileno()).st_size)
