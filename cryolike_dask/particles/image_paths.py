"""Where the image files that a table records are on this machine: one rule for every source."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from cryolike_dask.errors import InputError


def resolve_image_paths(recorded: Sequence[str], folder: str | Path, table: str | Path) -> tuple[str, ...]:
    """The absolute path of each recorded image file.

    With a folder, only the file name counts and the file is looked for directly in that folder. Without one, the recorded path is
    taken as it is, relative to the working directory. No image file is opened or looked for.

    Args:
        recorded: distinct paths as the table has them, without prefixes such as `000001@` or `>`.
        folder: the folder that holds the image files, with `~` expanded; '' to use the recorded paths.
        table: the table that recorded them, for messages.

    Returns:
        One absolute path for each recorded one, in the same order; equal where two spellings (`./a.mrcs`, `a.mrcs`) mean one file.

    Raises:
        InputError: a path names no file, the folder does not exist, or two recorded files would become one in the folder.
    """
    for path in recorded:
        if not path.strip() or path.endswith("/") or os.path.basename(path) in (".", "..") or "\0" in path:
            raise InputError(f"{table} names an image file {path!r}, which is not the path of a file. Correct the table.")
    if not str(folder):
        return tuple(_absolute(path) for path in recorded)
    directory = _absolute(os.path.expanduser(folder))
    if not os.path.isdir(directory):
        raise InputError(
            f"The folder of the image files, {directory}, does not exist. Give the folder that holds the files of {table}."
        )
    _refuse_collapsing_names(recorded, directory, table)
    return tuple(os.path.join(directory, os.path.basename(path)) for path in recorded)


def _absolute(path: str) -> str:
    # `link/..` is not `.` where `link` is a symbolic link, so a path that goes up is resolved by the file system.
    return os.path.realpath(path) if ".." in path.split("/") else os.path.abspath(path)


def _refuse_collapsing_names(recorded: Sequence[str], directory: str, table: str | Path) -> None:
    first: dict[str, str] = {}
    for path in recorded:
        earlier = first.setdefault(os.path.basename(path), path)
        if _absolute(earlier) != _absolute(path):
            name = os.path.basename(path)
            raise InputError(
                f"{table} names both {earlier} and {path}: in the folder {directory} they would be one file, {name}. Leave the "
                "folder out so that the recorded paths are used, or give the files different names."
            )
