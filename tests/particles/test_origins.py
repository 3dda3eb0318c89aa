"""Origins and poses of RELION's and cryoSPARC's tables: which columns are read, in which unit and with which sign."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cryolike_dask import InputError, particles_from_cryosparc, particles_from_cryosparc_job, particles_from_star
from cryolike_dask.particles.star.particles import particles_from_paired_star_and_mrc_files
from tests.support.conversions import plan_of
from tests.support.cs_files import Columns, particle_columns, write_batches, write_cs
from tests.support.particle_sets import params, write_particle_set
from tests.support.star_files import OPTICS, PARTICLES, SINGLE, loop, text, with_column, write

X, Y = ["1.5", "-2", "0", "4.25"], ["-3", "0.5", "0", "8"]
READ_X, READ_Y = [1.5, -2, 0, 4.25], [-3, 0.5, 0, 8]


def test_relion31_states_them_in_angstrom(tmp_path: Path) -> None:
    table = with_column(with_column(PARTICLES, "rlnOriginXAngst", X), "rlnOriginYAngst", Y)
    read = particles_from_star(write(tmp_path, text(loop("optics", OPTICS), loop("particles", table))))
    assert read["origin_x"].tolist() == READ_X
    assert read["origin_y"].tolist() == READ_Y
    assert not read["origin_in_pixels"].any()


def in_pixels(**columns: Any) -> dict[str, list[str]]:
    table = SINGLE
    for name, values in ({"rlnOriginX": X, "rlnOriginY": Y} | columns).items():
        table = with_column(table, name, values)
    return table


def test_relion30_states_them_in_pixels(tmp_path: Path) -> None:
    table = in_pixels(rlnDetectorPixelSize="5", rlnMagnification="25000")  # 2 Å
    read = particles_from_star(write(tmp_path, text(loop("images", table))))
    np.testing.assert_allclose(read["origin_x"], 2 * np.array(READ_X), rtol=1e-15)
    np.testing.assert_allclose(read["origin_y"], 2 * np.array(READ_Y), rtol=1e-15)
    assert not read["origin_in_pixels"].any()


def test_origins_in_angstrom_are_preferred_to_origins_in_pixels(tmp_path: Path) -> None:
    table = in_pixels(rlnOriginXAngst="7", rlnOriginYAngst="9", rlnDetectorPixelSize="5", rlnMagnification="25000")
    read = particles_from_star(write(tmp_path, text(loop("images", table))))
    assert set(read["origin_x"]) == {7}
    assert set(read["origin_y"]) == {9}


def test_an_origin_along_one_axis_only_is_not_used_with_a_warning(tmp_path: Path) -> None:
    table = with_column(PARTICLES, "rlnOriginXAngst", X)
    read = particles_from_star(write(tmp_path, text(loop("optics", OPTICS), loop("particles", table))))
    assert np.isnan(read["origin_x"]).all()
    assert any("rlnOriginXAngst is not used, because rlnOriginYAngst is missing" in line for line in read.warnings)


def test_pixels_become_angstrom_when_the_pixel_size_is_known(tmp_path: Path) -> None:
    """RELION 3.0 without a pixel size in the table: the image headers state it."""
    particles = write_particle_set(tmp_path, {"a.mrcs": 3}, optics=None, pixel_size=2.5, rlnOriginX="2", rlnOriginY="-4")
    lines = particles.star.read_text().replace("_rlnImagePixelSize", "_rlnSomethingElse")
    particles.star.write_text(lines)
    read = particles_from_star(particles.star, particles.mrc)
    assert read["origin_in_pixels"].all()
    planned = plan_of(particles, params(pixel_size=2.5)).table
    assert set(planned["origin_x"]) == {5}
    assert set(planned["origin_y"]) == {-10}
    assert not planned["origin_in_pixels"].any()


def test_paired_tables_state_them_too(tmp_path: Path) -> None:
    particles = write_particle_set(tmp_path, {"a.mrcs": 3}, rlnOriginXAngst=[1, 2, 3], rlnOriginYAngst="0")
    table = particles_from_paired_star_and_mrc_files([particles.mrc / "a.mrcs"], [particles.star])
    assert table["origin_x"].tolist() == [1, 2, 3]


def test_origins_scale_with_a_pixel_size_that_overrides_the_table(tmp_path: Path) -> None:
    """The table's 2 Å are one pixel of 2 Å, and the pixel is really 3 Å."""
    particles = write_particle_set(tmp_path, {"a.mrcs": 2}, rlnOriginXAngst="2", rlnOriginYAngst="-1")
    plan = plan_of(particles, params(pixel_size=3.0), pixel_size=3.0, override_pixel_size=True)
    np.testing.assert_allclose(plan.table["origin_x"], 3, rtol=1e-12)
    np.testing.assert_allclose(plan.table["origin_y"], -1.5, rtol=1e-12)


