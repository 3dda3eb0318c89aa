"""Conditions find the same particles as pandas in the raw table, and mean the same as in Python."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import starfile
from hypothesis import given, settings
from hypothesis import strategies as st

from cryolike_dask import (
    InputError,
    ParticleTable,
    particles_from_cryosparc,
    particles_from_cryosparc_job,
    particles_from_leopard_em,
    particles_from_paired_star_and_mrc_files,
    particles_from_star,
)
from cryolike_dask.particles.query import meets_condition
from cryolike_dask.particles.table import Source, new_rows
from tests.support import star_files
from tests.support.cs_files import particle_columns, uids, write_batches, write_cs
from tests.support.leopard_em_files import rows_of_page, write_rows
from tests.support.particle_sets import ABC, in_sequence, optics_table, shuffled, write_images, write_star


@pytest.fixture(scope="module")
def star(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty particles of two optics groups, with columns that a conversion does not use."""
    listed = shuffled(in_sequence({"a.mrcs": 25, "b.mrcs": 35}))
    n, rng = len(listed), np.random.default_rng(0)
    return write_star(
        tmp_path_factory.mktemp("star") / "p.star",
        listed,
        optics=optics_table(2, rlnOpticsGroupName=["g1", '"the second"'], rlnVoltage=["300", "200"], rlnBeamTiltX=["0.5", "-0.25"]),
        groups=rng.integers(1, 3, n).tolist(),
        rlnClassNumber=rng.integers(1, 5, n).tolist(),
        rlnMicrographName=[f"mic/{name[0]} {number % 3}.mrc".join('""') for number, (name, _) in enumerate(listed)],
        rlnMaxValueProbDistribution=rng.uniform(0, 1, n).round(4).tolist(),
    )


def by_pandas(star: Path) -> pd.DataFrame:
    blocks = starfile.read(star, always_dict=True)
    return blocks["particles"].merge(blocks["optics"], on="rlnOpticsGroup", how="left")


@pytest.mark.parametrize(
    ("condition", "of_pandas"),
    [
        ("rlnDefocusU < 10300", "rlnDefocusU < 10300"),
        ("defocus_u < 10300 and optics_group == 'g1'", "rlnDefocusU < 10300 and rlnOpticsGroupName == 'g1'"),
        ("rlnClassNumber in [1, 3]", "rlnClassNumber in [1, 3]"),
        (
            "ClassNumber not in [1, 3] or _rlnMaxValueProbDistribution >= 0.5",
            "~(rlnClassNumber in [1, 3]) | rlnMaxValueProbDistribution >= 0.5",
        ),
        ("not (rlnVoltage == 200 or 10200 <= rlnDefocusU < 10400)", "~((rlnVoltage == 200) | (10200 <= rlnDefocusU < 10400))"),
        ("optics_group != 'the second'", "rlnOpticsGroupName != 'the second'"),
        ("rlnOpticsGroup == 2 and rlnBeamTiltX < 0", "rlnOpticsGroup == 2"),
        ("rlnMicrographName in ['mic/a 1.mrc', 'mic/b 2.mrc']", "rlnMicrographName in ['mic/a 1.mrc', 'mic/b 2.mrc']"),
        (
            "rlnAnglePsi > rlnPhaseShift and rlnAngleRot < rlnCtfScalefactor",
            "rlnAnglePsi > rlnPhaseShift and rlnAngleRot < rlnCtfScalefactor",
        ),
    ],
)
def test_star_columns_choose_what_pandas_chooses(star: Path, condition: str, of_pandas: str) -> None:
    wanted = np.flatnonzero(by_pandas(star).eval(of_pandas))
    assert 0 < len(wanted) < 60
    chosen = particles_from_star(star).query(condition)
    np.testing.assert_array_equal(chosen["row"], wanted)


def test_files_are_named_by_the_end_of_their_path(star: Path) -> None:
    particles = particles_from_star(star)
    folder = Path(particles.files[0]).parent
    for condition, file in {
        "file == 'a.mrcs'": "a.mrcs",
        "not file in ['b.mrcs', 'c.mrcs']": "a.mrcs",
        f"file == '{folder.name}/b.mrcs'": "b.mrcs",
        f"'{folder}/b.mrcs' == file": "b.mrcs",
    }.items():
        chosen = particles.query(condition)
        assert len(chosen) == {"a.mrcs": 25, "b.mrcs": 35}[file]
        assert {Path(chosen.files[number]).name for number in chosen["file"]} == {file}
    assert len(particles.query("file == 'elsewhere/a.mrcs' or file == 's'")) == 0
    assert len(particles.query("source == 'p.star'")) == 60


