"""Match-template and refined tables as particles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cryolike_dask.errors import InputError
from cryolike_dask.leopard_em.particles import particles_from_leopard_em
from cryolike_dask.mrc.boxes import BoxCut
from tests.support.leopard_em_files import LEOPARD_EM, rows_of_page, write_rows


@pytest.mark.parametrize(("kind", "table"), [("match", "all_results.csv"), ("refined", "refined_results.csv")])
def test_defocus_and_angles_equal_those_of_leopard_em(kind: str, table: str) -> None:
    particles = particles_from_leopard_em(LEOPARD_EM / table, 32, folder_micrographs=LEOPARD_EM)
    reference = np.load(LEOPARD_EM / "boxes.npz")
    np.testing.assert_allclose(particles["defocus_u"], reference[f"{kind}_defocus_u"], rtol=1e-12)
    np.testing.assert_allclose(particles["defocus_v"], reference[f"{kind}_defocus_v"], rtol=1e-12)
    euler = np.stack([particles[f"angle_{name}"] for name in ("rotation", "tilt", "psi")], axis=1)
    np.testing.assert_allclose(np.degrees(euler), reference[f"{kind}_euler"], rtol=1e-12)


def test_particles_of_one_table_with_two_micrographs_keep_their_order_and_identity() -> None:
    particles = particles_from_leopard_em(LEOPARD_EM / "all_results.csv", 32, folder_micrographs=LEOPARD_EM)
    assert particles.files == (str(LEOPARD_EM / "micrograph_0.mrc"), str(LEOPARD_EM / "micrograph_1.mrc"))
    np.testing.assert_array_equal(particles["file"], [0] * 7 + [1] * 7)
    np.testing.assert_array_equal(particles["index"], [*range(7), *range(7)])
    np.testing.assert_array_equal(particles["row"], np.arange(14))
    assert particles.sources[0].boxes == BoxCut(32)


def test_several_tables_come_one_after_the_other() -> None:
    tables = [LEOPARD_EM / "mic1_results.csv", LEOPARD_EM / "mic0_results.csv"]
    particles = particles_from_leopard_em(tables, 32, folder_micrographs=LEOPARD_EM)
    assert [Path(source.table).name for source in particles.sources] == ["mic1_results.csv", "mic0_results.csv"]
    assert [Path(particles.files[k]).name for k in particles["file"]] == ["micrograph_1.mrc"] * 7 + ["micrograph_0.mrc"] * 7
    np.testing.assert_array_equal(particles["source"], [0] * 7 + [1] * 7)


def test_refined_columns_can_be_ignored() -> None:
    options = {"folder_micrographs": LEOPARD_EM}
    match = particles_from_leopard_em(LEOPARD_EM / "all_results.csv", 32, **options)
    ignored = particles_from_leopard_em(LEOPARD_EM / "refined_results.csv", 32, use_refined=False, **options)
    assert ignored.rows.tobytes() == match.rows.tobytes()
    refined = particles_from_leopard_em(LEOPARD_EM / "refined_results.csv", 32, **options)
    assert (refined["top"] != match["top"]).any()


def test_the_34_columns_of_the_format_page_are_enough(tmp_path: Path) -> None:
    table = write_rows(tmp_path / "page.csv", rows_of_page(3))
    particles = particles_from_leopard_em(table, 32, folder_micrographs=tmp_path)
    # A box of 32 around a template of 24 starts 4 pixels before it.
    np.testing.assert_array_equal(particles["left"], [6, 7, 8])
    np.testing.assert_array_equal(particles["top"], [16, 18, 20])
    np.testing.assert_allclose(particles["defocus_u"], [12000, 12200, 12400])
    np.testing.assert_allclose(particles["defocus_v"], [11700, 11900, 12100])
    np.testing.assert_allclose(np.degrees(particles["angle_rotation"]), [90, 91, 92])
    np.testing.assert_allclose(np.degrees(particles["angle_tilt"]), [60, 61, 62])
    np.testing.assert_allclose(np.degrees(particles["angle_psi"]), [30, 31, 32])
    np.testing.assert_allclose(np.degrees(particles["phase_shift"]), 10)
    np.testing.assert_allclose(np.degrees(particles["defocus_angle"]), 33)
    np.testing.assert_array_equal(particles["index"], [0, 1, 2])
    expected = {"voltage": 300, "spherical_aberration": 2.7, "amplitude_contrast": 0.07, "b_factor": 50, "pixel_size": 1.1}
    for name, value in expected.items():
        np.testing.assert_array_equal(particles[name], value)
    assert particles.files == (str(tmp_path / "mic.mrc"),)
    assert particles.warnings == ()


def test_recorded_paths_are_relative_to_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = write_rows(tmp_path / "page.csv", rows_of_page(1, micrograph="session/mic.mrc"))
    monkeypatch.chdir(tmp_path)
    assert particles_from_leopard_em(table, 32).files == (str(tmp_path / "session" / "mic.mrc"),)


def test_a_box_smaller_than_the_template_is_in_its_middle(tmp_path: Path) -> None:
    table = write_rows(tmp_path / "page.csv", rows_of_page(1))
    particles = particles_from_leopard_em(table, 17, folder_micrographs=tmp_path)
    # floor((17 - 24) / 2) is -4.
    assert (particles["left"][0], particles["top"][0]) == (14, 24)


def test_an_odd_template_size_can_be_given(tmp_path: Path) -> None:
    table = write_rows(tmp_path / "page.csv", rows_of_page(1, template_size=25))
    particles = particles_from_leopard_em(table, 32, template_size=25, folder_micrographs=tmp_path)
    assert (particles["left"][0], particles["top"][0]) == (7, 17)
    assert particles.warnings == ()


def test_a_given_template_size_that_the_table_contradicts_is_used_with_a_warning(tmp_path: Path) -> None:
    table = write_rows(tmp_path / "page.csv", rows_of_page(1))
    particles = particles_from_leopard_em(table, 32, template_size=30, folder_micrographs=tmp_path)
    assert particles["left"][0] == 9
    assert "a template of another size than template_size=30" in particles.warnings[0]


@pytest.mark.parametrize("column", ["refined_relative_defocus", "refined_pixel_size"])
def test_refined_values_that_are_not_all_finite_are_not_used_with_a_warning(tmp_path: Path, column: str) -> None:
    rows = [row | {"refined_relative_defocus": 77.0, "refined_pixel_size": 1.2} for row in rows_of_page(3)]
    rows[1][column] = "inf" if column == "refined_pixel_size" else ""
    particles = particles_from_leopard_em(write_rows(tmp_path / "r.csv", rows), 32, folder_micrographs=tmp_path)
    assert len(particles.warnings) == 1
    assert f"row 2: {column} is not a finite number" in particles.warnings[0]
    if column == "refined_pixel_size":
        np.testing.assert_array_equal(particles["pixel_size"], 1.1)
        np.testing.assert_allclose(particles["defocus_u"], 12077)
    else:
        np.testing.assert_array_equal(particles["pixel_size"], 1.2)
        np.testing.assert_allclose(particles["defocus_u"], [12000, 12200, 12400])


def test_refined_angles_are_used_only_together(tmp_path: Path) -> None:
    rows = [row | {"refined_phi": 1.0, "refined_theta": 2.0} for row in rows_of_page(1)]
    two = particles_from_leopard_em(write_rows(tmp_path / "two.csv", rows), 32, folder_micrographs=tmp_path)
    assert np.degrees(two["angle_rotation"][0]) == pytest.approx(90)
    rows[0]["refined_psi"] = 3.0
    three = particles_from_leopard_em(write_rows(tmp_path / "three.csv", rows), 32, folder_micrographs=tmp_path)
    assert [np.degrees(three[f"angle_{name}"][0]) for name in ("rotation", "tilt", "psi")] == pytest.approx([1, 2, 3])


def test_optics_groups_are_the_distinct_voltage_aberration_contrast_and_pixel_size(tmp_path: Path) -> None:
    rows = rows_of_page(5)
    rows[1]["voltage"] = rows[3]["voltage"] = 200.0
    rows[2]["amplitude_contrast_ratio"] = 0.1
    rows[4]["pixel_size"] = 1.2
    particles = particles_from_leopard_em(write_rows(tmp_path / "o.csv", rows), 32, folder_micrographs=tmp_path)
    np.testing.assert_array_equal(particles["optics_group"], [0, 1, 2, 1, 3])
    assert particles.optics_groups[2] == "group 3, first in row 3"


def test_differing_pixel_sizes_stay_with_their_rows_and_are_named(tmp_path: Path) -> None:
    rows = rows_of_page(3)
    rows[2]["pixel_size"] = 1.3
    particles = particles_from_leopard_em(write_rows(tmp_path / "p.csv", rows), 32, folder_micrographs=tmp_path)
    np.testing.assert_array_equal(particles["pixel_size"], [1.1, 1.1, 1.3])
    assert "p.csv: the pixel size is 1.1 Å in row 1 and 1.3 Å in row 3" in particles.warnings[0]


def test_aberrations_that_cannot_be_converted_are_named(tmp_path: Path) -> None:
    rows = [row | {"even_zernikes": "", "mag_matrix": ""} for row in rows_of_page(2)]
    rows[1]["mag_matrix"] = "[1.0 0.0 0.0 1.01]"
    particles = particles_from_leopard_em(write_rows(tmp_path / "z.csv", rows), 32, folder_micrographs=tmp_path)
    assert len(particles.warnings) == 1
    assert "row 2: mag_matrix is recorded" in particles.warnings[0]


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("pos_x", "nan", "row 2: pos_x is empty or not a number"),
        ("pos_y", "inf", "row 2: pos_y is inf, which is not finite"),
        ("pos_y", "12.5", "row 2: pos_y is 12.5, not a whole number"),
        ("pos_x", "1e12", "row 2: pos_x is 1000000000000, not a pixel"),
        ("pos_x", "left", "row 2: pos_x is 'left', not a number"),
        ("refined_pos_x", "", "row 2: refined_pos_x is empty"),
        ("refined_phi", "", "row 2: refined_phi is empty"),
        ("defocus_u", "", "row 2: defocus_u is empty"),
        ("pixel_size", "0", "row 2: pixel_size is 0; it must be above 0"),
        ("voltage", "-300", "row 2: voltage is -300 kV, but must be between 10 and 1,500 kV"),
        ("voltage", "300000", "row 2: voltage is 300000 kV, but must be between 10 and 1,500 kV: it looks like volts (300 kV)"),
        ("spherical_aberration", "2.7e7", "row 2: spherical_aberration is 27000000 mm"),
        (
            "amplitude_contrast_ratio",
            "7",
            "row 2: amplitude_contrast_ratio is 7, but must be a fraction between 0 and 1: it looks like percent (0.07)",
        ),
        ("defocus_v", "-1e9", "row 2: defocus_v is -1000000000 Å, but must be between -1,000,000 and 1,000,000 Å"),
        ("relative_defocus", "2e6", "row 2: defocus_u + relative_defocus is 2012000 Å"),
        ("pos_y_img", "22", "row 2: pos_x_img - pos_x is 12, pos_y_img - pos_y is 0"),
        ("pos_x_img", "30", "row 2: pos_x_img - pos_x is 19, pos_y_img - pos_y is 12"),
        ("micrograph_path", "", "row 2: micrograph_path is empty"),
    ],
)
def test_a_bad_cell_is_named_by_file_and_row(tmp_path: Path, column: str, value: str, message: str) -> None:
    rows = [row | {f"refined_{name}": row[name] for name in ("pos_x", "pos_y", "phi", "theta", "psi")} for row in rows_of_page(3)]
    rows[1][column] = value
    table = write_rows(tmp_path / "bad.csv", rows)
    with pytest.raises(InputError) as caught:
        particles_from_leopard_em(table, 32, folder_micrographs=tmp_path)
    assert str(table) in str(caught.value)
    assert message in str(caught.value)


def test_missing_columns_are_named_with_those_that_look_alike(tmp_path: Path) -> None:
    rows = rows_of_page(1)
    rows[0]["micrograf_path"] = rows[0].pop("micrograph_path")
    del rows[0]["defocus_v"]
    with pytest.raises(InputError, match=r"lacks the columns defocus_v, micrograph_path.*Should micrograf_path be micrograph_path"):
        particles_from_leopard_em(write_rows(tmp_path / "m.csv", rows), 32)


def test_the_template_size_must_be_known(tmp_path: Path) -> None:
    rows = rows_of_page(1)
    del rows[0]["pos_y_img"], rows[0]["pos_x_img"]
    table = write_rows(tmp_path / "m.csv", rows)
    with pytest.raises(InputError, match=r"lacks the column pos_y_img.*Give template_size"):
        particles_from_leopard_em(table, 32, folder_micrographs=tmp_path)
    assert particles_from_leopard_em(table, 32, template_size=24, folder_micrographs=tmp_path)["left"][0] == 6


def test_two_micrographs_of_one_name_do_not_collapse_in_a_folder(tmp_path: Path) -> None:
    first = write_rows(tmp_path / "a.csv", rows_of_page(1, micrograph="day1/mic.mrc"))
    second = write_rows(tmp_path / "b.csv", rows_of_page(1, micrograph="day2/mic.mrc"))
    with pytest.raises(InputError, match=r"day1/mic\.mrc and day2/mic\.mrc"):
        particles_from_leopard_em([first, second], 32, folder_micrographs=tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"box_size": 0}, r"box_size \(--box-size\) is 0"),
        ({"box_size": 32.5}, r"box_size \(--box-size\) is 32.5"),
        ({"box_size": 10**19}, r"box_size \(--box-size\) is 10000000000000000000"),
        ({"template_size": 10**19}, r"template_size \(--template-size\) is 10000000000000000000"),
        ({"edge": "wrap"}, "edge is 'wrap': choose one of 'constant', 'reflect', 'replicate', 'error'"),
        ({"template_size": -3}, r"template_size \(--template-size\) is -3"),
        ({"dataframe_files": []}, "No Leopard-EM table was given"),
        ({"dataframe_files": "missing.csv"}, "missing.csv does not exist"),
    ],
)
def test_bad_options_are_refused(tmp_path: Path, options: dict, message: str) -> None:
    table = write_rows(tmp_path / "page.csv", rows_of_page(1))
    with pytest.raises(InputError, match=message):
        particles_from_leopard_em(**({"dataframe_files": table, "box_size": 32} | options))


def test_an_empty_table_and_one_given_twice_are_refused(tmp_path: Path) -> None:
    table = write_rows(tmp_path / "page.csv", rows_of_page(1))
    with pytest.raises(InputError, match="given more than once"):
        particles_from_leopard_em([table, str(table)], 32)
    table.write_text(table.read_text().splitlines()[0] + "\n")
    with pytest.raises(InputError, match="holds no particle"):
        particles_from_leopard_em(table, 32)


@pytest.mark.parametrize("listed", [False, True])
def test_a_data_frame_is_refused_with_the_way_to_write_it(tmp_path: Path, listed: bool) -> None:
    df = pd.read_csv(write_rows(tmp_path / "t.csv", rows_of_page(2)))
    with pytest.raises(InputError, match=r"a data frame.*write_match_template_dataframe\(df, 'picks\.csv'\)"):
        particles_from_leopard_em([df] if listed else df, 16)  # type: ignore[arg-type, list-item]
