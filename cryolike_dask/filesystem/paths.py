"""One spelling of a path, so that a run can tell the same table or image file however its path is given."""

from __future__ import annotations

import os
from pathlib import Path

from cryolike_dask.errors import InputError


def absolute_path(path: str | os.PathLike[str]) -> str:
    """The absolute path without `.` and `..`, with symbolic links kept as far as possible."""
    absolute = os.path.join(os.getcwd(), path)
    shorter = os.path.normpath(absolute)
    if ".." not in absolute.split(os.sep):
        return shorter
    # If `link` is a symbolic link, `link/..` is not the folder that holds it.
    real = os.path.realpath(absolute)
    return shorter if os.path.realpath(shorter) == real else real


def input_path(path: str | os.PathLike[str]) -> Path:
    """The absolute path of an input that a user gives, as `absolute_path` spells it; `~` is expanded.

    Raises:
        InputError: it is not a path, or there is no such user.
    """
    if not isinstance(path, str | os.PathLike):
        raise InputError(f"{path!r} is of the type {type(path).__name__}: give a path, as text or as a Path.")
    try:
        return Path(absolute_path(Path(path).expanduser()))
    except RuntimeError as error:
        raise InputError(f"{path} begins with the home folder of an unknown user: give the path in full.") from error