def aligned(n: int = 3, kind: str = "alignments3D", **more: Any) -> Columns:
    columns = particle_columns(["a.mrcs"] * n, list(range(n)))
    shift = np.array([[1.5, -3], [0, 0.25], [-6, 12]], np.float32)[:n]
    return columns | {f"{kind}/shift": shift, f"{kind}/psize_A": np.full(n, 3.0, np.float32)} | more


@pytest.mark.parametrize("kind", ["alignments3D", "alignments2D"])
def test_shifts_of_cryosparc_are_in_pixels_of_their_own(tmp_path: Path, kind: str) -> None:
    """pyem (`csparc2star.py`) and cryoDRGN convert a shift to rlnOriginX and rlnOriginY with the same sign."""
    read = particles_from_cryosparc(write_cs(tmp_path / "p.cs", aligned(kind=kind)))
    assert read["pixel_size"].tolist() == [1.5] * 3
    np.testing.assert_array_equal(read["origin_x"], [4.5, 0, -18])
    np.testing.assert_array_equal(read["origin_y"], [-9, 0.75, 36])


def test_a_3d_alignment_is_preferred_to_a_2d_one(tmp_path: Path) -> None:
    columns = aligned() | {"alignments2D/shift": np.ones((3, 2), np.float32), "alignments2D/psize_A": np.ones(3, np.float32)}
    assert particles_from_cryosparc(write_cs(tmp_path / "p.cs", columns))["origin_x"].tolist() == [4.5, 0, -18]


def test_old_tables_have_shifts_in_pixels_of_the_images(tmp_path: Path) -> None:
    columns = aligned()
    del columns["alignments3D/psize_A"]
    assert particles_from_cryosparc(write_cs(tmp_path / "p.cs", columns))["origin_x"].tolist() == [2.25, 0, -9]


def test_job_directories_state_them_too(tmp_path: Path) -> None:
    write_cs(tmp_path / "J3" / "J3_passthrough_particles.cs", aligned())
    write_batches(tmp_path / "J3" / "restack", {"batch_0_restacked.mrc": 3})
    assert particles_from_cryosparc_job(tmp_path, 3)["origin_x"].tolist() == [4.5, 0, -18]


POSES = [
    ((0.3, -0.7, 1.1), (-123.778494841, 41.343907262, -170.175675868)),
    ((2.1, 0.4, -0.5), (-103.202598192, 120.173240313, 55.228806072)),
    ((-1.5, 1.2, 2.0), (126.851517362, 85.840916511, 24.171133870)),
]
"""Poses of cryoSPARC, and the rot, tilt and psi that pyem's `geom.rot2euler(geom.expmap(pose))` gives for them."""


