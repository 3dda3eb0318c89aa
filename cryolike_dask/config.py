"""Settings that depend on the machine rather than on the run, in Dask's configuration under `cryolike`; see `cryolike.yaml`."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any

from cryolike_dask.errors import InputError


@cache
def _with_defaults() -> Any:
    """Dask's configuration. It is loaded when it is first needed, because importing Dask takes as long as converting a few images."""
    import dask.config
    import yaml

    with (Path(__file__).parent / "cryolike.yaml").open(encoding="utf-8") as file:
        dask.config.update_defaults(yaml.safe_load(file))
    return dask.config


def positive_integer(name: str) -> int:
    """A setting that is a number, such as 'gpu.threads'.

    Raises:
        InputError: it was set to something else.
    """
    value = _with_defaults().get(f"cryolike.{name}")
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"The Dask setting cryolike.{name} is {value!r}: it must be a whole number of at least 1.")
    return value


def text(name: str) -> str:
    """A setting that is a text; '' if it is not set.

    Raises:
        InputError: it was set to something else.
    """
    value: Any = _with_defaults().get(f"cryolike.{name}")
    if value is not None and not isinstance(value, str):
        raise InputError(f"The Dask setting cryolike.{name} is {value!r}: it must be a text.")
    return value or ""


def available_cores() -> int:
    """Number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1
