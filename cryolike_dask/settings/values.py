"""Checks of options that take values of several types. Each function returns the value that the settings keep."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from enum import Enum
from pathlib import Path
from typing import Any

from cryolike_dask.errors import InputError


def plain(value: Any) -> Any:
    """The value of a member of an enum, such as CryoLike's; other values are returned unchanged."""
    return value.value if isinstance(value, Enum) else value


def choice(name: str, value: Any, choices: tuple[str, ...]) -> str:
    """The choice with this name, in upper or lower case."""
    chosen = str(plain(value)).lower()
    if chosen not in choices:
        raise InputError(f"{name} is {value!r}: choose one of {', '.join(map(repr, choices))}.")
    return chosen


def flag(name: str, value: Any, kind: Any) -> bool | None:
    """True or False, also for 1 and 0; None if the type allows it."""
    if value is None and kind == bool | None:
        return None
    if value not in (0, 1):
        raise InputError(f"{name} is {value!r}: give True or False.")
    return bool(value)


def one_pixel_size(value: Any) -> float | None:
    """Å per pixel, from a number or from an array or list of one or two equal numbers; None for -1, which means "not given" in CryoLike."""
    if value is None:
        return None
    listed = value.tolist() if hasattr(value, "tolist") else value  # arrays, tensors and their scalars
    try:
        sizes = [float(size) for size in listed] if isinstance(listed, list | tuple) else [float(listed)]
    except (TypeError, ValueError):
        sizes = []
    if len(sizes) not in (1, 2) or sizes[0] != sizes[-1] or not math.isfinite(sizes[0]) or (sizes[0] <= 0 and sizes[0] != -1):
        raise InputError(f"pixel_size is {value!r}: give Å per pixel, a positive number; two of them must be equal.")
    return None if sizes[0] == -1 else sizes[0]


def without_number(device: Any) -> Any:
    """A device without the number of the GPU, which must be 0."""
    name, _, number = str(plain(device)).lower().partition(":")
    if name == "cuda" and number.isdecimal() and int(number) > 0:
        raise InputError(
            f"device is {str(device)!r}, but each process computes on the GPU that it sees as number 0. To choose another GPU, set "
            f"CUDA_VISIBLE_DEVICES={number} in the environment of the process, or use all of them with local_cluster('cuda')."
        )
    return name if number in ("", "0") else device


def rows_or_file(value: Any) -> str | tuple[int, ...] | None:
    """The value of `ind`: the path of a file as text, or row numbers, or True or False for every row."""
    if value is None:
        return None
    if isinstance(value, str | os.PathLike):
        if not str(value):
            raise InputError("ind is empty: give a file of row numbers, or the numbers.")
        return os.fspath(value)
    listed = value.tolist() if hasattr(value, "tolist") else value  # arrays and columns of data frames
    rows = tuple(row.item() if hasattr(row, "item") else row for row in listed) if isinstance(listed, Iterable) else (listed,)
    kinds = {type(row) for row in rows}
    if not isinstance(listed, Iterable) or kinds not in ({int}, {bool}):
        what = " and ".join(sorted(kind.__name__ for kind in kinds)) or "nothing"
        raise InputError(
            f"ind holds {what}: give a one-dimensional list or array of row numbers, which are whole and count from 0, or of True and "
            "False for each row, or the path of a file of them."
        )
    return rows


def given_path(name: str, value: Any) -> Path:
    """The path, with `~` expanded."""
    if not isinstance(value, str | os.PathLike):
        raise InputError(f"{name} is {value!r}: give a path, as text or as a Path.")
    try:
        return Path(value).expanduser()
    except RuntimeError as error:
        raise InputError(f"{name} is {value!r}, in the home folder of an unknown user: give the path in full.") from error


def is_whole(value: Any) -> bool:
    """Whether this is a whole number, of any type."""
    try:
        return bool(int(value) == value)
    except (TypeError, ValueError, OverflowError):
        return False
