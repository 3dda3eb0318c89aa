"""Semantics of the contract: particles of different optics."""

from __future__ import annotations

from pathlib import Path

from tests.support.conversions import convert, refused
from tests.support.particle_sets import (
    ParticleSet,
    assert_holds,
    optics_table,
    write_particle_set,
)


def mixed_set(folder: Path) -> ParticleSet:
    optics = optics_table(3, rlnVoltage=["300", "200", "300"], rlnSphericalAberration=["2.7", "2.7", "2.7"])
    return write_particle_set(folder, {"a.mrcs": 8}, optics=optics, groups=[1, 1, 3, 2, 2, 1, 1, 1])


def test_mixed_optics_are_refused_naming_the_groups(tmp_path: Path) -> None:
    message = refused(mixed_set(tmp_path), "mixed_optics='split'", "(6 images)", "(2 images)")
    assert "1 (group1), 3 (group3): 300 kV" in message
    assert "2 (group2): 200 kV" in message


def test_mixed_optics_are_split_where_they_change(tmp_path: Path) -> None:
    particles = mixed_set(tmp_path)
    stacks = convert(particles, mixed_optics="split", batch_size=2)
    assert_holds(stacks, particles.images, particles.listed)
    # Groups 1 and 3 have the same optics: no need to end a stack between them.
    assert [(len(s.fourier), float(s.metadata["voltage"])) for s in stacks] == [(2, 300), (1, 300), (2, 200), (2, 300), (1, 300)]


def test_rounding_of_pixel_sizes_is_no_difference_of_optics(tmp_path: Path) -> None:
    optics = optics_table(2, rlnImagePixelSize=["2.0", "2.00001"])
    particles = write_particle_set(tmp_path, {"a.mrcs": 6}, optics=optics, groups=[1, 2, 1, 2, 1, 2])
    (stack,) = convert(particles)
    assert stack.metadata["pixel_size"].tolist() == [2.0, 2.0]
    others = optics_table(3, rlnImagePixelSize=["2.0", "3.0", "3.00001"])
    particles = write_particle_set(tmp_path / "split", {"a.mrcs": 6}, optics=others, groups=[1, 1, 2, 3, 2, 3])
    stacks = convert(particles, mixed_optics="split")
    assert [len(stack.fourier) for stack in stacks] == [2, 4]
    assert [stack.metadata["pixel_size"][0] for stack in stacks] == [2.0, 3.0]


def test_groups_that_none_fits_the_descriptor_are_refused(tmp_path: Path) -> None:
    optics = optics_table(2, rlnImagePixelSize=["3.0", "4.0"])
    particles = write_particle_set(tmp_path, {"a.mrcs": 2}, optics=optics, groups=[1, 2])
    refused(particles, "descriptor says 2 Å", "3, 4 Å", mixed_optics="split")
