"""Finding recorded image files."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from cryolike_dask.errors import InputError
from cryolike_dask.particles.image_paths import resolve_image_paths


def test_recorded_paths_are_relative_to_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    resolved = resolve_image_paths(["J1/a.mrcs", "/data/b.mrcs", "./J1//a.mrcs"], "", "t.star")
    assert resolved.notes == ()
    assert resolved.paths == (str(tmp_path / "J1/a.mrcs"), "/data/b.mrcs", str(tmp_path / "J1/a.mrcs"))


def test_path_up_from_a_link_is_resolved_by_the_file_system(tmp_path: Path) -> None:
    (tmp_path / "far/away").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "far/away")
    assert resolve_image_paths([f"{tmp_path}/link/../a.mrcs"], "", "t.star").paths == (str(tmp_path / "far/a.mrcs"),)


def test_only_the_name_counts_in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mrc").mkdir()
    assert resolve_image_paths(["J1/a.mrcs", "/data/b.mrcs"], "~/mrc", "t.star").paths == (
        str(tmp_path / "mrc/a.mrcs"),
        str(tmp_path / "mrc/b.mrcs"),
    )


def test_two_spellings_of_one_file_do_not_collapse(tmp_path: Path) -> None:
    assert resolve_image_paths(["J1/a.mrcs", "./J1/a.mrcs"], tmp_path, "t.star").paths == (str(tmp_path / "a.mrcs"),) * 2
    with pytest.raises(InputError, match=r"t.star names both J1/a.mrcs and J2/a.mrcs.*one file, a.mrcs"):
        resolve_image_paths(["J1/a.mrcs", "J2/a.mrcs"], tmp_path, "t.star")


def test_folder_that_is_absent_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere does not exist.*t.star"):
        resolve_image_paths(["a.mrcs"], tmp_path / "nowhere", "t.star")


@pytest.mark.parametrize("path", ["", "  ", "J1/", "..", "J1/..", "a\0b.mrcs", "a\x1b[31m.mrcs", "a\nb.mrcs", "a\x9bb.mrcs"])
def test_path_of_no_file_is_refused(path: str) -> None:
    with pytest.raises(InputError, match="not the path of a file") as caught:
        resolve_image_paths(["a.mrcs", path], "", "t.star")
    assert repr(path) in str(caught.value)
    assert str(caught.value).isprintable()


def make(*files: Path) -> None:
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()


def test_folder_may_be_the_root_of_the_recorded_paths(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make(tmp_path / "P3/J1/x.mrc", tmp_path / "P3/J2/x.mrc")
    with caplog.at_level(logging.INFO, "cryolike_dask"):
        resolved = resolve_image_paths(["J1/x.mrc", "/J2/x.mrc", "J2/gone.mrc"], tmp_path / "P3", "t.cs")
    assert resolved.paths == tuple(str(tmp_path / "P3" / name) for name in ("J1/x.mrc", "J2/x.mrc", "J2/gone.mrc"))
    assert resolved.notes == (f"the image files are in {tmp_path / 'P3'} under their recorded paths",)
    assert f"t.cs: {resolved.notes[0]}." in caplog.text


@pytest.mark.parametrize("with_folder", [True, False])
def test_files_beside_the_table_are_found_last(tmp_path: Path, with_folder: bool, caplog: pytest.LogCaptureFixture) -> None:
    make(tmp_path / "table/b.mrcs", tmp_path / "empty/nothing")
    folder = tmp_path / "empty" if with_folder else ""
    with caplog.at_level(logging.INFO, "cryolike_dask"):
        resolved = resolve_image_paths(["J1/a.mrcs", "J1/b.mrcs"], folder, tmp_path / "table/t.star")
    assert resolved.paths == (str(tmp_path / "table/a.mrcs"), str(tmp_path / "table/b.mrcs"))
    assert resolved.notes == (f"the image files are in {tmp_path / 'table'}, beside the table",)
    assert resolved.notes[0] in caplog.text


def test_first_rule_that_finds_a_file_counts_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    recorded = ["J1/a.mrcs", "J1/b.mrcs"]
    make(tmp_path / "table/a.mrcs", tmp_path / "table/b.mrcs")
    assert resolve_image_paths(recorded, "", "table/t.star").paths == tuple(
        str(tmp_path / "table" / name) for name in ("a.mrcs", "b.mrcs")
    )
    make(tmp_path / "J1/b.mrcs")
    assert resolve_image_paths(recorded, "", "table/t.star") == ((str(tmp_path / "J1/a.mrcs"), str(tmp_path / "J1/b.mrcs")), ())
    make(tmp_path / "root/J1/a.mrcs")
    assert resolve_image_paths(recorded, "root", "table/t.star").paths[1] == str(tmp_path / "root/J1/b.mrcs")
    make(tmp_path / "root/b.mrcs")
    assert resolve_image_paths(recorded, "root", "table/t.star") == (
        (str(tmp_path / "root/a.mrcs"), str(tmp_path / "root/b.mrcs")),
        (),
    )


@pytest.mark.parametrize("n", [1, 15, 17, 2000])
def test_the_last_of_many_files_is_found(tmp_path: Path, n: int) -> None:
    make(tmp_path / f"{n - 1}.mrcs")
    recorded = [f"gone/{i}.mrcs" for i in range(n)]
    assert resolve_image_paths(recorded, "", tmp_path / "t.star").paths == tuple(str(tmp_path / f"{i}.mrcs") for i in range(n))
    assert resolve_image_paths([*recorded[:-1], "other.mrcs"], "", tmp_path / "t.star").notes == ()


def test_names_that_collapse_are_an_error_by_the_rule_that_counts(tmp_path: Path) -> None:
    recorded = ["J1/x.mrc", "J2/x.mrc"]
    make(tmp_path / "P3/J1/x.mrc", tmp_path / "table/x.mrc")
    # No file is found in the folder itself, so no two files become one there.
    assert len(set(resolve_image_paths(recorded, tmp_path / "P3", "t.cs").paths)) == 2
    with pytest.raises(InputError, match=r"names both J1/x.mrc and J2/x.mrc: in the folder .*table they would be one file, x.mrc"):
        resolve_image_paths(recorded, "", tmp_path / "table/t.star")
    make(tmp_path / "P3/x.mrc")
    with pytest.raises(InputError, match=r"names both J1/x.mrc and J2/x.mrc: in the folder .*P3 they would be one file, x.mrc"):
        resolve_image_paths(recorded, tmp_path / "P3", "t.cs")


def test_beside_several_tables_is_one_place_or_none(tmp_path: Path) -> None:
    make(tmp_path / "a.mrc")
    assert resolve_image_paths(["gone/a.mrc"], "", tmp_path / "1.csv", tmp_path / "2.csv").paths == (str(tmp_path / "a.mrc"),)
    assert resolve_image_paths(["gone/a.mrc"], "", tmp_path / "1.csv", "/elsewhere/2.csv").notes == ()
