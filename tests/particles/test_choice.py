"""`where`, `ind` and `sample` choose the same particles for every input, and say what is wrong with a choice."""

from __future__ import annotations

import json
import pickle
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import starfile

from cryolike_dask import (
    Conversion,
    InputError,
    OutputError,
    ParticleStackConverter,
    convert_particle_stacks_from_indexed_star_file,
    convert_particle_stacks_from_paired_star_and_mrc_files,
    particles_from_star,
    preview_particles,
    restack,
    verify_output,
)
from cryolike_dask.errors import MissingFileError
from cryolike_dask.particles.choice import draw
from cryolike_dask.particles.row_file import read_row_file
from cryolike_dask.settings import ConversionSettings
from tests.support.independent_reader import read_stacks
from tests.support.particle_sets import (
    NO_PLOTS,
    ParticleSet,
    assert_holds,
    in_sequence,
    params,
    traced,
    write_images,
    write_particle_set,
    write_star,
)

RUN: dict[str, Any] = {"batch_size": 4, **NO_PLOTS}


def listed_rows(scattered: ParticleSet, rows: Any) -> list[tuple[str, int]]:
    return [scattered.listed[row] for row in rows]


def test_stacks_and_star_file_hold_exactly_what_was_chosen(scattered: ParticleSet, tmp_path: Path) -> None:
    ind = [25, 3, 4, 17, 9, 11, 12, 28, 2]
    np.save(tmp_path / "ind.npy", ind)
    report = convert_particle_stacks_from_indexed_star_file(
        scattered.folder / "params.npz",
        scattered.star,
        scattered.mrc,
        folder_output=tmp_path / "out",
        where="rlnDefocusU > 10040 and rlnAngleTilt != 11",
        ind=tmp_path / "ind.npy",
        **RUN,
    )
    raw = starfile.read(scattered.star, always_dict=True)["particles"]
    rows = sorted(set(ind) & set(np.flatnonzero((raw["rlnDefocusU"] > 10040) & (raw["rlnAngleTilt"] != 11))))
    assert report.n_images == len(rows) == 6
    assert_holds(read_stacks(tmp_path / "out"), scattered.images, listed_rows(scattered, rows))
    written = starfile.read(tmp_path / "out" / "particles.star", always_dict=True)["particles"]
    np.testing.assert_allclose(written["rlnDefocusU"], raw["rlnDefocusU"][rows])
    assert [name.rpartition("/")[2] for name in written["rlnImageName"]] == [name for name, _ in listed_rows(scattered, rows)]
    assert verify_output(tmp_path / "out", deep=True) == []
    recorded = json.loads((tmp_path / "out" / "manifest.json").read_text())["settings"]
    assert recorded["where"] == "rlnDefocusU > 10040 and rlnAngleTilt != 11"
    assert recorded["ind"].startswith(f"{tmp_path / 'ind.npy'} (9 rows, SHA-256 ")
    assert (recorded["sample"], recorded["seed"]) == (None, 0)
    restack(tmp_path / "out", tmp_path / "again", batch_size=5)
    assert traced(read_stacks(tmp_path / "again")) == listed_rows(scattered, rows)


@pytest.mark.parametrize(
    "kind", ["numbers", "mask", "list", "series", "text", "npy of a mask", "npy of small numbers", "pathlib", "range"]
)
def test_rows_can_be_given_in_many_ways(kind: str, scattered: ParticleSet, tmp_path: Path) -> None:
    rows, n = [3, 4, 17, 30], len(scattered.listed)
    mask = np.isin(np.arange(n), rows)
    (tmp_path / "i.txt").write_text("\ufeff# of the first class\n17\r\n 3 # best\n\n30\n4\n", encoding="utf-8")
    np.save(tmp_path / "mask.npy", mask)
    np.save(tmp_path / "small.npy", np.array(rows, np.uint8))
    given = {
        "numbers": np.array(rows)[::-1],
        "mask": mask,
        "list": [np.int64(row) for row in rows],
        "series": pd.Series(mask),
        "text": str(tmp_path / "i.txt"),
        "npy of a mask": str(tmp_path / "mask.npy"),
        "npy of small numbers": str(tmp_path / "small.npy"),
        "pathlib": tmp_path / "i.txt",
        "range": range(3, 5),
    }[kind]
    conversion = Conversion(particles_from_star(scattered.star, scattered.mrc), params(), ind=given)
    assert conversion.plan.table["row"].tolist() == (rows if kind != "range" else [3, 4])
    # Workers and records get a short text, however large the choice is.
    assert isinstance(conversion.settings.ind, str)
    assert len(conversion.settings.ind) < 200 + len(str(tmp_path))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("3\n-1\n", "ind.txt, line 2: there is no row -1"),
        ("# two\n\n3\n31\n", "ind.txt, line 4: there is no row 31. The table has 31 rows, counted from 0"),
        ("3\n5\n\n3\n", "ind.txt, line 4: row 3 was named before, in line 1"),
        ("3\n4.0\n", "ind.txt, line 2: '4.0' is not a row number"),
        ("3, 4\n", "ind.txt, line 1: '3, 4' is not a row number"),
        ("9" * 40, "line 1"),
        ("", "is empty: give at least one row"),
        ("# nothing\n", "is empty: give at least one row"),
    ],
)
def test_a_wrong_line_of_a_text_file_is_named(content: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "ind.txt").write_text(content)
    with pytest.raises(InputError, match=re.escape(told)):
        read_row_file(str(tmp_path / "ind.txt"), 31)