def test_poses_become_the_angles_that_pyem_writes(tmp_path: Path) -> None:
    columns = aligned(**{"alignments3D/pose": np.array([pose for pose, _ in POSES])})
    read = particles_from_cryosparc(write_cs(tmp_path / "p.cs", columns))
    angles = np.degrees(np.stack([read["pose_rotation"], read["pose_tilt"], read["pose_psi"]], axis=1))
    np.testing.assert_allclose(angles, [angles for _, angles in POSES], rtol=0, atol=1e-8)
    assert np.isnan(read["angle_rotation"]).all()  # only STAR files give these columns, as in CryoLike


def relion_matrix(rot: float, tilt: float, psi: float) -> np.ndarray[Any, Any]:
    """The matrix from the structure's frame to the image's, as in RELION's Euler_angles2matrix."""
    (ca, cb, cg), (sa, sb, sg) = np.cos([rot, tilt, psi]), np.sin([rot, tilt, psi])
    cc, cs, sc, ss = cb * ca, cb * sa, sb * ca, sb * sa
    return np.array(
        [[cg * cc - sg * sa, cg * cs + sg * ca, -cg * sb], [-sg * cc - cg * sa, -sg * cs + cg * ca, sg * sb], [sc, ss, cb]]
    )


def rodrigues(vector: Any) -> np.ndarray[Any, Any]:
    """The rotation about a vector by its length, from the structure's frame to the image's as pyem and cryoDRGN (transposed) take it."""
    length = np.linalg.norm(vector)
    x, y, z = np.asarray(vector) / length
    cross = np.array([[0, z, -y], [-z, 0, x], [y, -x, 0]])
    return np.asarray(np.eye(3) + np.sin(length) * cross + (1 - np.cos(length)) * cross @ cross)


def test_poses_and_angles_are_the_same_rotation(tmp_path: Path) -> None:
    """Includes half turns, and views from above and below, where rot and psi rotate about the same axis."""
    poses = np.array([*np.random.default_rng(3).normal(size=(20, 3)), (0, 0, 0.8), (np.pi, 0, 0), (0, 3.1, 0), (1e-9, 0, 0)])
    n = len(poses)
    columns = particle_columns(["a.mrcs"] * n, list(range(n))) | {"alignments3D/pose": poses}
    read = particles_from_cryosparc(write_cs(tmp_path / "p.cs", columns))
    for pose, *angles in zip(poses, read["pose_rotation"], read["pose_tilt"], read["pose_psi"], strict=True):
        np.testing.assert_allclose(relion_matrix(*angles), rodrigues(pose), rtol=0, atol=1e-7)
    assert np.isnan(read["origin_x"]).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"alignments3D/shift": np.zeros(3, np.float32)}, "alignments3D/shift .* 2 numbers are needed"),
        ({"alignments3D/pose": np.zeros((3, 2), np.float32)}, "alignments3D/pose .* 3 numbers are needed"),
    ],
)
def test_alignments_that_cannot_be_right_are_named(tmp_path: Path, changes: Columns, message: str) -> None:
    with pytest.raises(InputError, match=message):
        particles_from_cryosparc(write_cs(tmp_path / "p.cs", aligned(**changes)))


def test_alignments_that_are_not_finite_are_not_stated(tmp_path: Path) -> None:
    shift = np.array([[1, 2], [np.nan, 0], [3, 4]], np.float32)
    pose = np.array([[1, 2, 3], [0, 0, 0.5], [np.inf, 0, 0]], np.float32)
    read = particles_from_cryosparc(
        write_cs(tmp_path / "p.cs", aligned(**{"alignments3D/shift": shift, "alignments3D/pose": pose}))
    )
    assert np.isnan(read["origin_x"]).tolist() == [False, True, False]
    assert np.isnan(read["origin_y"]).tolist() == [False, True, False]
    assert np.isnan(read["pose_tilt"]).tolist() == [False, False, True]
    told = [line for line in read.warnings if "not finite" in line]
    assert len(told) == 2
    assert "particle 2: alignments3D/shift" in told[0]
    assert "particle 3: alignments3D/pose" in told[1]
