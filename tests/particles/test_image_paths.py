"""Where recorded image files are looked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from cryolike_dask.errors import InputError
from cryolike_dask.particles.image_paths import resolve_image_paths


def test_recorded_paths_are_relative_to_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    resolved = resolve_image_paths(["J1/a.mrcs", "/data/b.mrcs", "./J1//a.mrcs"], "", "t.star")
    assert resolved == (str(tmp_path / "J1/a.mrcs"), "/data/b.mrcs", str(tmp_path / "J1/a.mrcs"))


def test_path_up_from_a_link_is_resolved_by_the_file_system(tmp_path: Path) -> None:
    (tmp_path / "far/away").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "far/away")
    assert resolve_image_paths([f"{tmp_path}/link/../a.mrcs"], "", "t.star") == (str(tmp_path / "far/a.mrcs"),)


def test_only_the_name_counts_in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mrc").mkdir()
    assert resolve_image_paths(["J1/a.mrcs", "/data/b.mrcs"], "~/mrc", "t.star") == (
        str(tmp_path / "mrc/a.mrcs"),
        str(tmp_path / "mrc/b.mrcs"),
    )


def test_two_spellings_of_one_file_do_not_collapse(tmp_path: Path) -> None:
    assert resolve_image_paths(["J1/a.mrcs", "./J1/a.mrcs"], tmp_path, "t.star") == (str(tmp_path / "a.mrcs"),) * 2
    with pytest.raises(InputError, match=r"t.star names both J1/a.mrcs and J2/a.mrcs.*one file, a.mrcs"):
        resolve_image_paths(["J1/a.mrcs", "J2/a.mrcs"], tmp_path, "t.star")


def test_folder_that_is_absent_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere, does not exist.*t.star"):
        resolve_image_paths(["a.mrcs"], tmp_path / "nowhere", "t.star")


@pytest.mark.parametrize("path", ["", "  ", "J1/", "..", "J1/..", "a\0b.mrcs"])
def test_path_of_no_file_is_refused(path: str) -> None:
    with pytest.raises(InputError, match="not the path of a file"):
        resolve_image_paths(["a.mrcs", path], "", "t.star")
