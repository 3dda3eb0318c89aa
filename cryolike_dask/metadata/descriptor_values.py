"""How the values of an image descriptor may be given, and how they are kept.

Kept are plain numbers and strings, so that a params file holds nothing that only CryoLike's classes could read. Given may be what
CryoLike's users have: its enumerations, names in any case, arrays with one content.
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
# 'default' is a value of its own in CryoLike: what it stands for depends on the kind of template.
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
    """The values of an image descriptor under the keys of a params file, also as attributes. `ImageDescriptor.serialize` makes it."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None

    def model_dump(self) -> dict[str, Any]:
        """A plain dictionary of the values, as CryoLike's class has it."""
        return dict(self)


def checked_values(given: Mapping[str, Any]) -> dict[str, Any]:
    """What an image descriptor keeps of the values that it is given: checked, complete, and of plain types.

    Raises:
        InputError: a value is out of range, or none that CryoLike knows.
    """
    n_pixels, pixel_size = pair_of(given["n_pixels"], int, "n_pixels"), pair_of(given["pixel_size"], float, "pixel_size")
    if min(n_pixels) < 2:
        raise InputError(f"n_pixels is {n_pixels}: an image needs at least 2 x 2 pixels.")
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
        # CryoLike loads neither of these two, nor a viewing distance, as an absent value.
        "use_protein_residue_model": optional("use_protein_residue_model", boolean, True),
        "atom_shape": optional("atom_shape", lambda value, name: choice(value, ATOM_SHAPES, name), "gaussian"),
    }


def default_viewing_distance(resolution_factor: float) -> float:
    """CryoLike's default; as it computes it, to the last bit."""
    return 1.0 / (4.0 * math.pi) / resolution_factor


def is_absent(value: Any) -> bool:
    """Whether it stands for no value: None, an array without elements, or an array of None."""
    return value is None or (isinstance(value, np.ndarray) and (value.size == 0 or (value.size == 1 and value.item() is None)))


def single_value(value: Any, name: str) -> Any:
    """The one content of a value: an enumeration's value, an array's equal elements.

    Raises:
        InputError: an array holds different values.
    """
    if isinstance(value, np.ndarray) and value.size:
        first = value.flat[0]
        if value.size > 1 and any(other != first for other in value.flat):
            raise InputError(f"{name} is {value!r}: one value is needed, and these differ.")
        return single_value(first, name)
    if isinstance(value, Enum):
        return value.value
    return value.item() if isinstance(value, np.generic) else value


def choice(value: Any, choices: Mapping[str, str], name: str) -> str:
    """The kept form of a name out of `choices`, given in any case or as an enumeration's member.

    Raises:
        InputError: it is none of them.
    """
    given = single_value(value, name)
    if not isinstance(given, str) or given.lower() not in choices:
        listed = " or ".join(f"'{kept}'" for kept in dict.fromkeys(choices.values()))
        raise InputError(f"{name} is {given!r}: choose {listed}.")
    return choices[given.lower()]


def finite_number(value: Any, name: str) -> float:
    """A finite number.

    Raises:
        InputError: it is none.
    """
    given = single_value(value, name)
    if isinstance(given, bool) or not isinstance(given, (int, float)) or not math.isfinite(given):
        raise InputError(f"{name} is {given!r}: it must be a number.")
    return float(given)


def number(value: Any, name: str) -> float:
    """A positive number.

    Raises:
        InputError: it is none.
    """
    given = finite_number(value, name)
    if given <= 0:
        raise InputError(f"{name} is {given:g}: it must be a positive number.")
    return given


def integer(value: Any, name: str) -> int:
    """A positive whole number.

    Raises:
        InputError: it is none.
    """
    given = number(value, name)
    if given != int(given):
        raise InputError(f"{name} is {given:g}: it must be a whole number.")
    return int(given)


def string(value: Any, name: str) -> str:
    """A string.

    Raises:
        InputError: it is none.
    """
    given = single_value(value, name)
    if not isinstance(given, str):
        raise InputError(f"{name} is {given!r}: it must be text.")
    return given


def boolean(value: Any, name: str) -> bool:
    """True or False, also as 1 or 0.

    Raises:
        InputError: it is neither.
    """
    given = single_value(value, name)
    if not isinstance(given, (bool, int, float)) or given not in (0, 1):
        raise InputError(f"{name} is {given!r}: it must be True or False.")
    return bool(given)


def stated(values: Mapping[str, Any]) -> dict[str, str]:
    """The values that there are, as text."""
    return {key: str(value) for key, value in values.items() if value is not None}


def described(values: Mapping[str, Any], n_shells: int) -> str:
    """Lines for people: '16 × 16 pixels of 3 Å>', the polar grid, and the other values that there are.

    Args:
        values: of a descriptor, by name.
        n_shells: of its polar grid.
    """
    (n_x, n_y), size = values["n_pixels"], values["pixel_size"][0]
    finest = min(n_x, n_y) * size / (2 * values["radius_max"])
    grid = f"{n_shells} shells × {values['n_inplanes']} in-plane angles, up to {finest:.3g} Å, {values['precision']} precision"
    told = ("n_pixels", "pixel_size", "n_inplanes", "precision")
    others = [f"{key}: {value}" for key, value in stated(values).items() if key not in told]
    return "\n".join([f"{n_x} × {n_y} pixels of {size:g} Å>", f"polar grid  {grid}", *others])
