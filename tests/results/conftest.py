"""Stacks of scattered particles, with simulated results of CryoLike."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.conversions import convert
from tests.support.cryolike_results import VIEWING_DISTANCE, write_results
from tests.support.independent_reader import WrittenStack
from tests.support.particle_sets import ParticleSet, params, write_particle_set


@dataclass(frozen=True)
class Collected:
    """A conversion and its results.

    Args:
        particles: the converted particles.
        stacks: output folder of the conversion.
        written: the stacks in it.
        results: folder of the results.
    """

    particles: ParticleSet
    stacks: Path
    written: list[WrittenStack]
    results: Path


@pytest.fixture(scope="session")
def found(tmp_path_factory: pytest.TempPathFactory) -> Collected:
    """31 particles in random order in five stacks, with all results for two structures. Tests must not change it."""
    folder = tmp_path_factory.mktemp("found")
    particles = write_particle_set(folder, {"d.mrcs": 9, "a.mrcs": 11, "c.mrcs": 1, "b.mrcs": 10}, shuffle=True)
    written = convert(particles, params(viewing_distance=VIEWING_DISTANCE), "stacks", batch_size=7)
    return Collected(particles, folder / "stacks", written, write_results(folder / "likelihood", written))
