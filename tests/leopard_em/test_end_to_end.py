"""From demonstration micrographs to picks, pictures and boxes, in Python and with commands."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import mrcfile
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from cryolike_dask.cli import pick as commands
from cryolike_dask.errors import InputError, OutputError
from cryolike_dask.leopard_em.demo_micrographs import FALSE_POSITIVES, DemoMicrographs, write_demo_micrographs
from cryolike_dask.leopard_em.particles import particles_from_leopard_em
from cryolike_dask.leopard_em.picking import match_template_results_to_dataframe
from cryolike_dask.leopard_em.plots import plot_picks
from cryolike_dask.leopard_em.star import read_star
from cryolike_dask.leopard_em.tables import read_match_template_dataframe, write_match_template_dataframe
from cryolike_dask.mrc.boxes import BoxCut, cut_boxes
from tests.cli.conftest import Cli, cli  # noqa: F401


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> DemoMicrographs:
    return write_demo_micrographs(tmp_path_factory.mktemp("demo"))


@pytest.fixture(scope="module")
def table(demo: DemoMicrographs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("picked") / "picks.csv"
    write_match_template_dataframe(pd.concat([pick(demo, config) for config in demo.configs], ignore_index=True), path)
    return path


def pick(demo: DemoMicrographs, config: Path) -> pd.DataFrame:
    return match_template_results_to_dataframe(config, total_projections=demo.total_projections, false_positives=FALSE_POSITIVES)


def run(*arguments: object) -> Result:
    command = commands.pick if arguments[0] == "pick" else commands.plot_picks
    return CliRunner().invoke(command, [str(argument) for argument in arguments[1:]])


def by_position(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.sort_values(["micrograph_path", "pos_y", "pos_x"], ignore_index=True)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_picked_positions_are_the_true_ones(seed: int, tmp_path: Path) -> None:
    demo = write_demo_micrographs(tmp_path, seed=seed)
    tables = [pick(demo, config) for config in demo.configs]
    assert all(part.attrs["warnings"] == [] for part in tables)
    picked, truth = by_position(pd.concat(tables)), by_position(demo.truth)
    assert picked["micrograph_path"].tolist() == truth["micrograph_path"].tolist()
    np.testing.assert_array_equal(picked[["pos_x", "pos_y"]], truth[["pos_x", "pos_y"]])
    for name in ("phi", "theta", "psi", "relative_defocus"):
        np.testing.assert_allclose(picked[name], truth[name], atol=1e-3)


def test_boxes_of_the_picks_are_the_micrographs_around_the_true_positions(demo: DemoMicrographs, table: Path) -> None:
    size, margin = 64, (64 - demo.template_size) // 2
    particles = particles_from_leopard_em(table, size)
    assert particles.files == tuple(map(str, demo.micrographs))
    for position, file in enumerate(particles.files):
        with mrcfile.open(file) as mrc:
            micrograph = mrc.data.copy()
        rows = np.flatnonzero(particles["file"] == position)
        boxes = np.empty((len(rows), size, size), dtype=np.float32)
        cut_boxes(micrograph, particles["top"][rows], particles["left"][rows], BoxCut(size), boxes)
        found = {box.tobytes() for box in boxes}
        padded = np.pad(micrograph, size)
        truth = demo.truth[demo.truth["micrograph_path"] == file]
        corners = truth[["pos_y", "pos_x"]].to_numpy() + size - margin
        assert found == {padded[y : y + size, x : x + size].tobytes() for y, x in corners.tolist()}


def test_the_same_seed_makes_the_same_micrographs(demo: DemoMicrographs, tmp_path: Path) -> None:
    again = write_demo_micrographs(tmp_path)
    with mrcfile.open(demo.micrographs[0]) as first, mrcfile.open(again.micrographs[0]) as second:
        np.testing.assert_array_equal(first.data, second.data)
        assert first.voxel_size.x == pytest.approx(2.0)


def test_too_many_particles_for_a_micrograph_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="do not fit a micrograph of 100 × 100"):
        write_demo_micrographs(tmp_path, n_particles=20, shape=(100, 100))


def test_the_pick_command_makes_one_table_of_several_searches(demo: DemoMicrographs, table: Path, tmp_path: Path) -> None:
    options = ["--total-projections", demo.total_projections, "--false-positives", FALSE_POSITIVES]
    result = run("pick", *demo.configs, "--out", tmp_path / "picks.csv", *options)
    assert result.exit_code == 0, result.output
    assert "24 particles of 2 micrographs" in result.output
    assert (tmp_path / "picks.csv").read_bytes() == table.read_bytes()
    assert run("pick", *demo.configs, "--out", tmp_path / "picks.star", *options).exit_code == 0
    np.testing.assert_array_equal(
        read_star(tmp_path / "picks.star")[["pos_x_img", "pos_y_img"]],
        read_match_template_dataframe(table)[["pos_x_img", "pos_y_img"]],
    )


def test_the_pick_command_asks_for_the_number_of_projections(demo: DemoMicrographs, tmp_path: Path) -> None:
    result = run("pick", demo.configs[0], "--out", tmp_path / "picks.csv")
    assert isinstance(result.exception, InputError)
    assert "total_projections" in str(result.exception)
    assert not (tmp_path / "picks.csv").exists()


def test_pick_and_plot_picks_write_over_no_file_of_another_format(demo: DemoMicrographs, table: Path, tmp_path: Path) -> None:
    for arguments, file, told in ((("pick",), demo.configs[0], ".csv, .star"), (("plot-picks",), table, ".png")):
        result = run(*arguments, file, "--out", file)
        assert isinstance(result.exception, InputError)
        assert f"{file}: the suffix determines the format, so choose a name that ends with {told}" in str(result.exception)


def test_the_pick_command_replaces_a_table_only_if_it_is_told_to(demo: DemoMicrographs, tmp_path: Path) -> None:
    out = tmp_path / "mine.csv"
    out.write_text("corrected by hand")
    result = run("pick", demo.configs[0], "--out", out, "--z-score-cutoff", 50)
    assert isinstance(result.exception, OutputError)
    assert str(result.exception).startswith(f"{out} already exists.")
    assert "--overwrite" in str(result.exception)
    assert out.read_text() == "corrected by hand"
    result = run("pick", demo.configs[0], "--out", out, "--z-score-cutoff", 50, "--overwrite", "--quiet")
    assert result.exit_code == 0
    assert "written" not in result.output
    assert len(read_match_template_dataframe(out)) == 0


@pytest.mark.parametrize("command", ["pick", "plot-picks"])
def test_errors_of_pick_and_plot_picks_have_a_traceback_with_debug(command: str, cli: Cli, tmp_path: Path) -> None:  # noqa: F811
    arguments = (command, tmp_path / "none", "--quiet", *(("--out", tmp_path / "out.csv") if command == "pick" else ()))
    assert cli(*arguments).exit_code == 2
    assert isinstance(cli(*arguments, "--debug").exception, InputError)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("convert", "leopard-em", "TABLE"), "--box-size is not given: give the edge length"),
        (("convert", "leopard-em", "TABLE", "--box-size", 64, "--template-size", 0), "--template-size is 0: give"),
        (("convert", "leopard-em", "TABLE", "--box-size", 64, "--where", "voltage == '300'"), "--where compares a column"),
        (("convert", "paired", "--star", "a", "--star", "b", "--mrc", "c"), "--mrc has 1 file and --star has 2: each"),
        (("pick", "CONFIG"), "times defocus values (--total-projections), or the cutoff itself (--z-score-cutoff)."),
        (("pick", "CONFIG", "--total-projections", 0), "--total-projections is 0: give"),
        (("pick", "CONFIG", "--total-projections", 72, "--false-positives", 0), "--false-positives is 0.0: it"),
        (("pick", "CONFIG", "--z-score-cutoff", "nan"), "--z-score-cutoff is nan: give"),
        (("pick", "CONFIG", "--z-score-cutoff", 6, "--false-positives", 1), "--z-score-cutoff is the cutoff itself, and"),
        (("plot-picks", "TABLE", "--z-score-cutoff", 6, "--false-positives", 1), "--z-score-cutoff is the cutoff itself, and"),
        (("plot-picks", "TABLE", "--diameter", -3), "--diameter is -3.0: give"),
    ],
    ids=str,
)
def test_messages_of_commands_name_options_as_they_are_typed(
    arguments: tuple[object, ...],
    told: str,
    cli: Cli,  # noqa: F811
    demo: DemoMicrographs,
    table: Path,
    tmp_path: Path,
) -> None:
    given = [{"TABLE": table, "CONFIG": demo.configs[0]}.get(str(word), word) for word in arguments]
    result = cli(*given, "--out", tmp_path / ("out.csv" if given[0] == "pick" else "out.png"))
    assert result.exit_code == 2
    assert told in result.stderr
    error = result.stderr[result.stderr.index("Error:") :]
    assert not re.search(r"(box|template)_size|false_pos|z_score|file_list", error)


def test_the_plot_command_draws_a_picture_of_each_micrograph(demo: DemoMicrographs, table: Path, tmp_path: Path) -> None:
    result = run("plot-picks", table, "--out", tmp_path / "picks.png")
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["picks_micrograph_0.png", "picks_micrograph_1.png"]
    one = run("plot-picks", table, "--out", tmp_path / "one.png", "--micrograph", "micrograph_1.mrc")
    assert one.exit_code == 0
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "picks_micrograph_1.png").read_bytes()


def test_a_cutoff_that_was_not_that_of_the_picks_is_told(
    demo: DemoMicrographs, table: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    picks = read_match_template_dataframe(table)
    picks = picks[picks["micrograph_path"] == str(demo.micrographs[0])]
    plot_picks(picks, tmp_path / "as-picked.png", false_positives=FALSE_POSITIVES)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    # As if the strongest had been missed.
    plot_picks(picks.iloc[1:], tmp_path / "missed.png", false_positives=FALSE_POSITIVES)
    (warning,) = (record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING)
    assert f"scores of up to {picks['scaled_mip'].iloc[0]:.2f}, above the cutoff of " in warning
    assert "(--false-positives)" in warning


def test_circles_are_drawn_around_the_picks(demo: DemoMicrographs, table: Path, tmp_path: Path) -> None:
    picks = read_match_template_dataframe(table)
    picks = picks[picks["micrograph_path"] == str(demo.micrographs[0])]
    plot_picks(picks, tmp_path / "all.png", z_score_cutoff=6.0)
    plot_picks(picks.iloc[:1], tmp_path / "one.png", z_score_cutoff=6.0)
    pictures = []
    for name in ("all.png", "one.png"):
        with Image.open(tmp_path / name) as picture:
            pictures.append(np.asarray(picture.convert("RGB")).astype(int))
    # The micrograph is grey: coloured pixels left of the histogram are circles.
    coloured = [int((np.ptp(picture[:, : picture.shape[1] // 2], axis=2) > 60).sum()) for picture in pictures]
    assert coloured[1] > 100
    assert 8 * coloured[1] < coloured[0] < 14 * coloured[1]


def test_a_picture_needs_neither_the_map_nor_the_totals(demo: DemoMicrographs, table: Path, tmp_path: Path) -> None:
    picks = read_match_template_dataframe(table).assign(scaled_mip_path="gone.mrc", total_correlations=0)
    plot_picks(picks, tmp_path / "picks.png", micrograph="micrograph_0.mrc")
    with Image.open(tmp_path / "picks.png") as picture:
        assert picture.size[0] > 1000


def test_what_cannot_be_drawn_is_named(demo: DemoMicrographs, table: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has several micrographs\. Name one of .*micrograph_0\.mrc"):
        plot_picks(table, tmp_path / "picks.png")
    with pytest.raises(InputError, match=r"has no micrograph other\.mrc"):
        plot_picks(table, tmp_path / "picks.png", micrograph="other.mrc")
    gone = read_match_template_dataframe(table).assign(micrograph_path="gone.mrc")
    with pytest.raises(
        InputError, match=r"the micrograph .*gone\.mrc does not exist\. Give folder_micrographs \(--micrograph-folder\)"
    ):
        plot_picks(gone, tmp_path / "picks.png")
    with pytest.raises(InputError, match=r"diameter \(--diameter\) is -3"):
        plot_picks(table, tmp_path / "picks.png", diameter=-3)
    with pytest.raises(InputError, match="holds no particle"):
        plot_picks(gone.iloc[:0], tmp_path / "picks.png")
