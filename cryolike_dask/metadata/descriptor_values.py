"""Which values an image descriptor accepts, and how it stores them.

It stores plain numbers and strings, so that nobody needs CryoLike's classes to read a params file. It also accepts what CryoLike's users
have: CryoLike's enumerations, names in any case, and arrays with a single content.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from enum import Enum
from types import MappingProxyType
from typing import Any

import numpy as np

from cryolike_dask.errors import InputError
from cryolike_dask.grids.cartesian_grid import pair_of

PRECISIONS: Mapping[str, str] = MappingProxyType({"single": "single", "double": "double", "default": "single", "": "single"})
# CryoLike stores 'default' as it is: which shape it stands for depends on the kind of template.
ATOM_SHAPES: Mapping[str, str] = MappingProxyType(
    {
        "hard-sphere": "hard-sphere",
        "hard_sphere": "hard-sphere",
        "hard": "hard-sphere",
        "gaussian": "gaussian",
        "gauss": "gaussian",
        "default": "default",
    }
)


class SerializedImageDescriptor(dict[str, Any]):
    """The values of an image descriptor under the keys of a params file, also as attributes; see `ImageDescriptor.serialize`."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None

    def model_dump(self) -> dict[str, Any]:
        """The values as a plain dictionary, as the method of CryoLike's class returns it."""
        return dict(self)


def checked_values(given: Mapping[str, Any]) -> dict[str, Any]:
    """The given values as an image descriptor stores them: checked, complete, and of plain types.

    Raises:
        InputError: a value is out of range, or CryoLike does not know it.
    """
    n_pixels, pixel_size = pair_of(given["n_pixels"], int, "n_pixels"), pair_of(given["pixel_size"], float, "pixel_size")
    if min(n_pixels) < 2:
        raise InputError(f"n_pixels is {n_pixels}: an image needs at least 2 × 2 pixels.")
    if min(pixel_size) <= 0:
        raise InputError(f"pixel_size is {pixel_size}: give the pixel size in Å, a positive number.")
    radius_max = number(given["radius_max"], "radius_max")

    def optional(key: str, check: Callable[[Any, str], Any], default: Any) -> Any:
        return default if is_absent(given[key]) else check(given[key], key)

    return {
        "n_pixels": n_pixels,
        "pixel_size": pixel_size,
        "radius_max": radius_max,
        "dist_radii": number(given["dist_radii"], "dist_radii"),
        "n_inplanes": integer(given["n_inplanes"], "n_inplanes"),
        "precision": choice(given["precision"], PRECISIONS, "precision"),
        "viewing_distance": optional("viewing_distance", number, default_viewing_distance(radius_max / (min(n_pixels) * 0.25))),
        "atom_radii": optional("atom_radii", finite_number, None),
        "atom_selection": optional("atom_selection", string, None),
        # CryoLike cannot load these two, or the viewing distance, as absent values.
        "use_protein_residue_model": optional("use_protein_residue_model", boolean, True),
        "atom_shape": optional("atom_shape", lambda value, name: choice(value, ATOM_SHAPES, name), "gaussian"),
    }


def default_viewing_distance(resolution_factor: float) -> float:
    """CryoLike's default, computed as CryoLike does so that it is the same to the last bit."""
    return 1.0 / (4.0 * math.pi) / resolution_factor


def is_absent(value: Any) -> bool:
    """Whether this means that there is no value: None, an array without elements, or an array of None."""
    return value is None or (isinstance(value, np.ndarray) and (value.size == 0 or (value.size == 1 and value.item() is None)))


def single_value(value: Any, name: str) -> Any:
    """The single content of a value: the value of an enumeration's member, or the element that an array repeats.

    Raises:
        InputError: an array holds different values.
    """
    if isinstance(value, np.ndarray) and value.size:
        first = value.flat[0]
        if value.size > 1 and any(other != first for other in value.flat):
            raise InputError(f"{name} is {value!r}: give one value; these differ.")
        return single_value(first, name)
    if isinstance(value, Enum):
        return value.value
    return value.item() if isinstance(value, np.generic) else value


def choice(value: Any, choices: Mapping[str, str], name: str) -> str:
    """The stored form of a name in `choices`, which may be given in any case or as a member of an enumeration.

    Raises:
        InputError: the name is not in `choices`.
    """
    given = single_value(value, name)
    if not isinstance(given, str) or given.lower() not in choices:
        listed = " or ".join(f"'{kept}'" for kept in dict.fromkeys(choices.values()))
        raise InputError(f"{name} is {given!r}: choose {listed}.")
    return choices[given.lower()]


def finite_number(value: Any, name: str) -> float:
    """The value as a finite number.

    Raises:
        InputError: it is not one.
    """
    given = single_value(value, name)
    if isinstance(given, bool) or not isinstance(given, (int, float)) or not math.isfinite(given):
        raise InputError(f"{name} is {given!r}: it must be a number.")
    return float(given)


def number(value: Any, name: str) -> float:
    """The value as a positive number.

    Raises:
        InputError: it is not one.
    """
    given = finite_number(value, name)
    if given <= 0:
        raise InputError(f"{name} is {given:g}: it must be a positive number.")
    return given


def integer(value: Any, name: str) -> int:
    """The value as a positive whole number.

    Raises:
        InputError: it is not one.
    """
    given = number(value, name)
    if given != int(given):
        raise InputError(f"{name} is {given:g}: it must be a whole number.")
    return int(given)


def string(value: Any, name: str) -> str:
    """The value as a string.

    Raises:
        InputError: it is not text.
    """
    given = single_value(value, name)
    if not isinstance(given, str):
        raise InputError(f"{name} is {given!r}: it must be text.")
    return given


def boolean(value: Any, name: str) -> bool:
    """The value as True or False; 1 and 0 are accepted, too.

    Raises:
        InputError: it is neither.
    """
    given = single_value(value, name)
    if not isinstance(given, (bool, int, float)) or given not in (0, 1):
        raise InputError(f"{name} is {given!r}: it must be True or False.")
    return bool(given)


def stated(values: Mapping[str, Any]) -> dict[str, str]:
    """The values that are not None, as text."""
    return {key: str(value) for key, value in values.items() if value is not None}


def described(values: Mapping[str, Any], n_shells: int) -> str:
    """Lines for people: '16 × 16 pixels of 3 Å>', the polar grid, and the other values that are not None.

    Args:
        values: the values of a descriptor, by name.
        n_shells: number of shells of its polar grid.
    """
    (n_x, n_y), size = values["n_pixels"], values["pixel_size"][0]
    finest = min(n_x, n_y) * size / (2 * values["radius_max"])
    grid = f"{n_shells} shells × {values['n_inplanes']} in-plane angles, up to {finest:.3g} Å, {values['precision']} precision"
    shown = ("n_pixels", "pixel_size", "n_inplanes", "precision")
    others = [f"{key}: {value}" for key, value in stated(values).items() if key not in shown]
    return "\n".join([f"{n_x} × {n_y} pixels of {size:g} Å>", f"polar grid  {grid}", *others])
