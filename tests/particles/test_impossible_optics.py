"""Optics that no microscope has are refused, and the message suggests a unit. Optics groups without particles are not checked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cryolike_dask.errors import InputError
from cryolike_dask.particles.cryosparc.particles import particles_from_cryosparc
from cryolike_dask.particles.star.particles import particles_from_paired_star_and_mrc_files, particles_from_star
from tests.support.cs_files import particle_columns, write_cs
from tests.support.star_files import OPTICS, PARTICLES, SINGLE, loop, text, with_column, write

IMPOSSIBLE = [
    ("voltage", 0.0, "0 kV, but must be between 10 and 1,500 kV."),
    ("voltage", -300.0, "-300 kV, but must be between 10 and 1,500 kV."),
    ("voltage", 300_000.0, "300000 kV, but must be between 10 and 1,500 kV: it looks like volts (300 kV)."),
    ("voltage", 0.3, "kV, but must be between 10 and 1,500 kV: it looks like megavolts (300 kV)."),
    ("cs", -1.0, "-1 mm, but must be between -0.1 and 20 mm."),
    ("cs", 2.7e7, "27000000 mm, but must be between -0.1 and 20 mm: it looks like Å (2.7 mm)."),
    ("cs", 2700.0, "2700 mm, but must be between -0.1 and 20 mm: it looks like µm (2.7 mm)."),
    ("contrast", 7.0, "7, but must be a fraction between 0 and 1: it looks like percent (0.07)."),
    ("contrast", -0.5, "-0.5, but must be a fraction between 0 and 1."),
    ("defocus", 1e9, "1000000000 Å, but must be between -1,000,000 and 1,000,000 Å (100 µm)."),
    ("defocus", -2e6, "-2000000 Å, but must be between -1,000,000 and 1,000,000 Å (100 µm)."),
]
POSSIBLE = [
    ("voltage", 10.0),
    ("voltage", 1500.0),
    ("cs", -0.1),
    ("cs", 0.0),
    ("cs", 20.0),
    ("contrast", 0.0),
    ("contrast", 1.0),
    ("defocus", -1e6),
    ("defocus", 1e6),
]
STAR = {"voltage": "rlnVoltage", "cs": "rlnSphericalAberration", "contrast": "rlnAmplitudeContrast", "defocus": "rlnDefocusU"}
CS = {"voltage": "ctf/accel_kv", "cs": "ctf/cs_mm", "contrast": "ctf/amp_contrast", "defocus": "ctf/df1_A"}
USUAL = {"voltage": "300", "cs": "2.7", "contrast": "0.1", "defocus": "10000"}


def star_with(folder: Path, quantity: str, value: float) -> Path:
    """A STAR file of one block with this value in its second row."""
    usual = USUAL[quantity]
    return write(folder, text(loop("", with_column(SINGLE, STAR[quantity], [usual, f"{value:.12g}", usual, usual]))))


def cs_with(folder: Path, quantity: str, value: float) -> Path:
    """A cryoSPARC table with this value in its second row."""
    columns = particle_columns(["a.mrc"] * 4, range(4))
    column = columns[CS[quantity]].astype(np.float64)
    column[1] = value
    return write_cs(folder / "particles.cs", {**columns, CS[quantity]: column})


@pytest.mark.parametrize(("quantity", "value", "told"), IMPOSSIBLE)
def test_values_of_no_microscope_in_a_star_file(quantity: str, value: float, told: str, tmp_path: Path) -> None:
    path = star_with(tmp_path, quantity, value)
    with pytest.raises(InputError) as caught:
        particles_from_star(path)
    line = 13 + (STAR[quantity] not in SINGLE)
    assert str(caught.value).startswith(f"{path}: {STAR[quantity]} in line {line} (row 2) of 'data_' is ")
    assert told in str(caught.value)


@pytest.mark.parametrize(("quantity", "value", "told"), IMPOSSIBLE)
def test_values_of_no_microscope_in_a_cryosparc_table(quantity: str, value: float, told: str, tmp_path: Path) -> None:
    path = cs_with(tmp_path, quantity, value)
    with pytest.raises(InputError) as caught:
        particles_from_cryosparc(path)
    assert str(caught.value).startswith(f"{path}, particle 2, column {CS[quantity]} is ")
    assert told in str(caught.value)


@pytest.mark.parametrize(("quantity", "value"), POSSIBLE)
def test_values_at_the_limits_are_taken(quantity: str, value: float, tmp_path: Path) -> None:
    assert len(particles_from_star(star_with(tmp_path, quantity, value))) == 4
    assert len(particles_from_cryosparc(cs_with(tmp_path, quantity, value))) == 4


def test_a_value_of_the_optics_table_is_named_there(tmp_path: Path) -> None:
    path = write(tmp_path, text(loop("optics", with_column(OPTICS, "rlnVoltage", ["300", "200000"])), loop("particles", PARTICLES)))
    with pytest.raises(InputError) as caught:
        particles_from_star(path)
    assert f"{path}: rlnVoltage in line 13 (row 2) of 'data_optics' is 200000 kV" in str(caught.value)
    assert "it looks like volts (200 kV)" in str(caught.value)


def test_values_of_no_microscope_in_a_pair(tmp_path: Path) -> None:
    path = write(tmp_path, text(loop("", with_column({"n": ["1"] * 4, **SINGLE}, "rlnVoltage", "300000"))))
    with pytest.raises(InputError, match=r"rlnVoltage in line .* and 1 more of 'data_' is 300000 kV"):
        particles_from_paired_star_and_mrc_files([tmp_path / "a.mrcs"], [path])


@pytest.mark.parametrize("value", ["nan", "None", "0", "300000"])
@pytest.mark.parametrize("column", ["rlnVoltage", "rlnSphericalAberration", "rlnAmplitudeContrast", "rlnImagePixelSize"])
def test_an_optics_group_without_particles_may_hold_anything(column: str, value: str, tmp_path: Path) -> None:
    optics = with_column(OPTICS, column, [OPTICS[column][0], value])
    particles = with_column(PARTICLES, "rlnOpticsGroup", "1")
    table = particles_from_star(write(tmp_path, text(loop("optics", optics), loop("particles", particles))))
    np.testing.assert_array_equal(table["voltage"], [300.0] * 4)
    np.testing.assert_array_equal(table["pixel_size"], [1.31] * 4)
