"""Optics that no microscope has are refused, and the message suggests a unit. Optics groups without particles are not checked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cryolike_dask import particles_from_leopard_em
from cryolike_dask.errors import InputError
from cryolike_dask.leopard_em.search import MatchOptics
from cryolike_dask.particles.cryosparc.particles import particles_from_cryosparc
from cryolike_dask.particles.star.particles import particles_from_paired_star_and_mrc_files, particles_from_star
from tests.support.cs_files import particle_columns, write_cs
from tests.support.leopard_em_files import rows_of_page, write_mrc, write_rows
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
    assert str(caught.value).startswith(f"{path}, particle 2: {CS[quantity]} is ")
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


# Units that the range of one value does not show


def test_defocus_in_micrometres_is_refused_by_every_reader(tmp_path: Path) -> None:
    star = text(loop("", SINGLE | {"rlnDefocusU": ["0", "1.1", "-2.5", "1"], "rlnDefocusV": ["0", "1", "-2.4", "99"]}))
    columns = particle_columns(["a.mrc"] * 4, range(4))
    in_um = {name: columns[name] / np.float32(1e4) for name in ("ctf/df1_A", "ctf/df2_A")}
    write_mrc(tmp_path / "mic.mrc", np.zeros((64, 64)))
    rows = rows_of_page(3, micrograph=str(tmp_path / "mic.mrc"))
    table = write_rows(tmp_path / "um.csv", [row | {"defocus_u": 1.2, "defocus_v": 1.17} for row in rows])
    readers = {
        "(row 4) of 'data_' is 1.1 Å": lambda: particles_from_star(write(tmp_path, star)),
        "particle 1: ctf/df1_A (and 3 more particles) is 1.5 Å": lambda: particles_from_cryosparc(
            write_cs(tmp_path / "particles.cs", columns | in_um)
        ),
        "um.csv, row 1 (and 2 more rows): defocus_u is 1.2 Å": lambda: particles_from_leopard_em(table, 24),
        "optics_group: defocus_u is 1.2 Å": lambda: MatchOptics.from_dict(
            {"label": "a", "pixel_size": 1, "voltage": 300, "defocus_u": 1.2, "defocus_v": 1.1, "astigmatism_angle": 0}
        ),
    }
    for told, reader in readers.items():
        with pytest.raises(InputError) as caught:
            reader()
        assert told in str(caught.value)
        angstroms = float(told.split()[-2]) * 10_000
        assert f"it looks like µm ({angstroms:,.0f} Å). Multiply defocus U and V by 10,000" in str(caught.value)


@pytest.mark.parametrize("defocus", [["0"] * 4, ["100"] * 4, ["0", "1.1", "15000", "0"], ["1.1", "2", "-100", "1"]])
def test_a_defocus_near_to_0_is_taken_if_others_are_not(defocus: list[str], tmp_path: Path) -> None:
    table = SINGLE | {"rlnDefocusU": defocus, "rlnDefocusV": defocus}
    assert len(particles_from_star(write(tmp_path, text(loop("", table))))) == 4


@pytest.mark.parametrize("column", ["ctf/df_angle_rad", "ctf/phase_shift_rad"])
def test_degrees_in_a_column_of_radians_are_refused(column: str, tmp_path: Path) -> None:
    columns = particle_columns(["a.mrc"] * 4, range(4))
    turns = np.array([0, -2 * np.pi, 2 * np.pi, 1], np.float32)
    np.testing.assert_allclose(
        particles_from_cryosparc(write_cs(tmp_path / "a.cs", columns | {column: turns}))[
            "defocus_angle" if "df" in column else "phase_shift"
        ],
        turns,
    )
    path = write_cs(tmp_path / "b.cs", columns | {column: np.array([0, 45, 90, 1], np.float32)})
    with pytest.raises(InputError) as caught:
        particles_from_cryosparc(path)
    assert str(caught.value).startswith(f"{path}, particle 2: {column} (and 1 more particle) is 45 rad")
    assert "it looks like degrees (0.785398 rad)" in str(caught.value)


def test_degrees_in_a_pair_said_to_be_in_radians_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path, text(loop("", {**SINGLE, "rlnPhaseShift": ["90"] * 4})))
    pair = [tmp_path / "a.mrcs"], [path]
    with pytest.raises(InputError, match=r"rlnDefocusAngle in .* is -160.39 rad, .*: it looks like degrees"):
        particles_from_paired_star_and_mrc_files(*pair, defocus_angle_is_degree=False)
    with pytest.raises(InputError, match=r"rlnPhaseShift in .* is 90 rad, .*: it looks like degrees \(1.5708 rad\)"):
        particles_from_paired_star_and_mrc_files(*pair, phase_shift_is_degree=False)