@pytest.mark.parametrize(
    ("array", "told"),
    [
        (np.array([3, -1]), "element 1: there is no row -1"),
        (np.array([3, 31]), "element 1: there is no row 31"),
        (np.array([3, 2**63], np.uint64), "element 1: there is no row 9223372036854775808"),
        (np.array([7, 3, 7]), "element 2: row 7 was named before, in element 0"),
        (np.arange(31) % 2, "only the values 0 and 1, one per row of the table, so it is probably a mask: give True and False"),
        (np.arange(30) % 2, "row 0 was named before"),
        (np.array([1.0, 2.0]), "float64"),
        (np.array([[1, 2]]), "shape (1, 2)"),
        (np.array([], np.int64), "is empty: give at least one row"),
        (np.zeros(30, bool), "30 values (True or False), and the table has 31 rows"),
        (np.zeros(31, bool), "False for all 31 rows"),
    ],
)
@pytest.mark.parametrize("way", ["file", "array"])
def test_a_wrong_array_is_refused(array: Any, told: str, way: str, scattered: ParticleSet, tmp_path: Path) -> None:
    given: Any = array
    if way == "file":
        given = tmp_path / "ind.npy"
        np.save(given, array)
    elif array.dtype.kind == "f" or array.ndim > 1 or not array.size:
        told = "ind holds"
    with pytest.raises(InputError, match=re.escape(told)):
        Conversion(particles_from_star(scattered.star, scattered.mrc), params(), ind=given)


def test_a_pickle_is_not_opened_and_can_be_converted(tmp_path: Path) -> None:
    path = tmp_path / "it's ind.pkl"
    path.write_bytes(pickle.dumps(np.array([1, 2])))
    with pytest.raises(InputError, match="pickle") as caught:
        read_row_file(str(path), 3)
    (tmp_path / "renamed.npy").write_bytes(path.read_bytes())
    np.save(tmp_path / "objects.npy", np.array([1, None], dtype=object))
    for other in ("renamed.npy", "objects.npy"):
        with pytest.raises(InputError, match="is a pickle"):
            read_row_file(str(tmp_path / other), 3)
    _, _, code = shlex.split(str(caught.value).partition("convert it: ")[2])
    exec(code, {})  # runs the line in the message
    assert read_row_file(str(tmp_path / "it's ind.rows.npy"), 3).tolist() == [1, 2]


def test_other_files_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "i.npz", [1])
    (tmp_path / "cut.npy").write_bytes((np.save(tmp_path / "x.npy", [1, 2]), (tmp_path / "x.npy").read_bytes())[1][:-3])
    (tmp_path / "binary").write_bytes(b"\xff\xfe1")
    for name, told in (("i.npz", "archive"), ("cut.npy", "damaged"), ("binary", "neither text nor"), (".", "folder")):
        with pytest.raises(InputError, match=told):
            read_row_file(str(tmp_path / name), 3)
    with pytest.raises(MissingFileError, match="does not exist"):
        read_row_file(str(tmp_path / "none.txt"), 3)


def test_a_seed_gives_the_same_sample_in_every_version() -> None:
    assert draw(1000, 8, 0).tolist() == RECORDED[0]
    assert draw(1000, 8, 7).tolist() == RECORDED[7]
    assert draw(300_000, 3, 2026).tolist() == RECORDED[2026]


RECORDED = {0: [11, 196, 269, 403, 600, 850, 855, 921], 7: [6, 37, 114, 614, 680, 865, 877, 923], 2026: [104453, 198877, 236664]}


def test_samples_are_fair_and_nested() -> None:
    counts = np.zeros(20)
    for seed in range(2000):
        chosen = draw(20, 5, seed)
        assert len(set(chosen.tolist())) == 5
        assert (np.diff(chosen) > 0).all()
        assert set(chosen.tolist()) < set(draw(20, 9, seed).tolist())
        counts[chosen] += 1
    # Six standard deviations of the binomial distribution of 2000 draws with probability 1/4.
    assert np.abs(counts - 500).max() < 6 * np.sqrt(2000 * 0.25 * 0.75)
    assert draw(20, 20, 1).tolist() == list(range(20))


def test_a_sample_is_drawn_from_what_is_left(scattered: ParticleSet) -> None:
    particles = particles_from_star(scattered.star, scattered.mrc)
    rows = Conversion(particles, params(), where="rlnDefocusU > 10100", sample=5, seed=3).plan.table["row"]
    left = np.flatnonzero(particles["defocus_u"] > 10100)
    np.testing.assert_array_equal(rows, left[draw(len(left), 5, 3)])
    with pytest.raises(InputError, match="21 particles to choose from: give at most 21"):
        Conversion(particles, params(), where="rlnDefocusU > 10100", sample=22)


