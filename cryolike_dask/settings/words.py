"""The settings of a run in readable form: with the names of the command line, and with units."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from cryolike_dask.formatting import plural
from cryolike_dask.settings import ConversionSettings

SETTINGS_OF_BOXES: dict[str, Any] = {"template_size": None, "edge": "constant", "invert": False, "use_refined": True}
"""Defaults of the settings with which boxes are cut from micrographs. `box_size`, which is one of them, has none."""

_NAMES = {"flag_plots": "plots", "save_phys": "phys", "output_format": "format", "use_refined": "refined values"}
"""Settings that have another name on the command line."""

_NOT_GIVEN = {
    "pixel_size": "that of the table, of the image headers or of the parameters",
    "zarr_store": "in the output folder",
    "never_combine_input_files": "for image files with a STAR file each",
    "where": "all particles",
    "ind": "all rows",
    "sample": "all particles",
    "template_size": "as the table states it",
}
"""The meaning of settings without a value."""

_OF_THE_START = ("skip_exist", "overwrite")
"""Settings for what the folder held before the run. They do not describe what it holds now."""

_IN_WORDS: dict[str, Callable[[Any], str]] = {
    "batch_size": lambda n: f"{plural(n, 'image')} per stack",
    "n_stacks_max": lambda n: "all stacks" if n < 0 else plural(n, "stack"),
    "pixel_size": lambda size: f"{size:g} Å",
    "downsample_factor": lambda factor: "no downsampling" if factor == 1 else f"{factor} × {factor} pixels become one",
    "downsample_to": lambda edge: f"{edge} × {edge} pixels",
    "ind": lambda rows: rows if isinstance(rows, str) else plural(len(rows), "row"),
    "sample": lambda n: plural(n, "particle"),
    "box_size": lambda edge: f"{edge} × {edge} pixels",
    "template_size": lambda edge: f"{edge} × {edge} pixels",
}


def settings_in_words(settings: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, str]]:
    """Names and values of settings: those that are not the default, and the others. Those for what the folder held before are left out.

    Args:
        settings: values by their names in Python, all or some.
    """
    default = asdict(ConversionSettings()) | SETTINGS_OF_BOXES
    chosen: dict[str, str] = {}
    usual: dict[str, str] = {}
    for name, value in settings.items():
        if name in _OF_THE_START:
            continue
        words = usual if value == default.get(name) else chosen
        words[_NAMES.get(name, name.replace("_", " "))] = _in_words(name, value)
    return chosen, usual


def _in_words(name: str, value: Any) -> str:
    if value is None or value == "":
        return _NOT_GIVEN.get(name, "none")
    if isinstance(value, bool):
        return "yes" if value else "no"
    try:
        return _IN_WORDS[name](value) if name in _IN_WORDS else str(value)
    except (TypeError, ValueError):  # a value of another kind, in a manifest that was changed by hand
        return str(value)
