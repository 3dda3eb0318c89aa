"""Particles of MRC files that each have their own STAR file."""

from __future__ import annotations

import math
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from cryolike_dask.errors import InputError
from cryolike_dask.particles.star.particles import particles_from_paired_star_and_mrc_files
from tests.support.reference import INPUT, PARTICLES48
from tests.support.star_files import OPTICS, PARTICLES, SINGLE, loop, text, with_column, without_column, write

PLAIN = without_column(SINGLE, "rlnImageName")


def stack(folder: Path, name: str, n: int) -> Path:
    with mrcfile.new(folder / name) as file:
        file.set_data(np.zeros((n, 8, 8), np.float32))
    return folder / name


def test_the_reference_pairs() -> None:
    stars = [INPUT / f"{name}.star" for name in "ABC"]
    stacks = [INPUT / "mrc" / f"{name}.mrcs" for name in "ABC"]
    table = particles_from_paired_star_and_mrc_files(stacks, stars)
    assert table.files == tuple(map(str, stacks))
    assert [source.table for source in table.sources] == list(map(str, stars))
    assert {source.kind for source in table.sources} == {"paired"}
    np.testing.assert_array_equal(table["source"], [0] * 7 + [1] * 2 + [2] * 6)
    np.testing.assert_array_equal(table["file"], table["source"])
    np.testing.assert_array_equal(table["index"], [*range(7), *range(2), *range(6)])
    np.testing.assert_array_equal(table["row"], table["index"])
    with np.load(PARTICLES48 / "single" / "paired.npz") as reference:
        np.testing.assert_allclose(table["defocus_u"], reference["defocusU"], rtol=1e-14)
        np.testing.assert_allclose(table["defocus_angle"], reference["defocusAngle"], rtol=1e-14)
        np.testing.assert_allclose(table["phase_shift"], reference["phaseShift"], rtol=1e-14)


def test_angles_and_pixel_sizes_are_ignored(tmp_path: Path) -> None:
    block = with_column(with_column(PLAIN, "rlnAngleRot", "12"), "rlnImagePixelSize", "0")
    table = particles_from_paired_star_and_mrc_files([stack(tmp_path, "a.mrcs", 4)], [write(tmp_path, text(loop("", block)))])
    assert np.isnan(table["angle_rotation"]).all()
    assert np.isnan(table["pixel_size"]).all()


@pytest.mark.parametrize("defocus_angle_is_degree", [True, False])
@pytest.mark.parametrize("phase_shift_is_degree", [True, False])
def test_units_of_the_angles(tmp_path: Path, defocus_angle_is_degree: bool, phase_shift_is_degree: bool) -> None:
    block = with_column(with_column(PLAIN, "rlnDefocusAngle", "1.5"), "rlnPhaseShift", "0.5")
    table = particles_from_paired_star_and_mrc_files(
        [stack(tmp_path, "a.mrcs", 4)],
        [write(tmp_path, text(loop("", block)))],
        defocus_angle_is_degree=defocus_angle_is_degree,
        phase_shift_is_degree=phase_shift_is_degree,
    )
    assert table["defocus_angle"][0] == (math.radians(1.5) if defocus_angle_is_degree else 1.5)
    assert table["phase_shift"][0] == (math.radians(0.5) if phase_shift_is_degree else 0.5)


def named(*names: str) -> str:
    """A table that names these images, with optics."""
    return text(loop("optics", OPTICS), loop("particles", with_column(PARTICLES, "rlnImageName", names)))


def test_tables_with_optics_and_image_names_are_accepted(tmp_path: Path) -> None:
    star = write(tmp_path, named("1@x/a.mrcs", "000002@x/a.mrcs", "3@x/a.mrcs:mrcs", "4@x/a.mrcs"))
    table = particles_from_paired_star_and_mrc_files([stack(tmp_path, "a.mrcs", 4)], [star])
    assert [line.split(": ")[1].partition(".")[0] for line in table.warnings] == ["rlnImagePixelSize"]
    np.testing.assert_array_equal(table["voltage"], [300, 200, 200, 300])
    np.testing.assert_array_equal(table["index"], [0, 1, 2, 3])
    assert table.files == (str(tmp_path / "a.mrcs"),)


@pytest.mark.parametrize(
    ("names", "first"),
    [
        (("4@a.mrcs", "3@a.mrcs", "2@a.mrcs", "1@a.mrcs"), "4@a.mrcs in line 25 (row 1)"),
        (("1@a.mrcs", "2@a.mrcs", "2@a.mrcs", "4@a.mrcs"), "2@a.mrcs in line 27 (row 3)"),
        (("1@a.mrcs", "2@a.mrcs", "3@a.mrcs", "5@a.mrcs"), "5@a.mrcs in line 28 (row 4)"),
        (("1@a.mrcs", "2@a.mrcs", "a.mrcs", "4@a.mrcs"), "a.mrcs in line 27 (row 3)"),
        (("1@a.mrcs", "2@a.mrcs", "3000000000000000000000@a.mrcs", "4@a.mrcs"), "a.mrcs in line 27 (row 3)"),
    ],
)
def test_image_names_in_another_order_are_refused(tmp_path: Path, names: tuple[str, ...], first: str) -> None:
    star, images = write(tmp_path, named(*names)), stack(tmp_path, "a.mrcs", 4)
    with pytest.raises(InputError) as caught:
        particles_from_paired_star_and_mrc_files([images], [star])
    message = str(caught.value)
    assert f"{star}: rlnImageName is " in message
    assert first in message
    assert f"of {images}: images would get the CTF of others" in message
    assert "`convert star`" in message


