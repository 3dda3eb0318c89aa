"""The same file has the same path, however it is spelt."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from cryolike_dask import (
    particles_from_cryosparc,
    particles_from_leopard_em,
    particles_from_paired_star_and_mrc_files,
    particles_from_star,
)
from cryolike_dask.errors import InputError
from cryolike_dask.filesystem.paths import absolute_path, input_path
from cryolike_dask.settings import output_folder


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


@pytest.mark.parametrize("value", [3, None, ["a.star"], b"a.star"], ids=repr)
def test_a_value_that_is_no_path_is_refused_wherever_a_path_is_given(value: Any) -> None:
    named = re.escape(repr(value))
    for read in (
        input_path,
        particles_from_star,
        particles_from_cryosparc,
        lambda path: particles_from_paired_star_and_mrc_files([path], ["a.star"]),
        lambda path: particles_from_leopard_em([path], 16),
    ):
        with pytest.raises(InputError, match=rf"^{named} is of the type {type(value).__name__}: give a path"):
            read(value)
    if value is not None:
        with pytest.raises(InputError, match=rf"folder_output is {named}: give a path"):
            output_folder(value)


def test_an_output_folder_of_an_unknown_user_is_refused() -> None:
    with pytest.raises(InputError, match="folder_output is '~no-such-user/out', in the home folder of an unknown user"):
        output_folder("~no-such-user/out")
