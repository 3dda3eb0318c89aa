"""Older names of the functions, from CryoLike's tutorial and the older edition of its guide. Each warns, naming the present function."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

from cryolike_dask.file_conversions.particle_stacks_wrappers import (
    convert_particle_stacks_from_cryosparc_job_directory,
    convert_particle_stacks_from_indexed_cryosparc_file,
    convert_particle_stacks_from_indexed_star_file,
    convert_particle_stacks_from_paired_star_and_mrc_files,
)

Converting = TypeVar("Converting", bound=Callable[..., Any])


def _older(name: str, today: Converting) -> Converting:
    """The present function under an older name, with a DeprecationWarning."""

    @functools.wraps(today)
    def renamed(*arguments: Any, **named: Any) -> Any:
        warnings.warn(f"{name} is an older name: use {today.__name__}.", DeprecationWarning, stacklevel=2)
        return today(*arguments, **named)

    renamed.__name__ = renamed.__qualname__ = name
    renamed.__module__ = __name__
    renamed.__doc__ = f"An older name. See `{today.__name__}`."
    return renamed  # type: ignore[return-value]


convert_particle_stacks_from_indexed_cryosparc = _older(
    "convert_particle_stacks_from_indexed_cryosparc", convert_particle_stacks_from_indexed_cryosparc_file
)
convert_particle_stacks_from_star_files = _older(
    "convert_particle_stacks_from_star_files", convert_particle_stacks_from_paired_star_and_mrc_files
)
convert_particle_stacks_from_indexed_star_files = _older(
    "convert_particle_stacks_from_indexed_star_files", convert_particle_stacks_from_indexed_star_file
)
convert_particle_stacks_from_cryosparc = _older(
    "convert_particle_stacks_from_cryosparc", convert_particle_stacks_from_indexed_cryosparc_file
)
convert_particle_stacks_from_cryosparc_restack = _older(
    "convert_particle_stacks_from_cryosparc_restack", convert_particle_stacks_from_cryosparc_job_directory
)
