"""The same file has the same path, however it is spelt."""

from __future__ import annotations

from pathlib import Path

import pytest

from cryolike_dask.errors import InputError
from cryolike_dask.filesystem.paths import absolute_path, input_path


def test_every_spelling_of_a_path_gives_one_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path / "sub")
    monkeypatch.setenv("HOME", str(tmp_path))
    for spelling in ("../a.star", "./../a.star", "../sub/../a.star", "~/a.star", "~/sub/../a.star", tmp_path / "a.star"):
        assert input_path(spelling) == tmp_path / "a.star", spelling


def test_a_symbolic_link_is_kept(tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    (tmp_path / "link").symlink_to("project")
    assert absolute_path(tmp_path / "link" / "a.star") == str(tmp_path / "link" / "a.star")
    assert absolute_path(tmp_path / "project" / ".." / "link" / "a.star") == str(tmp_path / "link" / "a.star")


def test_the_folder_above_a_symbolic_link_is_that_of_its_target(tmp_path: Path) -> None:
    (tmp_path / "disk" / "project").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "project")
    assert absolute_path(tmp_path / "link" / ".." / "a.star") == str(tmp_path / "disk" / "a.star")


def test_the_home_folder_of_an_unknown_user_is_refused() -> None:
    with pytest.raises(InputError, match=r"~no-such-user/a\.star begins with the home folder of an unknown user"):
        input_path("~no-such-user/a.star")
