"""A particle table in interactive use: columns, choices and reprs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cryolike_dask import (
    Conversion,
    ImageDescriptor,
    InputError,
    ParticleTable,
    browse_particles,
    particles_from_leopard_em,
    particles_from_star,
    preview_particles,
)
from cryolike_dask.particles.display import UNITS
from cryolike_dask.particles.table import PARTICLE_DTYPE
from tests.support.leopard_em_files import rows_of_page, write_rows
from tests.support.particle_sets import ParticleSet, optics_table, write_particle_set


@pytest.fixture(scope="module")
def table(scattered: ParticleSet) -> ParticleTable:
    return particles_from_star(scattered.star, scattered.mrc)


def test_a_mask_positions_or_a_slice_choose_particles(table: ParticleTable) -> None:
    mask = table["defocus_u"] < 10050
    for key, rows in (
        (mask, [0, 1, 2, 3, 4]),
        (mask.tolist(), [0, 1, 2, 3, 4]),
        ([7, 2], [7, 2]),
        (np.array([7, -1]), [7, 30]),
        (slice(3, 9, 2), [3, 5, 7]),
        (4, [4]),
        ([], []),
    ):
        chosen = table[key]
        assert isinstance(chosen, ParticleTable)
        assert chosen["row"].tolist() == rows
    assert table.head()["row"].tolist() == [0, 1, 2, 3, 4]
    assert table.head(2)["row"].tolist() == [0, 1]
    with pytest.raises(InputError, match="shape \\(3,\\), and the table has 31 particles"):
        table[[True, False, True]]
    with pytest.raises(InputError, match="float64"):
        table[[1.0]]


def test_an_unknown_column_gets_a_suggestion(table: ParticleTable) -> None:
    assert table.columns == PARTICLE_DTYPE.names
    with pytest.raises(InputError, match=r"no column defocs_u. Did you mean defocus_u"):
        table["defocs_u"]
    with pytest.raises(InputError, match="There are file, index"):
        table["zzz"]


def test_a_data_frame_has_names_in_place_of_positions(table: ParticleTable, scattered: ParticleSet) -> None:
    df = table.to_dataframe()
    assert tuple(df) == table.columns
    assert [(Path(file).name, index) for file, index in zip(df["file"], df["index"], strict=True)] == list(scattered.listed)
    assert set(df["optics_group"]) == {"group1"}
    assert set(df["source"]) == {str(scattered.star)}
    for name in set(table.columns) - {"file", "optics_group", "source"}:
        np.testing.assert_array_equal(df[name], table[name])


def test_what_is_printed_names_what_is_there(table: ParticleTable, scattered: ParticleSet) -> None:
    text = repr(table)
    first, *lines = text.splitlines()
    assert first == "<ParticleTable: 31 particles>"
    assert f"from:          {scattered.star}" in lines
    assert "defocus U:     10,000 to 10,300 Å" in lines or "defocus U:     10,000 to 10,301 Å" in lines
    shown = {line.split()[0]: line for line in lines if line.startswith("  ")}
    (others,) = (line.partition(":")[2].split(", ") for line in lines if line.startswith("not stated"))
    assert shown.keys() | {name.strip() for name in others} == set(table.columns)
    assert shown["defocus_u"].split() == ["defocus_u", "Å", "10000.5", "10010.5", "10020.5", "...", "10300.5"]
    assert shown["file"].split()[1] == scattered.listed[0][0]
    assert "origin_x" in text.rpartition("not stated")[2]
    assert len(text) < 4000
    assert repr(table[[]]).startswith("<ParticleTable: 0 particles>")


def test_there_is_no_particle_beyond_the_last_one(table: ParticleTable) -> None:
    for key in ([700], 700, [0, -32], np.array([31])):
        with pytest.raises(InputError, match=r"no particle at position (700|-32|31): the table has 31 particles"):
            table[key]
    assert [int(particle["row"][0]) for particle in table] == list(range(31))  # Python's loop ends there
    with pytest.raises(InputError, match="give a whole number of particles"):
        table.head(3.5)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="where is 3: give a condition as text"):
        table.query(3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "advice"),
    [
        ("particles.star", "'particles.star': read the table first, and give what particles_from_star('particles.star') returns"),
        (Path("p.cs"), "particles_from_cryosparc('p.cs') returns"),
        ("t.csv", "particles_from_leopard_em('t.csv', box_size=...) returns"),
        (pd.DataFrame(), "of the type DataFrame: give a ParticleTable"),
    ],
    ids=["star", "cryosparc", "leopard-em", "data frame"],
)
def test_what_is_given_for_particles_must_be_a_table(
    given: Any, advice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for file in ("particles.star", "p.cs", "t.csv"):
        Path(file).touch()
    for call in (
        lambda: Conversion(given),
        lambda: preview_particles(given, None),
        lambda: ImageDescriptor.from_particles(given),
        lambda: browse_particles(given, "page.html"),
    ):
        with pytest.raises(InputError, match=re.escape(advice)):
            call()


def test_boxes_have_a_place_and_no_image_size(tmp_path: Path) -> None:
    boxes = particles_from_leopard_em(write_rows(tmp_path / "t.csv", rows_of_page(3)), 16)
    text, _, others = repr(boxes).rpartition("not stated")
    assert "  left " in text
    assert "box_rows" in others


def test_only_the_groups_of_these_particles_are_named(tmp_path: Path) -> None:
    particles = write_particle_set(tmp_path, {"a.mrcs": 4}, optics=optics_table(2), groups=[1, 2, 2, 1])
    table = particles_from_star(particles.star, particles.mrc)
    assert "group1, group2" in repr(table)
    assert "optics groups: group2\n" in repr(table.query("optics_group == 'group2'"))


def test_units_belong_to_existing_columns() -> None:
    assert PARTICLE_DTYPE.names is not None
    assert UNITS.keys() <= set(PARTICLE_DTYPE.names)


def test_names_that_would_act_on_a_terminal_are_shown(tmp_path: Path) -> None:
    particles = write_particle_set(tmp_path / "a\x1b[2J", {"a.mrcs": 2})
    assert "\x1b" not in repr(particles_from_star(particles.star, particles.mrc))


def test_the_html_of_a_notebook_holds_the_same(table: ParticleTable) -> None:
    markup = table._repr_html_()
    # Name, unit and each value are cells of their own.
    row = re.search(r"<tr><th[^>]*>defocus_u</th>(.*?)</tr>", markup, flags=re.DOTALL)
    assert row is not None
    assert re.findall(r"<td[^>]*>(.*?)</td>", row[1]) == ["Å", "10000.5", "10010.5", "10020.5", "...", "10300.5"]
    for name in ("defocus_u", "10000.5", "not stated", "31 particles"):
        assert name in markup
