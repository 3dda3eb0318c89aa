"""Small particle sets that tests of several folders convert."""

from __future__ import annotations

import pytest

from tests.support.particle_sets import ABC, ParticleSet, params, write_particle_set


@pytest.fixture(scope="session")
def abc(tmp_path_factory: pytest.TempPathFactory) -> ParticleSet:
    """The files A, B and C of the guide, with 7, 2 and 6 images, listed one after the other."""
    particles = write_particle_set(tmp_path_factory.mktemp("abc"), ABC)
    params().save(particles.folder / "params.npz")
    return particles


@pytest.fixture(scope="session")
def scattered(tmp_path_factory: pytest.TempPathFactory) -> ParticleSet:
    """31 images in four files, listed in random order."""
    particles = write_particle_set(
        tmp_path_factory.mktemp("scattered"), {"d.mrcs": 9, "a.mrcs": 11, "c.mrcs": 1, "b.mrcs": 10}, shuffle=True
    )
    params().save(particles.folder / "params.npz")
    return particles