@pytest.mark.parametrize("column", ["origin_x", "uid", "sign", "box_rows", "top", "pose_psi"])
def test_a_condition_on_a_column_that_the_table_does_not_state_is_refused(star: Path, column: str) -> None:
    particles = particles_from_star(star)
    for condition in (f"{column} < 5", f"defocus_u > 0 and not {column} < 5"):
        with pytest.raises(InputError, match=rf"p\.star does not state {column} for any of the 60 particles.*Leave it out"):
            particles.query(condition)
    assert len(particles[[]].query(f"{column} < 5")) == 0


def test_columns_of_the_source_have_their_own_names_in_python(star: Path) -> None:
    raw, particles = by_pandas(star), particles_from_star(star)
    part = particles[np.arange(40, 5, -3)]
    for name in ("rlnMaxValueProbDistribution", "rlnClassNumber", "rlnVoltage"):
        np.testing.assert_array_equal(part[name], raw[name].to_numpy()[part["row"]])
    assert part["rlnMicrographName"].tolist() == raw["rlnMicrographName"].to_numpy()[part["row"]].tolist()
    df = part.to_dataframe(["rlnClassNumber", "optics_group", "defocus_u"])
    assert df.columns.tolist() == ["rlnClassNumber", "optics_group", "defocus_u"]
    assert df["optics_group"].tolist() == raw["rlnOpticsGroupName"].to_numpy()[part["row"]].tolist()
    np.testing.assert_array_equal(df["rlnClassNumber"], raw["rlnClassNumber"].to_numpy()[part["row"]])
    with pytest.raises(InputError, match="Did you mean rlnClassNumber"):
        part["rlnClasNumber"]


def test_a_subset_knows_its_own_rows_of_the_table(star: Path) -> None:
    particles = particles_from_star(star)
    part = particles[np.arange(40, 5, -3)]
    classes = by_pandas(star)["rlnClassNumber"].to_numpy()[part["row"]]
    np.testing.assert_array_equal(part.query("rlnClassNumber == 2")["row"], part["row"][classes == 2])


def test_cryosparc_columns(tmp_path: Path) -> None:
    n = 40
    columns = particle_columns([f">J1/{'ab'[i % 2]}.mrc" for i in range(n)], list(range(n)))
    columns["alignments3D/split"] = (np.arange(n) % 3).astype(np.uint32)
    columns["alignments3D/pose"] = np.zeros((n, 3), np.float32)
    write_cs(tmp_path / "p.cs", columns)
    particles = particles_from_cryosparc(tmp_path / "p.cs")
    raw = pd.DataFrame({name: list(values) for name, values in columns.items() if values.ndim == 1})
    for condition, wanted in {
        "ctf/df1_A < 15012": raw["ctf/df1_A"] < 15012,
        "ctf/amp_contrast == 0.1 and alignments3D/split in [0, 2]": raw["alignments3D/split"] != 1,
        "blob/path == '>J1/a.mrc'": raw["blob/path"] == b">J1/a.mrc",
        "blob/path in ['J1/a.mrc', '>J2/b.mrc']": raw["blob/path"] == b">J1/a.mrc",
        "'J1/b.mrc' != blob/path": raw["blob/path"] == b">J1/a.mrc",
        f"uid == {int(uids(n)[7])} or uid in [{int(uids(n)[9])}, 3, -1]": raw["uid"].isin([uids(n)[7], uids(n)[9]]),
        "optics_group == 'exposure group 3' and defocus_u > 15003.5": raw["ctf/df1_A"] > 15003.5,
    }.items():
        np.testing.assert_array_equal(particles.query(condition)["row"], np.flatnonzero(wanted), err_msg=condition)
    with pytest.raises(InputError, match="3 values per particle"):
        particles.query("alignments3D/pose < 1")
    with pytest.raises(InputError, match=r"Did you mean ctf/df1_A"):
        particles.query("ctf/df1 < 1")
    with pytest.raises(InputError, match=r"no column psi_of_3D_error\. There are (.*)\.$") as caught:
        particles.query("psi_of_3D_error < 100")
    listed = str(caught.value).partition("There are ")[2].removesuffix(".").split(", ")
    assert len(set(listed)) == len(listed)
    assert {"defocus_u", "uid", "ctf/df1_A"} <= set(listed)
    assert not {"origin_x", "angle_tilt", "b_factor", "scale_factor", "top"} & set(listed)