def test_another_file_in_the_image_names_is_a_warning(tmp_path: Path) -> None:
    star = write(tmp_path, named("1@old/b.mrcs", "2@old/b.mrcs", "3@old/c.mrcs", "4@old/b.mrcs"))
    images = stack(tmp_path, "a.mrcs", 4)
    table = particles_from_paired_star_and_mrc_files([images, images], [star, star])
    np.testing.assert_array_equal(table["index"], [0, 1, 2, 3] * 2)
    assert table.warnings[-1] == (
        f"{star} names images of b.mrcs and 1 more file, but the images are read from {images} (the same holds for 1 more table): check "
        "that each table belongs to its images."
    )
    plain = write(tmp_path, text(loop("", with_column(PLAIN, "rlnImageName", [f"{i}.mrc" for i in range(4)]))), "plain.star")
    assert "names images of 0.mrc and 3 more files" in particles_from_paired_star_and_mrc_files([images], [plain]).warnings[-1]


def test_the_file_itself_compressed_is_no_other_file(tmp_path: Path) -> None:
    star = write(tmp_path, text(loop("", with_column(PLAIN, "rlnImageName", [f"{i + 1}@a.mrcs" for i in range(4)]))))
    assert particles_from_paired_star_and_mrc_files([tmp_path / "a.mrcs.gz"], [star]).warnings == ()


def test_angles_and_pixel_sizes_that_are_not_used_are_said_once(tmp_path: Path) -> None:
    stars = [
        write(tmp_path, text(loop("", with_column(PLAIN, column, "1.5"))), f"{column}.star")
        for column in ("rlnAngleRot", "rlnPixelSize", "rlnAngleRot")
    ]
    table = particles_from_paired_star_and_mrc_files([stack(tmp_path, f"{i}.mrcs", 4) for i in range(3)], stars)
    assert table.warnings == (
        f"A paired conversion does not use these columns of the tables ({stars[0]} is the first): rlnAngleRot, rlnPixelSize. "
        "`convert star` uses them if the tables name their images.",
    )


def test_the_same_images_in_two_pairs_are_a_warning(tmp_path: Path) -> None:
    star = write(tmp_path, text(loop("", PLAIN)))
    a, b = stack(tmp_path, "a.mrcs", 4), stack(tmp_path, "b.mrcs", 4)
    table = particles_from_paired_star_and_mrc_files([a, b, tmp_path / "." / "a.mrcs"], [star] * 3)
    assert len(table) == 12
    (line,) = table.warnings
    assert line.startswith(f"{a} is given more than once in particle_file_list (--mrc)")
    assert particles_from_paired_star_and_mrc_files([a, b], [star] * 2).warnings == ()


def test_optics_groups_of_different_tables_stay_apart(tmp_path: Path) -> None:
    stars = [write(tmp_path, text(loop("", with_column(PLAIN, "rlnVoltage", volts))), f"{volts}.star") for volts in ("300", "200")]
    table = particles_from_paired_star_and_mrc_files([stack(tmp_path, "a.mrcs", 4), stack(tmp_path, "b.mrcs", 4)], stars)
    np.testing.assert_array_equal(table["optics_group"], [0] * 4 + [1] * 4)
    np.testing.assert_array_equal(table["voltage"], [300] * 4 + [200] * 4)


@pytest.mark.parametrize("n_images", [3, 5])
def test_a_count_that_differs_is_refused(tmp_path: Path, n_images: int) -> None:
    star, images = write(tmp_path, text(loop("", PLAIN))), stack(tmp_path, "a.mrcs", n_images)
    with pytest.raises(InputError, match=f"{star} has 4 rows and {images} has {n_images} images"):
        particles_from_paired_star_and_mrc_files([images], [star])


def test_missing_mrc_files_are_left_to_planning(tmp_path: Path) -> None:
    table = particles_from_paired_star_and_mrc_files([tmp_path / "none.mrcs"], [write(tmp_path, text(loop("", PLAIN)))])
    assert table.files == (str(tmp_path / "none.mrcs"),)
    assert len(table) == 4


def test_lists_that_cannot_be_paired(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"particle_file_list \(--mrc\) has 2 files and star_file_list \(--star\) has 1"):
        particles_from_paired_star_and_mrc_files(["a.mrcs", "b.mrcs"], ["a.star"])
    with pytest.raises(InputError, match="particle_file_list is empty"):
        particles_from_paired_star_and_mrc_files([], [])
    with pytest.raises(InputError, match="star_file_list is empty"):
        particles_from_paired_star_and_mrc_files(["a.mrcs"], [])
    with pytest.raises(InputError, match=r"particle_file_list is one path, a.mrcs: give a list"):
        particles_from_paired_star_and_mrc_files("a.mrcs", ["a.star"])


def test_a_damaged_table_of_a_pair_is_refused_by_line(tmp_path: Path) -> None:
    star = write(tmp_path, text(loop("", with_column(PLAIN, "rlnDefocusU", ["1", "2", "None", "3"]))))
    with pytest.raises(InputError, match=rf"{star}: rlnDefocusU .* line 13 \(row 3\)"):
        particles_from_paired_star_and_mrc_files([stack(tmp_path, "a.mrcs", 4)], [star])
