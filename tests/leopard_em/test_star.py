"""Picks as STAR files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import starfile

from cryolike_dask.errors import InputError
from cryolike_dask.leopard_em.star import read_star, write_star
from cryolike_dask.leopard_em.tables import read_match_template_dataframe
from tests.support.leopard_em_files import LEOPARD_EM, rows_of_page, write_rows


def page(tmp_path: Path, n: int = 2, **changes: object) -> pd.DataFrame:
    return read_match_template_dataframe(write_rows(tmp_path / "t.csv", [row | changes for row in rows_of_page(n)]))


@pytest.mark.parametrize("use_refined", [False, True])
def test_relion_columns_hold_the_picks(use_refined: bool, tmp_path: Path) -> None:
    table = read_match_template_dataframe(LEOPARD_EM / "refined_results.csv")
    write_star(table, tmp_path / "picks.star", use_refined=use_refined)
    blocks = starfile.read(tmp_path / "picks.star", always_dict=True)
    optics, particles = blocks["optics"], blocks["particles"]
    assert optics["rlnOpticsGroup"].tolist() == [1]
    assert optics["rlnMicrographPixelSize"].tolist() == [1.1]
    assert optics["rlnVoltage"].tolist() == [300]
    assert optics["rlnSphericalAberration"].tolist() == [2.7]
    assert optics["rlnAmplitudeContrast"].tolist() == [0.07]
    prefix = "refined_" if use_refined else ""
    expected = {
        "rlnCoordinateX": table[f"{prefix}pos_x_img"],
        "rlnCoordinateY": table[f"{prefix}pos_y_img"],
        "rlnAngleRot": table[f"{prefix}phi"],
        "rlnAngleTilt": table[f"{prefix}theta"],
        "rlnAnglePsi": table[f"{prefix}psi"],
        "rlnDefocusU": table["defocus_u"] + table[f"{prefix}relative_defocus"],
        "rlnDefocusV": table["defocus_v"] + table[f"{prefix}relative_defocus"],
        "rlnDefocusAngle": table["astigmatism_angle"],
        "rlnPhaseShift": table["phase_shift"],
    }
    for name, values in expected.items():
        np.testing.assert_allclose(particles[name], values, rtol=1e-9)
    assert particles["rlnMicrographName"].tolist() == table["micrograph_path"].tolist()


def test_a_star_file_of_picks_reads_back(tmp_path: Path) -> None:
    table = page(tmp_path)
    table.loc[1, "voltage"] = 200.0
    write_star(table, tmp_path / "picks.star")
    read = read_star(tmp_path / "picks.star")
    for name in ("pos_x_img", "pos_y_img", "phi", "theta", "psi", "astigmatism_angle", "phase_shift", "ctf_B_factor", "scaled_mip"):
        np.testing.assert_allclose(read[name], table[name], rtol=1e-9)
    for name in ("pixel_size", "voltage", "spherical_aberration", "amplitude_contrast_ratio"):
        np.testing.assert_allclose(read[name], table[name], rtol=1e-9)
    np.testing.assert_allclose(read["defocus_u"] + read["relative_defocus"], [12000, 12200])
    write_star(read, tmp_path / "again.star")
    assert (tmp_path / "again.star").read_text() == (tmp_path / "picks.star").read_text()


@pytest.mark.parametrize("name", ["a session/mic.mrc", "mic#1.mrc", "l'eau/mic.mrc"])
def test_unusual_micrograph_paths_survive(name: str, tmp_path: Path) -> None:
    write_star(page(tmp_path, 1, micrograph_path=name), tmp_path / "picks.star")
    assert read_star(tmp_path / "picks.star")["micrograph_path"].tolist() == [name]


def test_a_path_that_a_star_file_cannot_hold_is_refused(tmp_path: Path) -> None:
    table = page(tmp_path, 1).assign(micrograph_path='mic"1.mrc')
    with pytest.raises(InputError, match="cannot be written in the STAR file"):
        write_star(table, tmp_path / "picks.star")
    assert not (tmp_path / "picks.star").exists()


def test_tables_that_cannot_be_written_as_star_are_refused(tmp_path: Path) -> None:
    table = page(tmp_path, 1)
    with pytest.raises(InputError, match="no particle"):
        write_star(table.iloc[:0], tmp_path / "picks.star")
    with pytest.raises(InputError, match="lacks the column phi"):
        write_star(table.drop(columns="phi"), tmp_path / "picks.star")
    with pytest.raises(InputError, match="row 1: psi is empty"):
        write_star(table.assign(psi=np.nan), tmp_path / "picks.star")


def test_a_star_file_that_holds_no_picks_is_refused(tmp_path: Path) -> None:
    write_star(page(tmp_path, 1), tmp_path / "picks.star")
    text = (tmp_path / "picks.star").read_text()
    (tmp_path / "other.star").write_text(text.replace("rlnCoordinateX", "rlnCoordinateA"))
    with pytest.raises(InputError, match=r"other\.star: block 'data_particles' lacks rlnCoordinateX"):
        read_star(tmp_path / "other.star")
    (tmp_path / "other.star").write_text(text.replace("opticsGroup1 1 ", "opticsGroup1 7 "))
    with pytest.raises(InputError, match="optics group in line"):
        read_star(tmp_path / "other.star")
    (tmp_path / "other.star").write_text(text[text.index("data_particles") :])
    with pytest.raises(InputError, match="no optics table"):
        read_star(tmp_path / "other.star")