def test_numbers_of_single_precision_are_found_as_they_were_typed(tmp_path: Path) -> None:
    columns = particle_columns(["a.mrc"] * 4, range(4))
    columns["blob/psize_A"] = np.array([1.06, 1.07, 1.06, 0], np.float32)
    columns["ctf/cs_mm"] = np.array([2.7, 2.61, 0.01, 2.7], np.float32)
    particles = particles_from_cryosparc(write_cs(tmp_path / "p.cs", columns))
    for condition, rows in {
        "pixel_size == 1.06": [0, 2],
        "pixel_size >= 1.07": [1],
        "spherical_aberration in [2.61, 0.01]": [1, 2],
        "amplitude_contrast == ctf/cs_mm or spherical_aberration >= 2.7": [0, 3],
        "amplitude_contrast <= 0.1 and voltage == 300": [0, 1, 2, 3],
    }.items():
        assert particles.query(condition)["row"].tolist() == rows, condition
    # As CryoLike has it.
    assert particles["spherical_aberration"].tolist() == columns["ctf/cs_mm"].astype(float).tolist()


def test_a_jobs_columns_are_found_in_the_tables_beside_it_by_uid(tmp_path: Path) -> None:
    n = 12
    columns = particle_columns(["x"] * n, list(range(n)))
    job = tmp_path / "J4"
    write_cs(job / "J4_passthrough_particles.cs", {name: column for name, column in columns.items() if not name.startswith("blob")})
    write_batches(job / "restack", {"batch_000000_restacked.mrc": 8, "batch_000001_restacked.mrc": 4})
    order = np.random.default_rng(1).permutation(n)
    write_cs(job / "J4_particles.cs", {"uid": uids(n)[order], "alignments3D/error": order.astype(np.float32)})
    chosen = particles_from_cryosparc_job(tmp_path, 4).query("alignments3D/error >= 9 or ctf/df1_A == 15001")
    assert chosen["row"].tolist() == [1, 9, 10, 11]


def test_columns_of_leopard_em(tmp_path: Path) -> None:
    rows = [row | {"scaled_mip": 8.5 - i / 4, "total_correlations": "" if i == 5 else 7} for i, row in enumerate(rows_of_page(6))]
    table = write_rows(tmp_path / "t.csv", rows)
    raw = pd.read_csv(table)
    particles = particles_from_leopard_em(table, 16)
    for condition, wanted in {
        "scaled_mip > 7.6 and micrograph_path != ''": raw["scaled_mip"] > 7.6,
        "total_correlations == 7": raw["total_correlations"] == 7,
    }.items():
        assert 0 < wanted.sum() < 6
        np.testing.assert_array_equal(particles.query(condition)["row"], np.flatnonzero(wanted), err_msg=condition)
    rows[2]["scaled_mip"] = "#DIV/0!"  # of a spreadsheet
    particles = particles_from_leopard_em(write_rows(tmp_path / "t.csv", rows), 16)
    with pytest.raises(InputError, match=r"particle 3 .*: scaled_mip is '#DIV/0!', which is not a number\. Correct the table\."):
        particles.query("scaled_mip > 7.6")
    with pytest.raises(
        InputError, match=r"template_path is 'template\.mrc', which is not a number\. Compare it with text in quotes\."
    ):
        particles.query("template_path > 7.6")


def test_pairs_are_one_table(tmp_path: Path) -> None:
    write_images(tmp_path, ABC)
    stars = [
        write_star(tmp_path / f"{name}.star", [(name, i) for i in range(n)], rlnClassNumber=[i % 2 for i in range(n)])
        for name, n in ABC.items()
    ]
    particles = particles_from_paired_star_and_mrc_files([tmp_path / name for name in ABC], stars)
    chosen = particles.query("rlnClassNumber == 1")
    assert [(Path(particles.files[row["file"]]).name, int(row["index"])) for row in chosen.rows] == [
        (name, i) for name, n in ABC.items() for i in range(n) if i % 2
    ]
    without = write_star(tmp_path / "without.star", [("A.mrcs", i) for i in range(7)])
    mixed = particles_from_paired_star_and_mrc_files([tmp_path / "A.mrcs", tmp_path / "B.mrcs"], [without, stars[1]])
    with pytest.raises(InputError, match=r"without\.star has no column rlnClassNumber"):
        mixed.query("rlnClassNumber == 1")


