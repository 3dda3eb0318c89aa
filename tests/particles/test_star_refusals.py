"""STAR files that cannot be converted: each refusal names the file, the line or row, and the column."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from cryolike_dask.errors import InputError
from cryolike_dask.particles.star.particles import particles_from_star
from tests.support.star_files import OPTICS, PARTICLES, SINGLE, loop, pairs, text, with_column, without_column, write

FIRST_ROW = 12  # line of the first row of SINGLE, as `text` writes it


def refusal(path: Path, folder: Path | str = "") -> str:
    """The message, which must name the file."""
    with pytest.raises(InputError) as caught:
        particles_from_star(path, folder)
    message = str(caught.value)
    assert str(path) in message
    assert message.endswith(".")
    assert "\n" not in message
    return message


def refuse(tmp_path: Path, *blocks: list[str]) -> str:
    return refusal(write(tmp_path, text(*blocks)))


def replaced(*changes: tuple[int, Callable[[str], str]]) -> str:
    """SINGLE with some lines changed, counted from 1."""
    lines = text(loop("", SINGLE)).splitlines()
    assert lines[FIRST_ROW - 1].startswith("000002@")
    for line, change in changes:
        lines[line - 1] = change(lines[line - 1])
    return "\n".join([*lines, ""])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "Git LFS pointer"),
        (b"<!DOCTYPE html>\n<html></html>\n", "HTML page"),
        (gzip.compress(b"data_\n"), "gunzip"),
        (b"\x93NUMPY\x01\x00", "cryoSPARC table"),
        (b"\n \n", "not a STAR file"),
        (b"# only a comment\n", "not a STAR file"),
        (b"1@a.mrcs 1 2 3\n", "line 1 comes before any 'data_' line"),
        ("data_\n\nloop_\n_rlnX\n1\n".encode("utf-16"), "UTF-16 text"),
        (b"data_\n\x00\x00", "line 2 holds the control character 0x00"),
        (b"data_\rloop_\r_rlnX\r", "line 1 holds the control character 0x0D"),
    ],
)
def test_what_is_no_star_file(tmp_path: Path, content: bytes, said: str) -> None:
    assert said in refusal(write(tmp_path, content))


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "none.star")
    assert "is a folder" in refusal(tmp_path)


def test_a_byte_that_is_not_utf8_is_named_with_its_line(tmp_path: Path) -> None:
    content = text(loop("", SINGLE)).replace("7@stacks", "7@Größe").encode("latin1")
    message = refusal(write(tmp_path, content))
    assert f"line {FIRST_ROW + 2} holds the byte 0xF6" in message
    assert "iconv" in message


def test_a_character_that_looks_like_a_blank_is_named(tmp_path: Path) -> None:
    content = text(loop("", SINGLE)).replace("7@stacks", "7@stacks\u00a0")
    assert f"line {FIRST_ROW + 2} holds U+00A0" in refusal(write(tmp_path, content))


@pytest.mark.parametrize("column", ["rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle", "rlnSphericalAberration", "rlnVoltage"])
def test_a_required_column_is_missing(tmp_path: Path, column: str) -> None:
    assert f"{column} is missing" in refuse(tmp_path, loop("", without_column(SINGLE, column)))


@pytest.mark.parametrize(
    ("column", "written"), [("rlnDefocusU", "rlnDefocus_U"), ("rlnVoltage", "rlnvoltage"), ("rlnDefocusAngle", "rlnDefocusAngel")]
)
def test_a_misspelt_column_is_suggested(tmp_path: Path, column: str, written: str) -> None:
    block = {written if name == column else name: values for name, values in SINGLE.items()}
    assert f"{column} is missing; the file has {written}" in refuse(tmp_path, loop("", block))


def test_a_misspelt_optics_column_is_suggested(tmp_path: Path) -> None:
    optics = {"rlnVoltag" if name == "rlnVoltage" else name: values for name, values in OPTICS.items()}
    assert "rlnVoltage is missing; the file has rlnVoltag." in refuse(
        tmp_path, loop("optics", optics), loop("particles", PARTICLES)
    )


@pytest.mark.parametrize("value", ["None", "nan", "inf", "-inf", "1,5", "12a", '""', "True", "<NA>", "0x10", "1e999"])
@pytest.mark.parametrize("column", ["rlnDefocusU", "rlnVoltage", "rlnPhaseShift", "rlnAngleRot", "rlnCtfBfactor"])
def test_a_value_that_is_no_finite_number_is_named_with_its_line(tmp_path: Path, column: str, value: str) -> None:
    message = refuse(tmp_path, loop("", with_column(SINGLE, column, ["300", value, "300", "300"])))
    line = FIRST_ROW + 1 + (column not in SINGLE)
    assert f"{column} must be a finite number" in message
    assert f"line {line} (row 2)" in message


def test_a_column_of_true_is_no_number(tmp_path: Path) -> None:
    assert "rlnDefocusU must be a finite number" in refuse(tmp_path, loop("", with_column(SINGLE, "rlnDefocusU", "True")))


def test_many_bad_rows_are_counted(tmp_path: Path) -> None:
    message = refuse(tmp_path, loop("", with_column(SINGLE, "rlnDefocusU", "None")))
    assert "line 12 (row 1), line 13 (row 2), line 14 (row 3) and 1 more" in message
    assert "'None', 'None', 'None'" in message


def test_a_bad_value_of_an_optics_group(tmp_path: Path) -> None:
    optics = with_column(OPTICS, "rlnVoltage", ["300", "None"])
    message = refuse(tmp_path, loop("optics", optics), loop("particles", PARTICLES))
    assert "rlnVoltage must be a finite number in every row of 'data_optics'" in message
    assert "line 13 (row 2)" in message


def test_a_short_row_is_named(tmp_path: Path) -> None:
    message = refusal(write(tmp_path, replaced((FIRST_ROW + 1, lambda row: row.rsplit(" ", 1)[0]))))
    assert f"line {FIRST_ROW + 1} (row 2 of 'data_') has 5 values where 6 columns are named" in message


def test_a_long_row_is_named(tmp_path: Path) -> None:
    message = refusal(write(tmp_path, replaced((FIRST_ROW + 3, lambda row: row + " 7"))))
    assert f"line {FIRST_ROW + 3} (row 4 of 'data_') has 7 values" in message


def test_a_blank_in_a_path_that_is_not_quoted(tmp_path: Path) -> None:
    message = refusal(write(tmp_path, replaced((FIRST_ROW, lambda row: row.replace("stacks/", "my stacks/")))))
    assert f"line {FIRST_ROW} (row 1" in message
    assert "not quoted" in message


def test_a_row_cut_by_a_comment_sign_is_named(tmp_path: Path) -> None:
    assert f"line {FIRST_ROW} (row 1" in refusal(write(tmp_path, replaced((FIRST_ROW, lambda row: row.replace(" 300", " #300")))))


def test_a_quotation_mark_that_is_not_closed(tmp_path: Path) -> None:
    message = refusal(write(tmp_path, replaced((FIRST_ROW + 2, lambda row: '"' + row))))
    assert f"line {FIRST_ROW + 2} has a quotation mark that is not closed" in message


def test_a_repeated_block(tmp_path: Path) -> None:
    message = refuse(tmp_path, loop("optics", OPTICS), loop("particles", PARTICLES), loop("particles", PARTICLES))
    assert "line 32 begins a second block 'data_particles'; the first is on line 17" in message


def test_a_column_named_twice(tmp_path: Path) -> None:
    block = {**SINGLE, "DefocusU": SINGLE["rlnDefocusU"]}
    message = refuse(tmp_path, loop("", block))
    assert "rlnDefocusU" in message
    assert "more than once" in message


def test_columns_in_another_order_than_their_numbers(tmp_path: Path) -> None:
    lines = text(loop("", SINGLE)).splitlines()
    lines[8], lines[9] = lines[9], lines[8]
    assert "not in the order of their numbers" in refusal(write(tmp_path, "\n".join([*lines, ""])))


def test_a_lost_loop_line(tmp_path: Path) -> None:
    message = refusal(write(tmp_path, text([line for line in loop("", SINGLE) if line != "loop_"])))
    assert "line 5 is not a 'name value' pair" in message


def test_a_row_that_looks_like_a_block(tmp_path: Path) -> None:
    block = {"rlnMicrographName": ["m.mrc", "data_2/m.mrc", "m.mrc", "m.mrc"], **SINGLE}
    assert "line 14 begins with 'data_'" in refuse(tmp_path, loop("", block))


def test_a_value_beside_a_column_name(tmp_path: Path) -> None:
    message = refusal(write(tmp_path, replaced((8, lambda line: line.split()[0] + " 5"))))
    assert "line 8 names a column of 'data_' and holds values too" in message


def test_particles_without_rows(tmp_path: Path) -> None:
    empty: dict[str, list[str]] = {column: [] for column in PARTICLES}
    assert "'data_particles' on line 17 has no rows" in refuse(tmp_path, loop("optics", OPTICS), loop("particles", empty))
    assert "'data_particles' on line 3 has no rows" in refuse(tmp_path, ["data_particles"])


def test_no_particle_block(tmp_path: Path) -> None:
    message = refuse(tmp_path, loop("optics", OPTICS))
    assert "no single block holds the particles; the file has 'data_optics'" in message


def test_two_blocks_that_could_be_the_particles(tmp_path: Path) -> None:
    message = refuse(tmp_path, loop("a", SINGLE), loop("b", SINGLE))
    assert "'data_a', 'data_b'" in message


def test_a_table_of_something_else(tmp_path: Path) -> None:
    message = refuse(tmp_path, loop("", {"rlnCoordinateX": ["1"], "rlnCoordinateY": ["2"]}))
    assert "none of the columns of a particle set, but has rlnCoordinateX, rlnCoordinateY" in message


def test_an_unknown_optics_group_is_named_with_its_rows(tmp_path: Path) -> None:
    particles = with_column(PARTICLES, "rlnOpticsGroup", ["1", "3", "2", "3"])
    message = refuse(tmp_path, loop("optics", OPTICS), loop("particles", particles))
    assert "optics group 3 is not in 'data_optics', which has 1, 2" in message
    assert "line 26 (row 2), line 28 (row 4) of 'data_particles'" in message


def test_a_repeated_optics_group(tmp_path: Path) -> None:
    optics = with_column(OPTICS, "rlnOpticsGroup", "1")
    message = refuse(tmp_path, loop("optics", optics), loop("particles", PARTICLES))
    assert "the same rlnOpticsGroup is in line 12 (row 1), line 13 (row 2) of 'data_optics'" in message


def test_several_optics_groups_and_none_in_the_particles(tmp_path: Path) -> None:
    message = refuse(tmp_path, loop("optics", OPTICS), loop("particles", without_column(PARTICLES, "rlnOpticsGroup")))
    assert "the particles have no rlnOpticsGroup, and the file has 2 optics groups" in message


def test_optics_without_group_numbers(tmp_path: Path) -> None:
    message = refuse(tmp_path, loop("optics", without_column(OPTICS, "rlnOpticsGroup")), loop("particles", PARTICLES))
    assert "rlnOpticsGroup is missing" in message
    assert "data_optics" in message


def test_a_column_that_differs_between_particles_and_optics(tmp_path: Path) -> None:
    particles = with_column(PARTICLES, "rlnVoltage", ["300", "300", "200", "300"])
    message = refuse(tmp_path, loop("optics", OPTICS), loop("particles", particles))
    assert "rlnVoltage is 300 for the particle but 200 for its optics group in line 27 (row 2)" in message


def test_a_pixel_size_that_is_not_positive(tmp_path: Path) -> None:
    message = refuse(tmp_path, loop("", with_column(SINGLE, "rlnImagePixelSize", ["1", "0", "1", "1"])))
    assert "rlnImagePixelSize must be positive, but is 0 in line 14 (row 2)" in message


def test_image_names_are_missing(tmp_path: Path) -> None:
    assert "rlnImageName is missing in 'data_'" in refuse(tmp_path, loop("", without_column(SINGLE, "rlnImageName")))


@pytest.mark.parametrize(
    "name", ["a.mrcs", "@a.mrcs", "x@a.mrcs", "1@", "-1@a.mrcs", "1.0@a.mrcs", "²@a.mrcs", '""', "9" * 19 + "@a.mrcs"]
)
def test_an_invalid_image_name(tmp_path: Path, name: str) -> None:
    message = refuse(tmp_path, loop("", with_column(SINGLE, "rlnImageName", ["1@a.mrcs", "2@a.mrcs", name, "3@a.mrcs"])))
    shown = name.strip('"') or "empty"
    assert f"rlnImageName is {shown} in line {FIRST_ROW + 2} (row 3)" in message


def test_a_missing_image_name(tmp_path: Path) -> None:
    message = refuse(tmp_path, loop("", with_column(SINGLE, "rlnImageName", ["1@a.mrcs", "2@a.mrcs", "nan", "3@a.mrcs"])))
    assert f"rlnImageName is missing in line {FIRST_ROW + 2} (row 3)" in message


def test_image_zero_is_refused(tmp_path: Path) -> None:
    message = refuse(tmp_path, loop("", with_column(SINGLE, "rlnImageName", ["1@a.mrcs", "000000@a.mrcs", "2@a.mrcs", "3@a.mrcs"])))
    assert f"rlnImageName is 000000@a.mrcs in line {FIRST_ROW + 1} (row 2)" in message
    assert "counted from 1" in message


def test_tomography_particles_are_refused(tmp_path: Path) -> None:
    block = with_column(with_column(SINGLE, "rlnTomoName", "TS_01"), "rlnImageName", "Extract/job1/TS_01/1_stack2d.mrcs")
    message = refuse(tmp_path, pairs("general", {"rlnTomoSubTomosAre2DStacks": ["1"]}), loop("particles", block))
    assert "tomography" in message
    assert "1_stack2d.mrcs in line 19 (row 1)" in message


def test_two_recorded_files_of_one_name_in_a_folder(tmp_path: Path) -> None:
    block = with_column(SINGLE, "rlnImageName", ["1@a/x.mrcs", "2@a/x.mrcs", "1@b/x.mrcs", "2@./a/x.mrcs"])
    message = refusal(write(tmp_path, text(loop("", block))), tmp_path)
    assert "a/x.mrcs" in message
    assert "b/x.mrcs" in message


def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    assert str(tmp_path / "none") in refusal(write(tmp_path, text(loop("", SINGLE))), tmp_path / "none")


def test_no_room_for_the_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, text(loop("", SINGLE)))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    assert re.search("temporary copy .* cannot be written", refusal(path))
