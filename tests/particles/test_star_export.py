"""The STAR file of the converted particles: our reader and `starfile` read back what was written."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import starfile

from cryolike_dask.errors import InputError, OutputError
from cryolike_dask.mrc.boxes import BoxCut
from cryolike_dask.particles.star.export import write_particles_star
from cryolike_dask.particles.star.particles import particles_from_star
from cryolike_dask.particles.table import ParticleTable, Source, new_rows


def particles(
    n: int = 6, files: tuple[str, ...] = ("/data/a.mrcs", "/data/two words/b.mrcs", "/data/run#3/c.mrcs")
) -> ParticleTable:
    generator = np.random.default_rng(7)
    rows = new_rows(n)
    for name, low, high in (
        ("defocus_u", 5000, 30000),
        ("defocus_v", 5000, 30000),
        ("defocus_angle", -math.pi, math.pi),
        ("phase_shift", 0, math.pi),
        ("angle_rotation", -math.pi, math.pi),
        ("angle_tilt", 0, math.pi),
        ("angle_psi", -math.pi, math.pi),
        ("b_factor", 0, 100),
        ("scale_factor", 0, 1),
    ):
        rows[name] = generator.uniform(low, high, n)
    rows["file"] = np.arange(n) % len(files)
    rows["index"] = generator.permutation(1_500_000)[:n]
    rows["voltage"] = np.where(np.arange(n) < n // 2, 300, 200)
    rows["spherical_aberration"] = 2.7
    rows["amplitude_contrast"] = 0.1
    rows["row"] = np.arange(n)
    return ParticleTable(rows, files, (Source("star", "/data/particles.star"),))


def export(path: Path, table: ParticleTable) -> Path:
    n = len(table)
    write_particles_star(path, table, np.arange(n) // 4, np.arange(n) % 4, 1.31, 256)
    return path


def test_our_reader_gets_back_what_was_written(tmp_path: Path) -> None:
    table = particles()
    read = particles_from_star(export(tmp_path / "out.star", table))
    assert read.files == table.files
    for name in ("file", "index", "voltage", "spherical_aberration", "amplitude_contrast"):
        np.testing.assert_array_equal(read[name], table[name], err_msg=name)
    for name in ("defocus_angle", "phase_shift", "angle_rotation", "angle_tilt", "angle_psi"):
        np.testing.assert_allclose(np.degrees(read[name]), np.degrees(table[name]), rtol=0, atol=1e-9, err_msg=name)
    for name in ("defocus_u", "defocus_v", "b_factor", "scale_factor"):
        np.testing.assert_allclose(read[name], table[name], rtol=1e-14, err_msg=name)
    assert set(read["pixel_size"]) == {1.31}
    assert read.optics_groups == ("1 (opticsGroup1)", "2 (opticsGroup2)")


def test_numbers_of_single_precision_are_written_as_they_were_typed(tmp_path: Path) -> None:
    table = particles()
    table.rows["spherical_aberration"] = np.float32(2.7)
    table.rows["amplitude_contrast"] = np.float32(0.1)
    table.rows["amplitude_contrast"][1:] = np.pi / 30
    write_particles_star(tmp_path / "a.star", table, np.zeros(6, int), np.arange(6), float(np.float32(1.06)), 256)
    (row, other, _) = starfile.read(tmp_path / "a.star")["optics"].astype(str).to_dict("records")
    assert (row["rlnSphericalAberration"], row["rlnAmplitudeContrast"], row["rlnImagePixelSize"]) == ("2.7", "0.1", "1.06")
    assert float(other["rlnAmplitudeContrast"]) == pytest.approx(np.pi / 30, rel=1e-14)


def test_starfile_reads_it(tmp_path: Path) -> None:
    table = particles()
    blocks = starfile.read(export(tmp_path / "out.star", table), always_dict=True)
    names = blocks["particles"]["rlnImageName"].tolist()
    assert names == [f"{row['index'] + 1:06d}@{table.files[row['file']]}" for row in table.rows]
    assert blocks["particles"]["cryolikeStack"].tolist() == [0, 0, 0, 0, 1, 1]
    assert blocks["particles"]["cryolikeStackPosition"].tolist() == [0, 1, 2, 3, 0, 1]
    assert blocks["particles"]["rlnOpticsGroup"].tolist() == [1, 1, 1, 2, 2, 2]
    optics = blocks["optics"]
    assert optics["rlnVoltage"].tolist() == [300, 200]
    assert optics["rlnImageSize"].tolist() == [256, 256]
    assert optics["rlnImageDimensionality"].tolist() == [2, 2]
    assert optics["rlnImagePixelSize"].tolist() == [1.31, 1.31]


def test_what_is_not_stated_is_not_written(tmp_path: Path) -> None:
    table = particles()
    for name in ("angle_tilt", "b_factor"):
        table.rows[name] = np.nan
    columns = starfile.read(export(tmp_path / "out.star", table), always_dict=True)["particles"].columns
    assert "rlnAngleRot" in columns
    assert "rlnCtfScalefactor" in columns
    assert not {"rlnAngleTilt", "rlnCtfBfactor"} & set(columns)


@pytest.mark.parametrize("file", ["/d/Bob's/a.mrcs", "/d/Bob's two/a.mrcs", '/d/5"/a.mrcs', "/d/Größe/a.mrcs", "/d/a@b/c.mrcs"])
def test_odd_characters_of_paths_come_back(tmp_path: Path, file: str) -> None:
    assert particles_from_star(export(tmp_path / "out.star", particles(files=(file,)))).files == (file,)


@pytest.mark.parametrize("file", ["/d/a\nb.mrcs", "/d/a\tb.mrcs", '/d/5" two/a.mrcs', "/d/\udcff/a.mrcs"])
def test_a_path_that_star_cannot_hold_is_refused(tmp_path: Path, file: str) -> None:
    with pytest.raises(InputError, match="cannot be written in a STAR file"):
        export(tmp_path / "out.star", particles(files=(file,)))
    assert list(tmp_path.iterdir()) == []


def test_boxes_of_micrographs_are_written_by_their_centre(tmp_path: Path) -> None:
    table = particles(2, ("/data/m.mrc",))
    table.rows["top"], table.rows["left"] = [10, -5], [20, 100]
    boxes = replace(table, sources=(Source("leopard-em", "/data/t.csv", boxes=BoxCut(64)),))
    written = starfile.read(export(tmp_path / "out.star", boxes), always_dict=True)["particles"]
    assert written["rlnMicrographName"].tolist() == ["/data/m.mrc"] * 2
    assert written["rlnCoordinateX"].tolist() == [52, 132]
    assert written["rlnCoordinateY"].tolist() == [42, 27]
    assert "rlnImageName" not in written.columns


def test_boxes_and_whole_images_together_are_refused(tmp_path: Path) -> None:
    table = particles(2)
    boxes = replace(table, sources=(Source("leopard-em", "/data/t.csv", boxes=BoxCut(64)),))
    with pytest.raises(InputError, match="whole images and others are boxes"):
        export(tmp_path / "out.star", ParticleTable.concatenate([table, boxes]))


def test_an_existing_file_is_replaced_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = export(tmp_path / "out.star", particles(6))
    export(path, particles(3))
    assert len(particles_from_star(path)) == 3
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_keeps_the_existing_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = export(tmp_path / "out.star", particles(6))
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OutputError, match=r"out\.star cannot be written: .*No space left"):
        export(path, particles(3))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"none/out\.star cannot be written"):
        export(tmp_path / "none" / "out.star", particles())
