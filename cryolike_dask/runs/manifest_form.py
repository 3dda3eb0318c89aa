"""The form of a manifest, which is checked so that readers can rely on the types of its values."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_WHOLE_NUMBERS = range(-(2**63), 2**63)
_COUNTS = range(2**31)
_BOXES = {"size": _COUNTS, "edge": str, "invert": bool}

MANIFEST_FORM: dict[str, Any] = {
    "version": str,
    "status": str,
    "written": str,
    "n_stacks": _COUNTS,
    "n_images": _COUNTS,
    "pixel_size_from": str,
    "settings": dict,
    "identity": {
        "settings": dict,
        "descriptor": dict,
        "particles": str,
        "sources": [{"kind": str, "table": str, "boxes": (None, _BOXES), "notes": [str]}],
        "source_box": [_COUNTS],
    },
    "fingerprint": str,
    "warnings": [str],
    "skipped": [str],
    "stacks": [
        {
            "counter": _COUNTS,
            "n_images": _COUNTS,
            "n_bytes": _WHOLE_NUMBERS,
            "fourier_crc32": _WHOLE_NUMBERS,
            "phys_crc32": _WHOLE_NUMBERS,
            "rows": [_COUNTS],
        }
    ],
    "inputs": [{"path": str, "size": _WHOLE_NUMBERS, "mtime_ns": _WHOLE_NUMBERS}],
    "star_file": (None, {"n_bytes": _WHOLE_NUMBERS, "crc32": _WHOLE_NUMBERS}),
}
"""The form of each value, by key. A type is the type of the value, a range means an integer within it, a list means a list of such values,
a dictionary means an object with at least these keys, and a tuple lists alternatives."""


def misfits(value: Any, form: Any, name: str = "") -> Iterator[str]:
    """The deviations of a value from a form, each with the name of the value that deviates.

    Args:
        value: as `json.loads` returns it.
        form: in the notation of MANIFEST_FORM.
        name: of the value; '' for the complete manifest.
    """
    if isinstance(form, tuple):
        found = [list(misfits(value, choice, name)) for choice in form]
        yield from [] if [] in found else found[-1]
    elif isinstance(form, dict):
        if not isinstance(value, dict):
            yield f"{name or 'it'} is not an object"
            return
        for key, inner in form.items():
            place = f"{name}.{key}" if name else key
            yield from misfits(value[key], inner, place) if key in value else [f"{place} is missing"]
    elif isinstance(form, list):
        if not isinstance(value, list):
            yield f"{name} is not a list"
            return
        for position, item in enumerate(value):
            yield from misfits(item, form[0], f"{name}[{position}]")
    elif isinstance(form, range):
        if type(value) is not int or value not in form:
            yield f"{name} is not a whole number from {form.start} to {form.stop - 1}"
    elif form is None:
        if value is not None:
            yield f"{name} is not null"
    elif not isinstance(value, form):
        yield f"{name} is not {'an object' if form is dict else f'of type {form.__name__}'}"