def test_a_table_that_changed_since_it_was_read_is_refused(tmp_path: Path) -> None:
    listed = in_sequence({"a.mrcs": 6})
    star = write_star(tmp_path / "p.star", listed, rlnClassNumber=list(range(6)))
    particles = particles_from_star(star)
    star_files.write(tmp_path, star.read_text().replace("10010.5", "10011.5"), "p.star")
    with pytest.raises(InputError, match="has changed since"):
        particles.query("rlnClassNumber == 1")
    write_star(tmp_path / "p.star", listed[:3], rlnClassNumber=list(range(3)))
    with pytest.raises(InputError, match="has changed since"):
        particles.query("rlnClassNumber == 1")


@pytest.mark.parametrize(
    ("condition", "told"),
    [
        ("defocs_u < 1", "There is no column defocs_u. Did you mean defocus_u"),
        ("rlnClasNumber == 1", "Did you mean rlnClassNumber"),
        ("optics_group == 1", "compare it with 'the second', 'g1', or compare rlnOpticsGroup, the number of the group"),
        ("optics_group == g1", "g1. It is a value of optics_group: put it in quotation marks, as 'g1'"),
        ("file < 3", "compare it with 'a.mrcs', 'b.mrcs'"),
        ("defocus_u == 'x'", "a column of numbers with the text 'x'"),
        ("rlnMicrographName < 3", "'mic/a 0.mrc', which is not a number"),
    ],
)
def test_what_cannot_be_compared_is_refused(star: Path, condition: str, told: str) -> None:
    particles = particles_from_star(star)
    with pytest.raises(InputError, match=re.escape(told)):
        particles.query(condition.replace("'mic/a 0.mrc'", str(by_pandas(star)["rlnMicrographName"][0])))


def small_table() -> ParticleTable:
    rows = new_rows(24)
    rows["file"] = np.arange(24) % 3
    rows["index"] = np.arange(24) // 2 - 4
    rows["sign"] = np.arange(24) % 2
    rows["b_factor"] = [np.nan if i % 5 == 0 else i / 4 - 2 for i in range(24)]
    return ParticleTable(rows, ("a", "b c", 'd"'), (Source("star", "nowhere.star"),))


TABLE = small_table()
ROWS = [
    {"index": int(row["index"]), "b_factor": float(row["b_factor"]), "file": TABLE.files[row["file"]], "sign": int(row["sign"])}
    for row in TABLE.rows
]
NUMBERS = st.integers(-9, 9).map(str) | st.sampled_from(["0.25", "-1.75", "1e1", ".5", "3."])
TEXTS = st.sampled_from(["'a'", '"b c"', "'d\"'", "''", "'z'"])
NAMES = st.sampled_from(["index", "b_factor", "sign"])
SIGNS = st.sampled_from(["<", "<=", ">", ">=", "==", "!="])


@st.composite
def comparisons(draw: st.DrawFn) -> str:
    column, value = draw(st.sampled_from([(NAMES, NUMBERS), (st.just("file"), TEXTS)]))
    if draw(st.booleans()):
        brackets = draw(st.sampled_from(["[]", "()"]))
        values = draw(st.lists(value, min_size=1, max_size=3))
        return f"{draw(column)} {draw(st.sampled_from(['in', 'not in']))} {brackets[0]}{', '.join(values)},{brackets[1]}"
    operands = [draw(column), *draw(st.lists(column | value, min_size=1, max_size=3))]
    operands = draw(st.permutations(operands))
    return " ".join([operands[0], *(f"{draw(SIGNS)} {operand}" for operand in operands[1:])])


CONDITIONS = st.recursive(
    comparisons(),
    lambda inner: st.one_of(
        inner.map(lambda text: f"not {text}"),
        inner.map(lambda text: f"({text})"),
        st.tuples(inner, st.sampled_from([" and ", " or ", "\tand\n"]), inner).map("".join),
    ),
    max_leaves=8,
)


@settings(max_examples=400, deadline=None)
@given(CONDITIONS)
def test_conditions_mean_what_they_mean_in_python(condition: str) -> None:
    code = compile(" ".join(condition.split("\n")), "condition", "eval")
    wanted = [bool(eval(code, {"__builtins__": {}}, row)) for row in ROWS]  # this test made the expressions
    assert meets_condition(TABLE, condition).tolist() == wanted


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="ab_u1.'\"<>=!()[],andortinx /-+\n\x00é", max_size=30))
def test_any_other_text_is_an_error_of_ours(text: str) -> None:
    try:
        mask: npt.NDArray[np.bool_] = meets_condition(TABLE[np.zeros(24, bool)], text)
    except InputError:
        return
    assert mask.shape == (0,)
