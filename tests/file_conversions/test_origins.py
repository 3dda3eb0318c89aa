"""Origins in a conversion: they are recorded, restacked, and written so that another program can centre the source images."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import pytest
import starfile

from cryolike_dask import (
    convert_particle_stacks_from_indexed_cryosparc_file,
    convert_particle_stacks_from_indexed_star_file,
    convert_particle_stacks_from_paired_star_and_mrc_files,
    open_store,
    restack,
)
from tests.support.conversions import convert
from tests.support.cs_files import particle_columns, write_cs
from tests.support.independent_reader import read_stacks
from tests.support.mrc_files import example_images, pack_mrc
from tests.support.particle_sets import NO_PLOTS, ParticleSet, optics_table, params, write_particle_set
from tests.support.reference import DATA, needs_data
from tests.support.shifted_objects import PIXEL, centre_of_mass, render, shifted_set

ORIGINS_X, ORIGINS_Y = [1.25, -2.5, 0.0, 7.0, -0.125], [-3.0, 0.5, 0.0, 1e-3, 40.0]
MICROGRAPHS = ["m1.mrc", '"two words.mrc"', "m1.mrc", "m#2.mrc", "m3.mrc"]
FURTHER = {
    "rlnCoordinateX": ["100.000000", "1e3", "7", "0", "12.5"],
    "rlnCoordinateY": ["1", "2", "3", "4", "5"],
    "rlnMicrographName": [value if "#" not in value else f'"{value}"' for value in MICROGRAPHS],
    "rlnRandomSubset": ["1", "2", "2", "1", "1"],
    "rlnGroupName": ['""', "a", "b", "c", "d"],
}
"""Columns that a conversion does not use."""
OF_OPTICS = {"rlnBeamTiltX": ["0.125", "-1"], "rlnMtfFileName": ["mtf.star", '"my mtf.star"']}


@pytest.fixture
def particles(tmp_path: Path) -> ParticleSet:
    return write_particle_set(
        tmp_path,
        {"a.mrcs": 3, "b.mrcs": 2},
        shuffle=True,
        optics=optics_table(2, **OF_OPTICS),
        groups=[2, 1, 1, 2, 1],
        rlnOriginXAngst=ORIGINS_X,
        rlnOriginYAngst=ORIGINS_Y,
        **FURTHER,
    )


def test_metadata_record_them_as_stated_whatever_the_axes(particles: ParticleSet) -> None:
    for axes in ("cryolike", "relion"):
        first, second = convert(particles, out=axes, batch_size=3, axes=axes)
        assert [*first.metadata["originX"], *second.metadata["originX"]] == ORIGINS_X
        assert [*first.metadata["originY"], *second.metadata["originY"]] == ORIGINS_Y


@needs_data
def test_a_real_table_of_relion_keeps_all_its_columns(tmp_path: Path) -> None:
    source = DATA / "relion31.star"
    small = params(256, 2.806, resolution_factor=0.1)
    convert_particle_stacks_from_indexed_star_file(small, source, DATA, tmp_path / "out", **NO_PLOTS)
    read, written = (starfile.read(path, always_dict=True) for path in (source, tmp_path / "out" / "particles.star"))
    columns = [name for name in read["particles"] if name != "rlnImageName"]
    assert len(columns) == 25
    for name in columns:
        assert written["particles"][name].tolist() == pytest.approx(read["particles"][name].tolist()), name
    for name in read["optics"]:
        assert written["optics"][name].tolist() == pytest.approx(read["optics"][name].tolist()), name
    (stack,) = read_stacks(tmp_path / "out")
    assert stack.metadata["originX"].tolist() == read["particles"]["rlnOriginXAngst"].tolist()


def test_metadata_of_a_table_without_them_have_no_such_key(tmp_path: Path) -> None:
    (stack,) = convert(write_particle_set(tmp_path, {"a.mrcs": 3}))
    assert not {"originX", "originY", "poseRotation"} & set(stack.metadata)


def test_every_other_column_of_the_table_is_kept(particles: ParticleSet) -> None:
    convert(particles, batch_size=3)
    read, written = (
        starfile.read(path, always_dict=True) for path in (particles.star, particles.folder / "out" / "particles.star")
    )
    for name in (*FURTHER, "rlnOriginXAngst", "rlnOriginYAngst", "rlnAngleRot", "rlnDefocusU"):
        assert written["particles"][name].tolist() == pytest.approx(read["particles"][name].tolist()), name
    text = (particles.folder / "out" / "particles.star").read_text()
    assert "\t100.000000\t" in text  # copied as text, not parsed
    assert '"two words.mrc"' in text
    of_particle = written["particles"].merge(written["optics"], on="rlnOpticsGroup")
    for name in (*OF_OPTICS, "rlnOpticsGroupName"):
        expected = read["particles"].merge(read["optics"], on="rlnOpticsGroup")[name].tolist()
        assert of_particle[name].tolist() == expected, name
    assert written["optics"]["rlnOpticsGroup"].tolist() == [1, 2]


def convert_only(particles: ParticleSet, out: str = "out", **options: Any) -> None:
    convert_particle_stacks_from_indexed_star_file(
        params(), particles.star, particles.mrc, folder_output=particles.folder / out, **(NO_PLOTS | options)
    )


@pytest.mark.parametrize("output_format", ["pt", "zarr"])
def test_restacking_keeps_them_and_the_other_columns(particles: ParticleSet, output_format: str) -> None:
    convert_only(particles, out="first", batch_size=3, output_format=output_format)
    source = particles.folder / "first" / "particles.zarr" if output_format == "zarr" else particles.folder / "first"
    restack(source, particles.folder / "again", batch_size=5)
    (stack,) = read_stacks(particles.folder / "again")
    assert stack.metadata["originX"].tolist() == ORIGINS_X
    assert stack.metadata["originY"].tolist() == ORIGINS_Y
    for name in ("rlnMicrographName", "rlnRandomSubset", "rlnOriginXAngst"):
        assert column_of_set(particles, "again", name) == column_of_set(particles, "first", name)


def column_of_set(particles: ParticleSet, out: str, name: str) -> list[str]:
    return starfile.read(particles.folder / out / "particles.star", always_dict=True)["particles"][name].tolist()


def test_zarr_columns_have_them(particles: ParticleSet) -> None:
    convert_only(particles, output_format="zarr", batch_size=3)
    store = open_store(particles.folder / "out")
    assert store.columns["originX"].compute().tolist() == ORIGINS_X


def test_a_table_that_changed_meanwhile_is_not_mixed_with_what_was_converted(particles: ParticleSet) -> None:
    convert(particles, out="first", batch_size=3)
    *lines, last_but_one, last = particles.star.read_text().rstrip().splitlines()
    particles.star.write_text("\n".join([*lines, last, last_but_one]) + "\n")
    report = restack(particles.folder / "first", particles.folder / "again", batch_size=5)
    assert any("particles.star lacks the columns" in line and "has changed since" in line for line in report.warnings)
    written = starfile.read(particles.folder / "again" / "particles.star", always_dict=True)["particles"]
    assert "rlnMicrographName" not in written
    assert written["rlnOriginXAngst"].tolist() == ORIGINS_X


def test_a_finished_run_writes_the_file_again(particles: ParticleSet) -> None:
    """As the guide says: the table is put back, and the run repeated with `skip_exist`."""
    convert(particles, batch_size=3)
    written = particles.folder / "out" / "particles.star"
    before, stacks = written.read_text(), [path.stat().st_mtime_ns for path in (particles.folder / "out" / "fft").iterdir()]
    written.unlink()
    convert(particles, batch_size=3, skip_exist=True)
    assert written.read_text() == before
    assert [path.stat().st_mtime_ns for path in (particles.folder / "out" / "fft").iterdir()] == stacks


def test_a_removed_table_is_reported(particles: ParticleSet) -> None:
    convert(particles, out="first", batch_size=3)
    particles.star.unlink()
    report = restack(particles.folder / "first", particles.folder / "again", batch_size=5)
    assert any("particles.star lacks the columns" in line and "does not exist" in line for line in report.warnings)


def test_paired_tables_give_the_columns_that_all_of_them_have(tmp_path: Path) -> None:
    sets = [
        write_particle_set(
            tmp_path / "a", {"a.mrcs": 2}, rlnMicrographName="m1.mrc", rlnRandomSubset=["1", "2"], rlnOriginXAngst="1"
        ),
        write_particle_set(tmp_path / "b", {"b.mrcs": 2}, rlnRandomSubset=["2", "2"], rlnMicrographName="m2.mrc"),
    ]
    mrcs = [one.mrc / name for one, name in zip(sets, ("a.mrcs", "b.mrcs"), strict=True)]
    out = tmp_path / "out"
    convert_particle_stacks_from_paired_star_and_mrc_files(
        params(), mrcs, [one.star for one in sets], folder_output=out, **NO_PLOTS
    )
    written = starfile.read(out / "particles.star", always_dict=True)
    assert written["particles"]["rlnMicrographName"].tolist() == ["m1.mrc", "m1.mrc", "m2.mrc", "m2.mrc"]
    assert written["particles"]["rlnRandomSubset"].tolist() == [1, 2, 2, 2]
    assert written["particles"]["rlnAngleRot"].tolist() == [-20, -19, -20, -19]  # not in the metadata of the stacks
    assert "rlnOriginXAngst" not in written["particles"]
    assert written["optics"]["rlnOpticsGroupName"].tolist() == ["group1"]


def test_relion30_tables_get_optics_groups_and_origins_in_angstrom(tmp_path: Path) -> None:
    (tmp_path / "a.mrcs").write_bytes(pack_mrc(example_images(2, (2, 12, 12)), 2))
    names = ["ImageName", "DefocusU", "DefocusV", "DefocusAngle", "Voltage", "SphericalAberration", "DetectorPixelSize"]
    names += ["Magnification", "OriginX", "OriginY", "MicrographName"]
    rows = [f"{i}@{tmp_path}/a.mrcs 10000 9900 5 300 2.7 5 25000 {i} -0.5 m{i}.mrc" for i in (1, 2)]
    star = tmp_path / "particles.star"
    star.write_text("data_\n\nloop_\n" + "".join(f"_rln{name}\n" for name in names) + "\n".join(rows) + "\n")
    convert_particle_stacks_from_indexed_star_file(params(), star, folder_output=tmp_path / "out", **NO_PLOTS)
    written = starfile.read(tmp_path / "out" / "particles.star", always_dict=True)
    assert written["particles"]["rlnOriginXAngst"].tolist() == [2, 4]
    assert written["particles"]["rlnOriginYAngst"].tolist() == [-1, -1]
    assert written["particles"]["rlnMicrographName"].tolist() == ["m1.mrc", "m2.mrc"]
    # One pixel size, that of the optics group.
    assert not {"rlnOriginX", "rlnOriginY", "rlnMagnification", "rlnDetectorPixelSize"} & set(written["particles"])
    assert written["optics"]["rlnImagePixelSize"].tolist() == [2]


def test_cryosparc_tables_give_pose_micrograph_and_half_set(tmp_path: Path) -> None:
    (tmp_path / "a.mrcs").write_bytes(pack_mrc(example_images(2, (3, 12, 12)), 2))
    columns = particle_columns(["a.mrcs"] * 3, [0, 1, 2], box=12) | {
        "alignments3D/shift": np.array([[1, -2], [0, 0], [3, 4]], np.float32),
        "alignments3D/psize_A": np.full(3, 1.5, np.float32),
        "alignments3D/pose": np.array([[0, 0, 0.5], [0, 1, 0], [0.3, 0.2, 0.1]], np.float32),
        "alignments3D/split": np.array([0, 1, 0], np.uint32),
        "location/micrograph_path": np.array([b">J1/m1.mrc", b"J1/m2.mrc", b"J1/m 3.mrc"]),
    }
    table = write_cs(tmp_path / "p.cs", columns)
    out = tmp_path / "out"
    convert_particle_stacks_from_indexed_cryosparc_file(params(12, 1.5), table, tmp_path, out, **NO_PLOTS)
    (stack,) = read_stacks(out)
    assert stack.metadata["originX"].tolist() == [1.5, 0, 4.5]
    assert stack.metadata["angleTilt"].size == 0  # as CryoLike has it
    written = starfile.read(out / "particles.star", always_dict=True)["particles"]
    assert written["rlnMicrographName"].tolist() == ["J1/m1.mrc", "J1/m2.mrc", "J1/m 3.mrc"]
    assert written["rlnRandomSubset"].tolist() == [1, 2, 1]
    assert written["rlnOriginYAngst"].tolist() == [-3, 0, 6]
    np.testing.assert_allclose(written["rlnAngleTilt"], np.degrees(stack.metadata["poseTilt"]), rtol=1e-12)
    np.testing.assert_allclose(written["rlnAngleTilt"][1], np.degrees(1), rtol=1e-6)
    np.testing.assert_allclose(written["rlnAngleRot"][0] + written["rlnAnglePsi"][0], np.degrees(0.5), rtol=1e-6)


@pytest.mark.parametrize(
    ("paths", "written"),
    [
        (["J1/Größe.mrc".encode(), b"J1/b.mrc"], ["J1/Größe.mrc", "J1/b.mrc"]),
        ([b"J1/\xff.mrc", b"J1/b.mrc"], ["J1/\\xff.mrc", "J1/b.mrc"]),
        ([b"J1/a\nb.mrc", b"J1/b.mrc"], None),
        ([b'J1/5" tape.mrc', b"J1/b.mrc"], None),
    ],
    ids=str,
)
def test_odd_names_of_micrographs_do_not_fail_a_run(paths: list[bytes], written: list[str] | None, tmp_path: Path) -> None:
    (tmp_path / "a.mrcs").write_bytes(pack_mrc(example_images(2, (2, 12, 12)), 2))
    columns = particle_columns(["a.mrcs"] * 2, [0, 1], box=12) | {"location/micrograph_path": np.array(paths)}
    table = write_cs(tmp_path / "p.cs", columns)
    convert_particle_stacks_from_indexed_cryosparc_file(params(12, 1.5), table, tmp_path, tmp_path / "out", **NO_PLOTS)
    particles = starfile.read(tmp_path / "out" / "particles.star", always_dict=True)["particles"]
    assert (particles["rlnMicrographName"].tolist() if "rlnMicrographName" in particles else None) == written


def test_origins_that_some_particles_lack_are_reported(tmp_path: Path) -> None:
    (tmp_path / "a.mrcs").write_bytes(pack_mrc(example_images(2, (2, 12, 12)), 2))
    columns = particle_columns(["a.mrcs"] * 2, [0, 1], box=12)
    columns |= {"alignments3D/shift": np.array([[1, 2], [np.nan, 0]]), "alignments3D/psize_A": np.ones(2)}
    report = convert_particle_stacks_from_indexed_cryosparc_file(
        params(12, 1.5), write_cs(tmp_path / "p.cs", columns), tmp_path, tmp_path / "out", **NO_PLOTS
    )
    assert any("lacks rlnOriginXAngst, which 1 of 2 particles do not state" in line for line in report.warnings)
    (stack,) = read_stacks(tmp_path / "out")
    np.testing.assert_array_equal(stack.metadata["originX"], [1, np.nan])


@pytest.mark.parametrize("change", ["rlnOpticsGroup", "a word"])
def test_a_table_whose_groups_changed_meanwhile_is_reported(particles: ParticleSet, change: str) -> None:
    convert(particles, out="first", batch_size=3)
    text = particles.star.read_text()
    head = text.split("data_particles")[0]
    (old,) = re.findall(r"\n(1 group1 .*)\n", head)
    particles.star.write_text(text.replace(old, old.replace("1 group1", "7 group1" if change == "rlnOpticsGroup" else "x group1")))
    report = restack(particles.folder / "first", particles.folder / "again", batch_size=5)
    assert any("has changed since" in line for line in report.warnings)


@pytest.mark.parametrize("axes", ["cryolike", "relion"])
def test_another_reader_centres_the_source_images_by_particles_star(tmp_path: Path, axes: str) -> None:
    """Read with starfile and mrcfile alone, each image has its particle in the middle after it is rolled by its origin."""
    origins = np.array([[3, -5], [-2, 0], [0, 6], [4, 4]], dtype=float)
    particles, _ = shifted_set(tmp_path, origins)
    blob = [render(64, -origin[None], np.ones(1), 2.5).astype(np.float32) for origin in origins]
    (particles.mrc / "a.mrcs").write_bytes(pack_mrc(np.stack(blob), 2, pixel_size=PIXEL))
    convert(particles, params(64, PIXEL), axes=axes, batch_size=2)
    written = starfile.read(particles.folder / "out" / "particles.star", always_dict=True)
    pixel = float(written["optics"]["rlnImagePixelSize"].iloc[0])
    for row, origin in zip(written["particles"].itertuples(), origins, strict=True):
        number, _, path = row.rlnImageName.partition("@")
        with mrcfile.open(path, permissive=True) as file:
            image = file.data[int(number) - 1]
        x, y = round(row.rlnOriginXAngst / pixel), round(row.rlnOriginYAngst / pixel)
        assert np.abs(centre_of_mass(image)).max() > 1  # not there yet
        np.testing.assert_allclose(centre_of_mass(np.roll(image, (y, x), axis=(0, 1))), 0, atol=1e-5)
        np.testing.assert_allclose(centre_of_mass(image), -origin, atol=1e-5)


def test_stack_and_position_come_last_and_are_those_of_the_run(particles: ParticleSet) -> None:
    """If the table is from a conversion itself, the positions in the stacks of that conversion are replaced."""
    convert(particles, out="first", batch_size=3)
    again = ParticleSet(particles.folder / "second", particles.images, particles.listed)
    again.folder.mkdir()
    again.mrc.symlink_to(particles.mrc)
    again.star.write_text((particles.folder / "first" / "particles.star").read_text())
    convert(again, out="out", batch_size=5)
    out = again.folder / "out" / "particles.star"
    assert column_of_set(again, "out", "cryolikeStack") == [0] * 5
    names = re.findall(r"_(\w+) #", out.read_text().split("data_particles")[1])
    assert names[-3:] == ["rlnOpticsGroup", "cryolikeStack", "cryolikeStackPosition"]
    assert len(names) == len(set(names))
