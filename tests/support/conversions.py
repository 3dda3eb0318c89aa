"""Conversions of small particle sets, and refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cryolike_dask import (
    Conversion,
    ImageDescriptor,
    InputError,
    convert_particle_stacks_from_indexed_star_file,
    particles_from_star,
)
from tests.support.independent_reader import WrittenStack, read_stacks
from tests.support.particle_sets import (
    NO_PLOTS,
    ParticleSet,
    optics_table,
    params,
    write_particle_set,
)
from tests.support.star_files import without_column


def convert(particles: ParticleSet, descriptor: Any = None, out: str = "out", **options: Any) -> list[WrittenStack]:
    """Convert the set's STAR file into the folder `out` beside it. Returns the stacks."""
    folder = particles.folder / out
    convert_particle_stacks_from_indexed_star_file(
        descriptor or params(), particles.star, particles.mrc, folder_output=folder, **(NO_PLOTS | options)
    )
    return read_stacks(folder)


def refused(particles: ParticleSet, *named: str, descriptor: Any = None, **options: Any) -> str:
    """The message of the conversion's InputError. It names these things, and was raised before anything was written."""
    with pytest.raises(InputError) as caught:
        convert(particles, descriptor, "refused", **options)
    assert not (particles.folder / "refused").exists()
    message = str(caught.value)
    for text in named:
        assert text in message
    return message


def set_without_pixel_size(folder: Path, header: float = 0.0) -> ParticleSet:
    """Three images whose table does not state their pixel size; the header does, unless it is 0."""
    optics = without_column(optics_table(), "rlnImagePixelSize")
    return write_particle_set(folder, {"a.mrcs": 3}, optics=optics, pixel_size=header)


def pixel_size_of(stacks: list[WrittenStack]) -> float:
    (x, y) = stacks[0].metadata["pixel_size"].tolist()
    assert x == y
    return float(x)


def plan_of(particles: ParticleSet, descriptor: ImageDescriptor | None = None, **options: Any) -> Any:
    """The plan for the set; nothing is written."""
    return Conversion(particles_from_star(particles.star, particles.mrc), descriptor or params(), **options).plan


def files_of(folder: Path) -> dict[str, bytes]:
    """The content of every file below a folder, by its relative path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
