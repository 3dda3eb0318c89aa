"""Collected results as files: they keep all columns of the particles, and RELION can read them."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import starfile

from cryolike_dask import InputError, OutputError, collect_results
from tests.cli.conftest import Cli, cli  # noqa: F401
from tests.results.conftest import Collected
from tests.support.conversions import convert
from tests.support.cryolike_results import VIEWING_DISTANCE, write_results
from tests.support.particle_sets import params, write_particle_set
from tests.support.star_files import column_of

POSE = ["rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi", "rlnOriginXAngst", "rlnOriginYAngst"]


@pytest.fixture
def stacks(found: Collected, tmp_path: Path) -> Path:
    """A copy of the output folder that a test may change."""
    shutil.copytree(found.stacks, tmp_path / "stacks")
    return tmp_path / "stacks"


def test_a_star_file_has_the_particles_and_the_results(found: Collected, tmp_path: Path) -> None:
    out = tmp_path / "results.star"
    df = collect_results(found.stacks, found.results, templates=found.stacks / "params.npz", out=out)
    blocks = starfile.read(out)
    before = starfile.read(found.stacks / "particles.star")
    pd.testing.assert_frame_equal(blocks["optics"], before["optics"])
    particles = blocks["particles"]
    assert particles["rlnImageName"].tolist() == df["rlnImageName"].tolist()
    in_optics = ["rlnVoltage", "rlnSphericalAberration", "rlnAmplitudeContrast"]
    assert set(particles) == (set(before["particles"]) | set(df) | set(POSE)) - set(in_optics)
    for name in set(df) - set(in_optics):
        values = df[name]
        if values.dtype.kind in "fiub" or values.dtype == "Int64":
            np.testing.assert_allclose(particles[name], values.to_numpy(dtype=float), rtol=1e-14, atol=1e-300, err_msg=name)
        else:
            assert particles[name].tolist() == values.tolist()
    assert particles["rlnOpticsGroup"].tolist() == [1] * 31


def test_rows_of_the_star_file_are_in_the_order_of_the_table_even_if_stacks_are_not(tmp_path: Path) -> None:
    particles = write_particle_set(tmp_path, {"d.mrcs": 4, "a.mrcs": 5, "b.mrcs": 3}, shuffle=True)
    written = convert(particles, batch_size=5, order="file")
    collect_results(tmp_path / "out", write_results(tmp_path / "r", written), out=tmp_path / "results.star")
    there = starfile.read(tmp_path / "results.star")["particles"]
    images = [(Path(name.split("@")[1]).name, int(name.split("@")[0]) - 1) for name in there["rlnImageName"]]
    assert images == list(particles.listed)
    np.testing.assert_allclose(there["rlnDefocusU"], 10000.5 + 10 * np.arange(12))
    assert there["cryolikeStack"].tolist() != sorted(there["cryolikeStack"])


def test_columns_that_only_particles_star_has_are_kept_as_they_are(stacks: Path, found: Collected, tmp_path: Path) -> None:
    text = (stacks / "particles.star").read_text()
    before, header, rows = re.split(r"(_cryolikeStackPosition #\d+\n)", text)
    lines = [f'{line}\t00{number}.50\t"a b#{number}"\t""' for number, line in enumerate(rows.strip().splitlines())]
    further = "_rlnCoordinateX\n_rlnMicrographName\n_rlnGroupName\n"
    (stacks / "particles.star").write_text(before + header + further + "\n".join(lines) + "\n")
    collect_results(stacks, found.results, out=tmp_path / "results.star")
    assert column_of(tmp_path / "results.star", "rlnCoordinateX") == [f"00{number}.50" for number in range(31)]
    there = starfile.read(tmp_path / "results.star")["particles"]
    assert there["rlnMicrographName"].tolist() == [f"a b#{number}" for number in range(31)]
    assert there["rlnImageName"].tolist() == starfile.read(stacks / "particles.star")["particles"]["rlnImageName"].tolist()


def test_earlier_poses_are_removed_even_without_new_ones(found: Collected, tmp_path: Path) -> None:
    assert "rlnAngleRot" in starfile.read(found.stacks / "particles.star")["particles"]
    collect_results(found.stacks, found.results, out=tmp_path / "results.star")
    assert not set(starfile.read(tmp_path / "results.star")["particles"]) & set(POSE)


def test_paths_with_blanks_are_quoted(tmp_path: Path) -> None:
    folder = tmp_path / "my #1 particles"
    folder.mkdir()
    particles = write_particle_set(folder, {"a.mrcs": 3})
    written = convert(particles, batch_size=2)
    df = collect_results(folder / "out", write_results(tmp_path / "r", written), out=tmp_path / "results.star")
    there = starfile.read(tmp_path / "results.star")["particles"]
    assert there["rlnImageName"].tolist() == df["rlnImageName"].tolist()
    assert there["cryolikeSourceTable"].tolist() == [str(particles.star)] * 3


def test_what_is_missing_is_nan(tmp_path: Path) -> None:
    particles = write_particle_set(tmp_path, {"a.mrcs": 4})
    written = convert(particles, params(viewing_distance=VIEWING_DISTANCE))
    stack = tmp_path / "out" / "fft" / "particles_fourier_stack_000000.npz"
    with np.load(stack) as archive:
        np.savez(stack, **(dict(archive) | {"zeroed": np.array([2])}))
    results = write_results(tmp_path / "r", written)
    for suffix in ("star", "csv"):
        out = tmp_path / f"results.{suffix}"
        df = collect_results(tmp_path / "out", results, templates=tmp_path / "out" / "params.npz", out=out)
        there = starfile.read(out)["particles"] if suffix == "star" else pd.read_csv(out)
        for name in [*POSE, "cryolikeBestTemplate", "cryolikeViewingAngle", "cryolikePosteriorTemplate1"]:
            assert np.flatnonzero(there[name].isna()).tolist() == [2], name
            np.testing.assert_allclose(there[name].drop(2), df[name].drop(2).to_numpy(dtype=float), rtol=1e-14)
        assert there["cryolikeZeroed"].astype(int).tolist() == [0, 0, 1, 0]


def test_csv_and_parquet_hold_the_table(found: Collected, tmp_path: Path) -> None:
    df = collect_results(found.stacks, found.results, out=tmp_path / "results.csv")
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "results.csv"), df, check_dtype=False, rtol=0, atol=0)
    collect_results(found.stacks, found.results, out=tmp_path / "results.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "results.parquet"), df)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["results.csv", "results.parquet"]


def test_a_star_file_needs_the_particles_of_these_stacks(stacks: Path, found: Collected, tmp_path: Path) -> None:
    out = tmp_path / "results.star"
    path = stacks / "particles.star"
    whole = path.read_text()
    for text, message in (
        (whole.rstrip().rpartition("\n")[0] + "\n", "does not belong to these stacks"),
        (whole.replace("_cryolikeStackPosition", "_rlnOther"), "was not written by a conversion"),
        ("data_optics\n\n_rlnVoltage 300\n", "was not written by a conversion"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=rf"particles\.star {message}.*--skip-exist"):
            collect_results(stacks, found.results, out=out)
    path.unlink()
    with pytest.raises(InputError, match=r"particles\.star does not exist"):
        collect_results(stacks, found.results, out=out)
    assert not out.exists()
    collect_results(stacks, found.results, out=tmp_path / "results.csv")


def test_an_existing_table_is_kept_until_the_new_one_is_complete(
    found: Collected, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "results.csv"
    out.write_text("mine")

    def full_disk(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pd.DataFrame, "to_csv", full_disk)
    with pytest.raises(OutputError, match=r"results\.csv cannot be written: No space left"):
        collect_results(found.stacks, found.results, out=out, overwrite=True)
    assert out.read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["results.csv"]


def test_the_command_writes_the_table_and_says_what_is_in_it(found: Collected, tmp_path: Path, cli: Cli) -> None:  # noqa: F811
    out = tmp_path / "results.star"
    arguments = ("collect", found.stacks, found.results, "--out", out, "--templates", found.stacks / "params.npz")
    result = cli(*arguments)
    assert result.exit_code == 0, result.output
    df = starfile.read(out)["particles"]
    counts = df["cryolikeBestTemplate"].value_counts()
    assert f"{out}: 31 particles, by integrated_fourier: template0 for {counts[0]}, template1 for {counts[1]}." in result.stdout
    refused = cli(*arguments)
    assert refused.exit_code == 2
    assert "already exists" in refused.stderr
    again = cli(*arguments, "--overwrite", "--template-source", "map", "--quiet")
    assert (again.exit_code, again.stdout) == (0, "")
    assert (starfile.read(out)["particles"]["rlnAngleTilt"] != df["rlnAngleTilt"]).any()


def test_the_command_needs_a_name_whose_suffix_it_knows(found: Collected, tmp_path: Path, cli: Cli) -> None:  # noqa: F811
    assert cli("collect", found.stacks, found.results).exit_code == 2
    result = cli("collect", found.stacks, found.results, "--out", tmp_path / "results.txt")
    assert result.exit_code == 2
    assert ".star, .csv, .parquet" in result.stderr
