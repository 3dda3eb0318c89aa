"""Particles of indexed cryoSPARC tables."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cryolike_dask.errors import InputError
from cryolike_dask.particles.cryosparc.particles import particles_from_cryosparc
from tests.support.cs_files import Columns, blob_columns, ctf_columns, particle_columns, records, uids, write_cs
from tests.support.reference import DATA, INPUT, needs_data, published

CTF_FIELDS = {
    "defocus_u": "ctf/df1_A",
    "defocus_v": "ctf/df2_A",
    "defocus_angle": "ctf/df_angle_rad",
    "phase_shift": "ctf/phase_shift_rad",
    "spherical_aberration": "ctf/cs_mm",
    "voltage": "ctf/accel_kv",
    "amplitude_contrast": "ctf/amp_contrast",
    "pixel_size": "blob/psize_A",
}
TWO_FILES = ["J1/a.mrc", "J1/a.mrc", "J1/b.mrc"]


def table(**changes: Any) -> Columns:
    """Three particles in two files; a column set to None is left out, `__` in a name stands for `/`."""
    columns = particle_columns(TWO_FILES, [4, 0, 2])
    for name, column in changes.items():
        name = name.replace("__", "/")
        if column is None:
            del columns[name]
        else:
            columns[name] = np.asarray(column)
    return columns


@needs_data
@pytest.mark.parametrize("name", ["empiar_10076_7.cs", "cryosparc_J2_particles_exported.cs"])
def test_real_tables(name: str) -> None:
    stored = np.load(DATA / name)
    particles = particles_from_cryosparc(DATA / name)
    assert len(particles) == len(stored)
    for field, column in CTF_FIELDS.items():
        np.testing.assert_array_equal(particles[field], stored[column].astype(np.float64), err_msg=field)
    np.testing.assert_array_equal(particles["uid"], stored["uid"])
    np.testing.assert_array_equal(particles["index"], stored["blob/idx"])
    np.testing.assert_array_equal(particles["row"], np.arange(len(stored)))
    recorded = [path.decode().lstrip(">") for path in stored["blob/path"]]
    beside = (DATA / os.path.basename(recorded[0])).exists()
    named = [str(DATA / os.path.basename(path)) if beside else os.path.join(os.getcwd(), path) for path in recorded]
    assert [particles.files[i] for i in particles["file"]] == named
    assert set(particles.optics_groups) == {f"exposure group {group}" for group in stored["ctf/exp_group_id"]}
    assert particles.sources[0].notes[0] == "blob/sign is -1 for all particles"
    assert particles.sources[0].notes[1:] == ((f"the image files are in {DATA}, beside the table",) if beside else ())
    for field in ("b_factor", "scale_factor", "angle_rotation", "angle_tilt", "angle_psi"):
        assert np.isnan(particles[field]).all()
    assert particles.warnings == ()


def test_reference_table_in_a_folder() -> None:
    expected = published("single", "indexed_cs")
    particles = particles_from_cryosparc(INPUT / "particles.cs", INPUT / "mrc")
    assert particles.files == tuple(str(INPUT / "mrc" / name) for name in ("A.mrcs", "B.mrcs", "C.mrcs"))
    for field, key in [("defocus_u", "defocusU"), ("defocus_v", "defocusV"), ("phase_shift", "phaseShift")]:
        np.testing.assert_array_equal(particles[field], expected[key])
    np.testing.assert_array_equal(particles["defocus_angle"], expected["defocusAngle"])
    assert set(particles["spherical_aberration"]) == {float(expected["sphericalAberration"])}
    assert set(particles["pixel_size"]) == {2.5}


TUTORIAL = ["somedir/file1.mrc", "somedir/file1.mrc", "somedir/file2.mrc", "otherdir/file3.mrc", "somedir/file1.mrc"]


def test_tutorial_example_without_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cs(tmp_path / "MyFile.cs", particle_columns(TUTORIAL, [2, 0, 9, 9, 1]))
    monkeypatch.chdir(tmp_path)
    particles = particles_from_cryosparc("MyFile.cs")
    names = ("somedir/file1.mrc", "somedir/file2.mrc", "otherdir/file3.mrc")
    assert particles.files == tuple(str(tmp_path / name) for name in names)
    assert particles["file"].tolist() == [0, 0, 1, 2, 0]
    assert particles["index"].tolist() == [2, 0, 9, 9, 1]
    assert particles.sources[0].table == str(tmp_path / "MyFile.cs")


def test_tutorial_example_with_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cs(tmp_path / "MyFile.cs", particle_columns(TUTORIAL, [2, 0, 9, 9, 1]))
    folder = tmp_path / "my_research/my_mrc_files"
    folder.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(tmp_path))
    particles = particles_from_cryosparc("~/MyFile.cs", "~/my_research/my_mrc_files/")
    assert particles.files == tuple(str(folder / name) for name in ("file1.mrc", "file2.mrc", "file3.mrc"))
    assert particles["file"].tolist() == [0, 0, 1, 2, 0]


def test_files_that_collapse_in_a_folder_are_refused(tmp_path: Path) -> None:
    path = write_cs(tmp_path / "a.cs", particle_columns(["J1/x.mrc", ">J1/x.mrc", "J2/x.mrc"], [0, 1, 0]))
    assert len(particles_from_cryosparc(path).files) == 2
    with pytest.raises(InputError, match=r"both J1/x.mrc and J2/x.mrc.*one file, x.mrc"):
        particles_from_cryosparc(path, tmp_path)


def test_large_index_and_identity_survive(tmp_path: Path) -> None:
    path = write_cs(tmp_path / "a.cs", table(blob__idx=np.array([4294967295, 0, 1], np.uint32)))
    particles = particles_from_cryosparc(path)
    assert particles["index"].dtype == np.int64
    assert (particles["index"] * 518400).tolist() == [4294967295 * 518400, 0, 518400]
    np.testing.assert_array_equal(particles["uid"], uids(3))
    assert max(uids(30)) > 2**63


def test_every_row_keeps_its_optics(tmp_path: Path) -> None:
    columns = table(ctf__cs_mm=np.array([2.61, 2.9, 2.61], np.float32), ctf__exp_group_id=np.array([9, 2, 9], np.uint32))
    particles = particles_from_cryosparc(write_cs(tmp_path / "a.cs", columns))
    np.testing.assert_array_equal(particles["spherical_aberration"], np.array([2.61, 2.9, 2.61], np.float32).astype(float))
    assert particles.optics_groups == ("exposure group 2", "exposure group 9")
    assert particles["optics_group"].tolist() == [1, 0, 1]
    ungrouped = particles_from_cryosparc(write_cs(tmp_path / "b.cs", table(ctf__exp_group_id=None)))
    assert ungrouped.optics_groups == ("",)


def test_header_beyond_ten_kilobytes(tmp_path: Path) -> None:
    many = {f"alignments_class_{i}/pose": np.zeros((3, 3), np.float32) for i in range(600)}
    path = write_cs(tmp_path / "a.cs", {**table(), **many})
    with pytest.raises(ValueError, match="max_header_size"):
        np.load(path)
    assert len(particles_from_cryosparc(path)) == 3


def test_more_rows_than_are_copied_at_once(tmp_path: Path) -> None:
    n = 150_000
    path = write_cs(tmp_path / "a.cs", particle_columns([f"{i % 7}.mrc" for i in range(n)], list(range(n))))
    particles = particles_from_cryosparc(path)
    np.testing.assert_array_equal(particles["index"], np.arange(n))
    np.testing.assert_array_equal(particles["file"], np.arange(n) % 7)
    np.testing.assert_array_equal(particles["defocus_u"], (15000 + np.arange(n)).astype(np.float32))


def test_big_endian_table_and_header_of_python_2(tmp_path: Path) -> None:
    plain = records(table())
    swapped = plain.astype(plain.dtype.newbyteorder(">"))
    (tmp_path / "big.cs").write_bytes(_npy(swapped))
    (tmp_path / "old.cs").write_bytes(_npy(plain).replace(b"(3,)", b"(3L,)", 1).replace(b" \n", b"\n", 1))
    for name in ("big.cs", "old.cs"):
        particles = particles_from_cryosparc(tmp_path / name)
        assert particles["defocus_u"].tolist() == [15000, 15001, 15002]
        assert particles["uid"].tolist() == uids(3).tolist()


def test_old_names_of_amplitude_contrast(tmp_path: Path) -> None:
    for name in ("ctf/ac", "ctf/amp_constrast"):
        path = write_cs(tmp_path / "a.cs", {**table(ctf__amp_contrast=None), name: np.full(3, 0.07, np.float32)})
        assert particles_from_cryosparc(path)["amplitude_contrast"].tolist() == [float(np.float32(0.07))] * 3


def test_missing_phase_shift_is_zero_with_a_warning(tmp_path: Path) -> None:
    particles = particles_from_cryosparc(write_cs(tmp_path / "a.cs", table(ctf__phase_shift_rad=None)))
    assert particles["phase_shift"].tolist() == [0, 0, 0]
    assert "no column ctf/phase_shift_rad" in particles.warnings[0]


def test_pixel_size_of_zero_is_not_stated(tmp_path: Path) -> None:
    particles = particles_from_cryosparc(write_cs(tmp_path / "a.cs", table(blob__psize_A=np.array([1.5, 0, np.nan], np.float32))))
    np.testing.assert_array_equal(particles["pixel_size"], [1.5, np.nan, np.nan])
    assert "for 2 particles" in particles.warnings[0]
    absent = particles_from_cryosparc(write_cs(tmp_path / "b.cs", table(blob__psize_A=None)))
    assert np.isnan(absent["pixel_size"]).all()
    assert absent.warnings == ()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ctf__df1_A": None}, r"lacks the column ctf/df1_A\."),
        ({"ctf__df1_A": None, "ctf__df1_a": np.zeros(3)}, "lacks the column ctf/df1_A. Is ctf/df1_a a misspelling"),
        ({"ctf__amp_contrast": None}, r"lacks the column ctf/amp_contrast\."),
        ({"blob__idx": None}, "lacks the column blob/idx"),
        ({"blob__psize_A": None, "blob__psize_a": np.ones(3)}, "no column blob/psize_A but one named blob/psize_a"),
        ({"ctf__df2_A": [1.0, np.nan, 2.0]}, "a.cs, particle 2: ctf/df2_A is nan, not a finite number"),
        ({"ctf__accel_kv": [300, 300, -1.0]}, "particle 3: ctf/accel_kv is -1 kV"),
        ({"ctf__accel_kv": [b"300"] * 3}, "column ctf/accel_kv of .* is of type"),
        ({"ctf__df1_A": np.zeros((3, 2))}, "column ctf/df1_A of .* one per particle"),
        ({"blob__idx": [0.0, 1.0, 2.0]}, "column blob/idx of .* whole numbers"),
        ({"blob__idx": [0, -1, 2]}, "particle 2: blob/idx is -1: images are counted from 0"),
        ({"blob__path": [b"a.mrc", b">", b"b.mrc"]}, "particle 2: blob/path is b'>'"),
        ({"blob__path": [b"a.mrc", b"b.mrc", b"\xff.mrc"]}, "particle 3: blob/path"),
        ({"blob__path": [b"a.mrc", b"J1/", b"b.mrc"]}, "not the path of a file"),
        ({"blob__path": [1, 2, 3]}, "column blob/path of .* not text"),
        ({"blob__psize_A": [1.5, 1.5, -2.0]}, "particle 3: blob/psize_A is -2.0"),
        ({"uid": [0.5, 1.5, 2.5]}, "column uid of .* whole numbers"),
    ],
)
def test_wrong_columns_are_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = write_cs(tmp_path / "a.cs", table(**changes))
    with pytest.raises(InputError, match=message) as caught:
        particles_from_cryosparc(path)
    assert str(path) in str(caught.value)


def _npy(array: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "Git LFS pointer"),
        (b"<!DOCTYPE html><html></html>", "HTML page"),
        (b"x\ndata_\nloop_\n", "not a cryoSPARC table: it begins with b'x"),
        (_npy(np.zeros(3)), "without named columns"),
        (_npy(records(table()).reshape(3, 1)), "without named columns"),
        (_npy(records(table())[:0]), "no particles"),
        (_npy(records(table()))[:-1], "damaged"),
        (_npy(records(table())) + b"\0", "damaged"),
        (_npy(records(table())).replace(b"(3,)", b"(2,)"), "damaged.*states 2 rows"),
        (_npy(records(table())).replace(b"'blob/idx', '<u4'", b"'blob/idx', '>u4'"), "different byte orders"),
        (_npy(records({**table(), "blob/path": np.array(TWO_FILES, dtype=object)})), "Python objects"),
        (b"\x95CSDAT\x04\x00\x00\x00{}}}", "header of .* is damaged"),
    ],
)
def test_file_that_is_no_table_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.cs"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        particles_from_cryosparc(path)
    assert str(path) in str(caught.value)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.cs")
    for path, message in [
        ("", "file_cs is empty"),
        (tmp_path / "absent.cs", "does not exist"),
        (tmp_path / "pipe.cs", "is a named pipe, not a .cs file"),
        (tmp_path, "is a folder, not a .cs file"),
    ]:
        with pytest.raises(InputError, match=message):
            particles_from_cryosparc(path)


def test_missing_ctf_is_looked_up_by_uid_beside(tmp_path: Path) -> None:
    order = [2, 0, 1]
    write_cs(tmp_path / "particles.cs", {"uid": uids(3), **blob_columns(TWO_FILES, [4, 0, 2])})
    write_cs(tmp_path / "J2_passthrough_particles.cs", {"uid": uids(3)[order], **{k: v[order] for k, v in ctf_columns(3).items()}})
    particles = particles_from_cryosparc(tmp_path / "particles.cs")
    assert particles["defocus_u"].tolist() == [15000, 15001, 15002]
    assert particles["index"].tolist() == [4, 0, 2]
    assert "no ctf/* columns: they were looked up by uid in" in particles.warnings[0]


def test_missing_images_are_looked_up_where_the_job_made_them(tmp_path: Path) -> None:
    columns = {"uid": uids(3), **ctf_columns(3)}
    write_cs(tmp_path / "J2_passthrough_particles.cs", columns)
    for name, path in [("restacked_particles.cs", "J2/restack/b.mrc"), ("J2_009_particles.cs", "J1/a.mrc")]:
        write_cs(tmp_path / name, {"uid": uids(3)[::-1], **blob_columns([path] * 3, [0, 1, 2])})
    particles = particles_from_cryosparc(tmp_path / "J2_passthrough_particles.cs")
    assert particles["index"].tolist() == [2, 1, 0]
    assert particles.files[0].endswith("J2/restack/b.mrc")


@pytest.mark.parametrize("beside", ["none", "partial", "repeated"])
def test_columns_found_nowhere_are_an_error(tmp_path: Path, beside: str) -> None:
    path = write_cs(tmp_path / "a.cs", {"uid": uids(3), **blob_columns(TWO_FILES, [4, 0, 2])})
    if beside != "none":
        chosen = [0, 1] if beside == "partial" else [0, 1, 2, 2]
        write_cs(tmp_path / "b_particles.cs", {"uid": uids(3)[chosen], **ctf_columns(len(chosen))})
    with pytest.raises(InputError, match=r"a.cs lacks the CTF columns \(ctf/df1_A") as caught:
        particles_from_cryosparc(path)
    assert ("b_particles.cs" in str(caught.value)) == (beside != "none")


def test_value_looked_up_elsewhere_is_blamed_on_the_right_table(tmp_path: Path) -> None:
    path = write_cs(tmp_path / "a.cs", {"uid": uids(3), **blob_columns(TWO_FILES, [4, 0, 2])})
    write_cs(tmp_path / "b_particles.cs", {"uid": uids(3), **ctf_columns(3), "ctf/df1_A": np.array([1, np.inf, 1])})
    with pytest.raises(InputError, match=r"a.cs, particle 2: ctf/df1_A \(looked up by uid in .*b_particles.cs\) is inf"):
        particles_from_cryosparc(path)


def test_escape_characters_of_a_path_are_not_printed(tmp_path: Path) -> None:
    path = write_cs(tmp_path / "a.cs", table(blob__path=[b"J1/a.mrc", b"J1/\x1b[31mred.mrc", b"J1/b.mrc"]))
    with pytest.raises(InputError, match=r"particle 2: blob/path is .* which is not a path") as caught:
        particles_from_cryosparc(path)
    assert str(caught.value).isprintable()
    assert r"J1/\x1b[31mred.mrc" in str(caught.value)


def test_where_the_images_were_found_is_recorded(tmp_path: Path) -> None:
    (tmp_path / "P3" / "J1").mkdir(parents=True)
    (tmp_path / "P3" / "J1" / "b.mrc").touch()
    particles = particles_from_cryosparc(write_cs(tmp_path / "a.cs", table()), tmp_path / "P3")
    assert particles.files == (str(tmp_path / "P3/J1/a.mrc"), str(tmp_path / "P3/J1/b.mrc"))
    assert particles.sources[0].notes[-1] == f"the image files are in {tmp_path / 'P3'} under their recorded paths"