def test_a_choice_without_particles_is_an_error(scattered: ParticleSet) -> None:
    particles = particles_from_star(scattered.star, scattered.mrc)
    with pytest.raises(InputError, match=r"No particle is left of the 31 in .* after choosing where defocus_u < 5"):
        Conversion(particles, params(), where="defocus_u < 5")
    with pytest.raises(InputError, match="after choosing where defocus_u < 10020 and the 1 row of an array"):
        Conversion(particles, params(), where="defocus_u < 10020", ind=[9])


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ({"sample": 0}, r"sample \(--sample\) is 0"),
        ({"sample": 1.5}, "sample"),
        ({"seed": -1}, r"seed \(--seed\) is -1"),
        ({"seed": True}, "seed"),
        ({"ind": ""}, "ind"),
    ],
)
def test_options_out_of_range_are_refused(option: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        ConversionSettings(**option)


def test_pairs_and_the_converter_choose_in_the_same_place(tmp_path: Path) -> None:
    counts = {"a.mrcs": 6, "b.mrcs": 5}
    images = write_images(tmp_path, counts)
    stars = [write_star(tmp_path / f"{name}.star", [(name, i) for i in range(n)]) for name, n in counts.items()]
    mrcs = [tmp_path / name for name in counts]
    chosen = {"where": "rlnAngleTilt >= 1", "ind": [0, 1, 3, 6, 8, 10], **NO_PLOTS}
    convert_particle_stacks_from_paired_star_and_mrc_files(params(), mrcs, stars, tmp_path / "out", batch_size=2, **chosen)
    wanted = [("a.mrcs", 1), ("a.mrcs", 3), ("b.mrcs", 2), ("b.mrcs", 4)]
    assert_holds(read_stacks(tmp_path / "out"), images, wanted)
    converter = ParticleStackConverter(params(), tmp_path / "out2", **chosen)
    converter.prepare_star_files(mrcs, stars)
    converter.convert_stacks(batch_size=2)
    assert traced(read_stacks(tmp_path / "out2")) == wanted


def test_the_files_of_particles_that_are_left_out_need_not_be_there(tmp_path: Path) -> None:
    particles = write_particle_set(tmp_path, {"a.mrcs": 3, "b.mrcs": 2})
    (particles.mrc / "b.mrcs").unlink()
    out = tmp_path / "out"
    convert_particle_stacks_from_indexed_star_file(
        params(), particles.star, particles.mrc, folder_output=out, where="rlnDefocusU < 10025", **RUN
    )
    assert traced(read_stacks(out)) == in_sequence({"a.mrcs": 3})


@pytest.mark.parametrize(
    ("first", "then", "told"),
    [
        (
            {"where": "defocus_u < 10200"},
            {"where": "defocus_u < 10100"},
            "settings.where: 'defocus_u < 10200' there, 'defocus_u < 10100' now",
        ),
        ({}, {"sample": 9}, "settings.sample: None there, 9 now"),
        ({"sample": 9}, {"sample": 9, "seed": 1}, "settings.seed: 0 there, 1 now"),
        ({"ind": [1, 2, 3]}, {"ind": [1, 2, 4]}, "settings.ind: 'an array (3 rows, SHA-256"),
    ],
)
def test_a_run_is_not_continued_with_another_choice(
    first: dict[str, Any], then: dict[str, Any], told: str, scattered: ParticleSet, tmp_path: Path
) -> None:
    def run(**options: Any) -> Any:
        out = tmp_path / "out"
        return convert_particle_stacks_from_indexed_star_file(params(), scattered.star, scattered.mrc, out, **RUN, **options)

    run(**first)
    with pytest.raises(OutputError, match=re.escape(told)) as caught:
        run(**then, skip_exist=True)
    assert "have changed" not in str(caught.value)
    again = run(**first, skip_exist=True)
    assert again.n_kept == len(again.stacks) > 0


def test_the_same_particles_by_another_way_are_the_same_run(scattered: ParticleSet, tmp_path: Path) -> None:
    particles = particles_from_star(scattered.star, scattered.mrc)
    by_where = Conversion(particles, params(), where="defocus_u < 10100")
    by_rows = Conversion(particles, params(), ind=range(10))
    by_mask = Conversion(particles[particles["defocus_u"] < 10100], params())
    assert by_where.plan.fingerprint == by_rows.plan.fingerprint == by_mask.plan.fingerprint
    assert by_where.plan.fingerprint != Conversion(particles, params()).plan.fingerprint


def test_a_preview_shows_chosen_particles_only(scattered: ParticleSet) -> None:
    particles = particles_from_star(scattered.star, scattered.mrc)
    preview = preview_particles(particles, params(), where="defocus_u < 10100", ind=range(3, 31), sample=5, seed=4)
    assert preview.n_particles == 5
    rows = {int(name.partition("particle ")[2].split()[0]) - 1 for name in preview.names}
    assert rows == {3 + row for row in draw(7, 5, 4).tolist()}
