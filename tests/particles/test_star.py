"""Particles of indexed STAR files: which columns are read, and in which unit."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from cryolike_dask.particles.star.particles import particles_from_star
from tests.support.reference import DATA, INPUT, PARTICLES48, needs_data
from tests.support.star_files import (
    OPTICS,
    PARTICLES,
    SINGLE,
    Table,
    column_of,
    loop,
    pairs,
    text,
    with_column,
    without_column,
    write,
)

ONE_GROUP = {column: values[:1] for column, values in OPTICS.items()}


@needs_data
@pytest.mark.parametrize("name", ["relion31.star", "relion31.v2.star"])
def test_relion31_with_optics_before_or_after_the_particles(name: str) -> None:
    table = particles_from_star(DATA / name, DATA)
    assert table.files == (str(DATA / "relion31.mrcs"),)
    np.testing.assert_array_equal(table["index"], [0, 1, 2, 3, 4])
    np.testing.assert_array_equal(table["row"], [0, 1, 2, 3, 4])
    np.testing.assert_allclose(table["defocus_u"][0], 13108.082418, rtol=1e-15)
    np.testing.assert_allclose(table["defocus_angle"], math.radians(-160.39), rtol=1e-15)
    np.testing.assert_allclose(table["angle_rotation"][0], math.radians(-102.30296), rtol=1e-15)
    np.testing.assert_allclose(table["angle_tilt"][0], math.radians(82.318041), rtol=1e-15)
    np.testing.assert_allclose(table["angle_psi"][0], math.radians(124.706463), rtol=1e-15)
    assert set(table["spherical_aberration"]) == {0.01}
    assert set(table["pixel_size"]) == {2.806}
    assert table.optics_groups == ("1 (opticsGroup1)",)
    assert table.warnings == ()


@needs_data
def test_six_optics_groups_keep_their_own_values() -> None:
    path = DATA / "relion31.6opticsgroups.star"
    table = particles_from_star(path)
    assert table.optics_groups[:2] == ("1 (opticsGroup5)", "2 (opticsGroup3)")
    np.testing.assert_array_equal(table["optics_group"] + 1, np.array(column_of(path, "rlnOpticsGroup"), int))
    pixel_size = {1: 1.25, 2: 1.24, 3: 1.25}
    for number, size in pixel_size.items():
        assert set(table["pixel_size"][table["optics_group"] == number - 1]) <= {size}
    np.testing.assert_allclose(table["defocus_v"], np.array(column_of(path, "rlnDefocusV"), float), rtol=1e-15)
    names = column_of(path, "rlnImageName")
    assert [f"{row['index'] + 1}@{Path(table.files[row['file']]).relative_to(Path.cwd())}" for row in table.rows] == names


@needs_data
def test_relion30_takes_the_pixel_size_from_detector_and_magnification() -> None:
    table = particles_from_star(DATA / "empiar_10076_7.star")
    np.testing.assert_allclose(table["pixel_size"], 10000 * 5 / 38168, rtol=1e-15)
    np.testing.assert_array_equal(table["index"], range(7))
    assert np.isnan(table["angle_psi"]).all()
    assert table.optics_groups == ("",)


def test_the_reference_set_agrees_with_the_published_converter() -> None:
    table = particles_from_star(INPUT / "particles.star", INPUT / "mrc")
    with np.load(PARTICLES48 / "single" / "indexed_star.npz") as reference:
        # The published converter sorts by image file.
        order = np.lexsort((np.arange(len(table)), [table.files[file] for file in table["file"]]))
        for column, name in {
            "defocus_u": "defocusU",
            "defocus_v": "defocusV",
            "defocus_angle": "defocusAngle",
            "phase_shift": "phaseShift",
            "angle_rotation": "angleRotation",
            "angle_tilt": "angleTilt",
            "angle_psi": "anglePsi",
        }.items():
            np.testing.assert_allclose(table[column][order], reference[name], rtol=1e-14, err_msg=column)
        for column, name in {"voltage": "voltage", "spherical_aberration": "sphericalAberration"}.items():
            assert set(table[column]) == {float(reference[name])}
    assert table.sources[0].kind == "star"
    assert table.sources[0].table == str(INPUT / "particles.star")


def test_rows_keep_the_order_of_the_table_and_index_counts_from_zero(tmp_path: Path) -> None:
    table = particles_from_star(write(tmp_path, text(loop("optics", OPTICS), loop("particles", PARTICLES))))
    assert [Path(table.files[file]).name for file in table["file"]] == ["b.mrcs", "a.mrcs", "b.mrcs", "a.mrcs"]
    np.testing.assert_array_equal(table["index"], [1, 0, 6, 2])
    np.testing.assert_array_equal(table["row"], [0, 1, 2, 3])
    np.testing.assert_array_equal(table["voltage"], [300, 200, 200, 300])
    np.testing.assert_array_equal(table["spherical_aberration"], [2.7, 0.01, 0.01, 2.7])
    np.testing.assert_array_equal(table["amplitude_contrast"], [0.1, 0.07, 0.07, 0.1])
    np.testing.assert_array_equal(table["pixel_size"], [1.31, 2.62, 2.62, 1.31])
    assert table.optics_groups == ("1 (first)", "2 (second)")


@pytest.mark.parametrize("name", ["", "images", "particles", "whatever"])
def test_a_single_block_of_any_name_holds_the_particles(tmp_path: Path, name: str) -> None:
    table = particles_from_star(write(tmp_path, text(loop(name, SINGLE))))
    np.testing.assert_array_equal(table["defocus_u"], [13108.08, 12906.01, 12730.82, 9990.5])


def test_a_general_block_is_passed_over(tmp_path: Path) -> None:
    general = pairs("general", {"rlnTomoSubTomosAre2DStacks": ["0"], "rlnNote": ['"two words"']})
    table = particles_from_star(write(tmp_path, text(general, loop("particles", PARTICLES), loop("optics", OPTICS))))
    assert len(table) == 4


@pytest.mark.parametrize("prefix", ["rln", ""])
def test_the_prefix_of_column_names_is_optional(tmp_path: Path, prefix: str) -> None:
    block = {prefix + column.removeprefix("rln"): values for column, values in SINGLE.items()}
    assert len(particles_from_star(write(tmp_path, text(loop("", block))))) == 4


def test_defaults_for_what_is_not_stated(tmp_path: Path) -> None:
    table = particles_from_star(write(tmp_path, text(loop("", SINGLE))))
    for column, value in {"phase_shift": 0, "amplitude_contrast": 0.1, "b_factor": 0, "scale_factor": 1}.items():
        assert set(table[column]) == {value}, column
    for column in ("angle_rotation", "angle_tilt", "angle_psi", "pixel_size"):
        assert np.isnan(table[column]).all(), column


@pytest.mark.parametrize(
    ("column", "name"), [("rlnAngleRot", "angle_rotation"), ("rlnAngleTilt", "angle_tilt"), ("rlnAnglePsi", "angle_psi")]
)
def test_each_viewing_angle_may_stand_alone(tmp_path: Path, column: str, name: str) -> None:
    table = particles_from_star(write(tmp_path, text(loop("", with_column(SINGLE, column, "30.0")))))
    np.testing.assert_allclose(table[name], math.radians(30), rtol=1e-15)
    for other in {"angle_rotation", "angle_tilt", "angle_psi"} - {name}:
        assert np.isnan(table[other]).all()


def test_phase_shift_and_factors_are_read(tmp_path: Path) -> None:
    block = with_column(SINGLE, "rlnPhaseShift", ["0", "90", "45.5", "-10"])
    block = with_column(with_column(block, "rlnCtfBfactor", ["0", "1", "2", "3"]), "rlnCtfScalefactor", ["1", "0.5", "2", "3"])
    table = particles_from_star(write(tmp_path, text(loop("", block))))
    np.testing.assert_allclose(table["phase_shift"], [0, math.pi / 2, math.radians(45.5), math.radians(-10)], rtol=1e-15)
    np.testing.assert_array_equal(table["b_factor"], [0, 1, 2, 3])
    np.testing.assert_array_equal(table["scale_factor"], [1, 0.5, 2, 3])


def test_without_an_optics_table_groups_follow_the_values(tmp_path: Path) -> None:
    block = with_column(SINGLE, "rlnVoltage", ["300", "200", "300", "200"])
    table = particles_from_star(write(tmp_path, text(loop("", block))))
    assert table.optics_groups == ("group 1, first in row 1", "group 2, first in row 2")
    np.testing.assert_array_equal(table["optics_group"], [0, 1, 0, 1])


def test_optics_without_a_loop_are_one_group(tmp_path: Path) -> None:
    particles = without_column(PARTICLES, "rlnOpticsGroup")
    table = particles_from_star(write(tmp_path, text(pairs("optics", ONE_GROUP), loop("particles", particles))))
    assert table.optics_groups == ("1 (first)",)
    assert set(table["voltage"]) == {300}


def test_one_optics_group_needs_no_column_in_the_particles(tmp_path: Path) -> None:
    particles = without_column(PARTICLES, "rlnOpticsGroup")
    assert set(particles_from_star(write(tmp_path, text(loop("optics", ONE_GROUP), loop("particles", particles))))["voltage"]) == {
        300
    }


def test_a_column_that_agrees_in_both_tables_is_no_problem(tmp_path: Path) -> None:
    particles = with_column(PARTICLES, "rlnVoltage", ["300", "2e2", "200.000", "300.0"])
    table = particles_from_star(write(tmp_path, text(loop("optics", OPTICS), loop("particles", particles))))
    np.testing.assert_array_equal(table["voltage"], [300, 200, 200, 300])


def _pixel_sizes(tmp_path: Path, detector: str, magnification: str) -> tuple[set[float], tuple[str, ...]]:
    block = with_column(with_column(SINGLE, "rlnDetectorPixelSize", detector), "rlnMagnification", magnification)
    table = particles_from_star(write(tmp_path, text(loop("", block))))
    return set(table["pixel_size"].tolist()), table.warnings


def test_magnification_of_10000_gives_the_detector_pixel(tmp_path: Path) -> None:
    assert _pixel_sizes(tmp_path, "1.31", "10000.0") == ({1.31}, ())


@pytest.mark.parametrize(
    ("detector", "magnification"), [("5", "0.1"), ("5", "0"), ("0", "40000"), ("0.1", "0.1"), ("-5", "-40000")]
)
def test_an_unbelievable_magnification_states_no_pixel_size(tmp_path: Path, detector: str, magnification: str) -> None:
    sizes, warnings = _pixel_sizes(tmp_path, detector, magnification)
    assert all(math.isnan(size) for size in sizes)
    assert "line 14 (row 1)" in warnings[0]
    assert "rlnMagnification" in warnings[0]


def test_the_image_pixel_size_wins_over_magnification(tmp_path: Path) -> None:
    block: Table = SINGLE
    for column, value in {"rlnImagePixelSize": "2.0", "rlnDetectorPixelSize": "5", "rlnMagnification": "38168"}.items():
        block = with_column(block, column, value)
    assert set(particles_from_star(write(tmp_path, text(loop("", block))))["pixel_size"]) == {2.0}


def test_the_micrograph_pixel_size_is_never_used(tmp_path: Path) -> None:
    table = particles_from_star(write(tmp_path, text(loop("", with_column(SINGLE, "rlnMicrographPixelSize", "1.4")))))
    assert np.isnan(table["pixel_size"]).all()
    assert "rlnMicrographPixelSize is not used" in table.warnings[0]


def test_images_premultiplied_by_the_ctf_are_warned_about_and_recorded(tmp_path: Path) -> None:
    optics = with_column(OPTICS, "rlnCtfDataAreCtfPremultiplied", ["0", "1"])
    table = particles_from_star(write(tmp_path, text(loop("optics", optics), loop("particles", PARTICLES))))
    assert "rlnCtfDataAreCtfPremultiplied is set for 2 of 4 particles" in table.warnings[0]
    assert table.sources[0].notes == ("images are premultiplied by their CTF",)


def test_recorded_paths_are_relative_to_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/of/user")
    names = ["1@a/x.mrcs", "2@/data/y.mrcs", "3@./a/x.mrcs", "4@~/z.mrcs"]
    table = particles_from_star(write(tmp_path, text(loop("", with_column(SINGLE, "rlnImageName", names)))))
    assert table.files == (str(tmp_path / "a/x.mrcs"), "/data/y.mrcs", "/home/of/user/z.mrcs")
    np.testing.assert_array_equal(table["file"], [0, 1, 0, 2])


def test_a_folder_replaces_the_recorded_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mrc").mkdir()
    path = write(tmp_path, text(loop("", SINGLE)))
    monkeypatch.setenv("HOME", str(tmp_path))
    for folder in (tmp_path / "mrc", "~/mrc"):
        assert particles_from_star(path, folder).files == (str(tmp_path / "mrc/b.mrcs"), str(tmp_path / "mrc/a.mrcs"))
    assert len(particles_from_star("~/particles.star")) == 4


def test_the_format_suffix_of_a_file_name_is_dropped(tmp_path: Path) -> None:
    names = ["1@/d/a.mrc:mrcs", "2@/d/b.img:mrc", "3@/d/c.st:st", "4@/d/a.mrc"]
    table = particles_from_star(write(tmp_path, text(loop("", with_column(SINGLE, "rlnImageName", names)))))
    assert table.files == ("/d/a.mrc", "/d/b.img", "/d/c.st")


@pytest.mark.parametrize(
    ("written", "file"),
    [
        ("1@/d/run#2/a.mrcs", "/d/run#2/a.mrcs"),
        ("1@/d/Bob's/a.mrcs", "/d/Bob's/a.mrcs"),
        ('"1@/d/two words/a.mrcs"', "/d/two words/a.mrcs"),
        ("'1@/d/two words/a.mrcs'", "/d/two words/a.mrcs"),
        ('"1@/d/Bob\'s two/a.mrcs"', "/d/Bob's two/a.mrcs"),
        ('"1@/d/two words/#3/a.mrcs"', "/d/two words/#3/a.mrcs"),
        ('1@/d/5"/a.mrcs', '/d/5"/a.mrcs'),
        ('"1@/d/a.mrcs"', "/d/a.mrcs"),
        ("1@/d/at@home/a.mrcs", "/d/at@home/a.mrcs"),
        ("1@/d/Größe/a.mrcs", "/d/Größe/a.mrcs"),
    ],
)
def test_odd_characters_of_paths_are_kept(tmp_path: Path, written: str, file: str) -> None:
    names = ["2@/d/plain.mrcs", written, "3@/d/plain.mrcs", written]
    table = particles_from_star(write(tmp_path, text(loop("", with_column(SINGLE, "rlnImageName", names)))))
    assert table.files == ("/d/plain.mrcs", file)
    np.testing.assert_array_equal(table["file"], [0, 1, 0, 1])
    np.testing.assert_array_equal(table["defocus_v"], [12845.58, 12643.51, 12468.32, 9881.25])


def test_comments_blank_lines_tabs_and_windows_line_breaks_do_not_matter(tmp_path: Path) -> None:
    lines = text(loop("optics", OPTICS), loop("particles", PARTICLES)).splitlines()
    row = next(i for i, line in enumerate(lines) if line.startswith("000007@"))
    lines[row] = "\t  " + lines[row].replace(" ", "\t \t") + "   # the third particle's row"
    lines[row:row] = ["", "# a comment with 'quotes", "   "]
    expected = particles_from_star(write(tmp_path, text(loop("optics", OPTICS), loop("particles", PARTICLES)), "plain.star"))
    for content in ("\n".join([*lines, ""]), "\r\n".join([*lines, ""]), "\ufeff" + "\n".join([*lines, ""])):
        assert particles_from_star(write(tmp_path, content)).rows.tobytes() == expected.rows.tobytes()


def test_gaps_and_comments_between_column_names_do_not_matter(tmp_path: Path) -> None:
    lines = loop("", SINGLE)
    lines[5:5] = ["", "# the defocus", ""]
    lines[3:3] = ["# columns"]
    assert len(particles_from_star(write(tmp_path, text(lines)))) == 4


@pytest.mark.parametrize(
    ("column", "written"), [("rlnPhaseShift", "rlnPhase_Shift"), ("rlnAngleRot", "rlnanglerot"), ("rlnCtfBfactor", "rlnCtfBFactor")]
)
def test_a_misspelt_optional_column_is_warned_about(tmp_path: Path, column: str, written: str) -> None:
    table = particles_from_star(write(tmp_path, text(loop("", with_column(SINGLE, written, "5")))))
    assert f"{column} is missing; the file has {written}, which is not used" in table.warnings[0]


def test_columns_of_similar_meaning_are_not_warned_about(tmp_path: Path) -> None:
    block = SINGLE
    for column in (
        "rlnAnglePsiFlip",
        "rlnAngleTiltPrior",
        "rlnAnglePsiFlipRatio",
        "rlnMicrographOriginalPixelSize",
        "rlnCtfFigureOfMerit",
    ):
        block = with_column(block, column, "5")
    assert particles_from_star(write(tmp_path, text(loop("", block)))).warnings == ()


def test_empty_or_text_values_elsewhere_do_not_matter(tmp_path: Path) -> None:
    block = with_column(SINGLE, "rlnNote", ['""', "None", "'a b'", "nan"])
    assert len(particles_from_star(write(tmp_path, text(loop("", block))))) == 4


def test_a_file_that_ends_within_a_line_is_warned_about(tmp_path: Path) -> None:
    content = "\n".join(loop("", SINGLE)).rstrip("\n")
    table = particles_from_star(write(tmp_path, content))
    assert len(table) == 4
    assert "last row may have been cut off" in table.warnings[0]


def test_a_file_is_read_again_each_time(tmp_path: Path) -> None:
    path = write(tmp_path, text(loop("", SINGLE)))
    assert particles_from_star(path)["defocus_u"][0] == 13108.08
    write(tmp_path, text(loop("", SINGLE)).replace("13108.08", "13108.09"))
    assert particles_from_star(path)["defocus_u"][0] == 13108.09


def test_rows_beyond_one_piece_of_the_file_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cryolike_dask.particles.star.text._CHUNK_BYTES", 200)
    n = 500
    block = {column: values[:1] * n for column, values in SINGLE.items()}
    block["rlnImageName"] = [f"{i + 1}@stacks/{i % 7}.mrcs" if i % 50 else f'"{i + 1}@stacks/two words.mrcs"' for i in range(n)]
    block["rlnDefocusU"] = [f"{10000 + i}.5" for i in range(n)]
    lines = loop("", block)
    lines[200:200] = [" " * 150] * 20
    table = particles_from_star(write(tmp_path, "\n".join(lines)))
    np.testing.assert_array_equal(table["index"], np.arange(n))
    np.testing.assert_array_equal(table["defocus_u"], np.arange(n) + 10000.5)
    assert [Path(table.files[file]).stem for file in table["file"]] == [str(i % 7) if i % 50 else "two words" for i in range(n)]
