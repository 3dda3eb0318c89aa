"""Mistakes of users are reported in one paragraph, before anything is written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import dask
import pytest

from cryolike_dask.cli.main import as_typed
from cryolike_dask.demo.particles import DemoData
from tests.cli.conftest import Cli


def rows(data: DemoData) -> list[int]:
    """Line numbers of the particle rows in the STAR file."""
    return [number for number, line in enumerate(data.star_file.read_text().splitlines()) if "@mrc/" in line]


def edit_row(data: DemoData, row: int, change: Callable[[list[str]], None]) -> None:
    lines = data.star_file.read_text().splitlines()
    values = lines[rows(data)[row]].split("\t")
    change(values)
    lines[rows(data)[row]] = "\t".join(values)
    data.star_file.write_text("\n".join(lines) + "\n")


def with_value(column: int, value: str) -> Callable[[list[str]], None]:
    def change(values: list[str]) -> None:
        values[column] = value

    return change


def remove_one_image_file(data: DemoData) -> None:
    (data.folder_mrc / "particles_02.mrcs").unlink()


def rename_defocus_column(data: DemoData) -> None:
    data.star_file.write_text(data.star_file.read_text().replace("_rlnDefocusU ", "_rlnDefocus_U "))


def number_an_image_zero(data: DemoData) -> None:
    edit_row(data, 4, with_value(0, "000000@mrc/particles_01.mrcs"))


def number_an_image_beyond_the_file(data: DemoData) -> None:
    edit_row(data, 5, with_value(0, "000099@mrc/particles_01.mrcs"))


def cut_an_image_file(data: DemoData) -> None:
    path = data.folder_mrc / "particles_02.mrcs"
    path.write_bytes(path.read_bytes()[:-100])


def write_nan_as_defocus(data: DemoData) -> None:
    edit_row(data, 6, with_value(3, "nan"))


def name_an_unknown_optics_group(data: DemoData) -> None:
    edit_row(data, 7, with_value(9, "5"))


def empty_the_table(data: DemoData) -> None:
    data.star_file.write_bytes(b"")


def empty_an_image_file(data: DemoData) -> None:
    (data.folder_mrc / "particles_01.mrcs").write_bytes(b"")


def remove_the_table(data: DemoData) -> None:
    data.star_file.unlink()


def remove_the_parameters(data: DemoData) -> None:
    data.params_file.unlink()


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (remove_one_image_file, ["particles_02.mrcs"]),
        (rename_defocus_column, ["particles.star", "DefocusU"]),
        (number_an_image_zero, ["particles.star", "5", "particles_01.mrcs"]),
        (number_an_image_beyond_the_file, ["particles.star", "6", "image 99", "particles_01.mrcs"]),
        (cut_an_image_file, ["particles_02.mrcs"]),
        (write_nan_as_defocus, ["particles.star", "7", "Defocus"]),
        (name_an_unknown_optics_group, ["particles.star", "8", "optics group", "5"]),
        (empty_the_table, ["particles.star", "empty"]),
        (empty_an_image_file, ["particles_01.mrcs", "empty"]),
        (remove_the_table, ["particles.star"]),
        (remove_the_parameters, ["params.npz"]),
    ],
)
def test_bad_input_is_reported_in_one_paragraph_and_nothing_is_written(
    damage: Callable[[DemoData], None], told: list[str], particles: DemoData, convert_star: Cli, tmp_path: Path
) -> None:
    damage(particles)
    result = convert_star()
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    message = result.stderr[result.stderr.index("Error: ") :]
    assert "\n\n" not in message.rstrip()
    assert all(word in message for word in told), message
    assert "Traceback" not in message
    assert not (tmp_path / "out").exists()


def test_debug_shows_where_an_error_was_raised(particles: DemoData, convert_star: Cli) -> None:
    particles.star_file.unlink()
    result = convert_star("--debug")
    assert result.exit_code != 0
    assert result.exc_info is not None
    assert "particles.star" in str(result.exception)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--batch-size", "0"], "Error: --batch-size is 0"),
        (["--batch-size", str(10**19)], "Error: --batch-size is 10000000000000000000"),
        (["--n-stacks-max", str(10**19)], "Error: --n-stacks-max is 10000000000000000000"),
        (["--downsample-factor", str(10**19)], "Error: --downsample-factor is 10000000000000000000"),
        (["--n-stacks-max", "1.5"], "--n-stacks-max"),
        (["--downsample-factor", "2.5"], "--downsample-factor"),
        (["--pixel-size", "nan"], "pixel_size is nan"),
        (["--pixel-size", "-1.5"], "pixel_size is -1.5"),
        (["--skip-exist", "--overwrite"], "choose one"),
        (["--workers", "2", "--scheduler", "tcp://127.0.0.1:8786"], "exclude each other"),
        (["--scheduler-file", "/nonexistent/scheduler.json"], "/nonexistent/scheduler.json"),
        (["--format", "hdf5"], "hdf5"),
        (["--workers", "0"], "--workers"),
        (["--batchsize", "8"], "--batch-size"),
    ],
)
def test_options_out_of_range_are_refused(arguments: list[str], told: str, convert_star: Cli, tmp_path: Path) -> None:
    result = convert_star(*arguments)
    assert result.exit_code == 2
    assert told in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "told"),
    [("data_particles", "it is not JSON"), ("[1]", "it has no address"), ('{"address": null}', "it has no address")],
)
def test_a_file_that_no_scheduler_wrote_is_not_proposed_for_a_new_one(
    content: str, told: str, convert_star: Cli, tmp_path: Path
) -> None:
    table = tmp_path / "mine.star"
    table.write_text(content)
    result = convert_star("--scheduler-file", table)
    assert result.exit_code == 2
    assert f"{table} is not the file of a Dask scheduler ({told}). Check the path" in result.stderr
    assert result.stderr.count("mine.star") == 1  # a scheduler that is started with this file writes over it
    assert table.read_text() == content


def test_an_unreadable_parameter_file_is_named(particles: DemoData, convert_star: Cli, tmp_path: Path) -> None:
    particles.params_file.write_text("hello")
    result = convert_star()
    assert result.exit_code == 2
    assert str(particles.params_file) in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["info", "verify", "restack", "browse", "collect"])
def test_a_path_that_is_not_an_output_folder_is_told_as_what_it_is(
    command: str, particles: DemoData, cli: Cli, tmp_path: Path
) -> None:
    more = {
        "restack": [tmp_path / "new"],
        "collect": [tmp_path, "--out", tmp_path / "r.star"],
        "browse": ["--out", tmp_path / "p.html"],
    }
    missing = cli(command, tmp_path / "missing", *more.get(command, []))
    folder = cli(command, particles.folder_mrc, *more.get(command, []))
    assert (missing.exit_code, folder.exit_code) == (2, 2)
    assert f"{tmp_path / 'missing'} does not exist. " in missing.stderr
    assert ("is a folder of an unknown kind" if command == "browse" else "holds no conversion") in folder.stderr
    if command != "browse":  # which reads tables, too
        file = cli(command, particles.star_file, *more.get(command, []))
        assert file.exit_code == 2
        assert f"{particles.star_file} is a file, not a folder. Give the output folder of a conversion" in file.stderr
    assert not (tmp_path / "new").exists()


def test_a_wrong_path_of_an_input_is_told_as_what_it_is(particles: DemoData, cli: Cli, tmp_path: Path) -> None:
    for command in ("browse", "preview"):
        for table in ("P3/J42", "nothing.csv"):
            assert f"{table} does not exist" in cli(command, table).stderr
    to = ("--out", tmp_path / "out")
    file = cli("convert", "star", particles.star_file, "--mrc-folder", particles.star_file, *to)
    assert "is a file, not a folder. Give the folder that holds the image files" in file.stderr
    archive = cli("convert", "star", particles.params_file, *to)
    assert f"{particles.params_file} is an archive (such as .npz or .zip)" in archive.stderr


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("run again with skip_exist=True (--skip-exist) to continue", "run again with --skip-exist to continue"),
        ("choose axes='relion' (--axes relion).", "choose --axes relion."),
        ("choose contrast='invert' (--contrast).", "choose --contrast invert."),
        ("""where="a == 'g1'" (--where)""", """--where "a == 'g1'\""""),
        ("sample (--sample) is 7, folder_mrc (--mrc-folder) is not", "--sample is 7, --mrc-folder is not"),
        ("and n_stacks_max=2 (--n-stacks-max) allows fewer", "and --n-stacks-max 2 allows fewer"),
        ("leave out the physical images (save_phys=False, --no-phys)", "leave out the physical images (--no-phys)"),
        ("finish it first (skip_exist, --skip-exist).", "finish it first (--skip-exist)."),
        ("replace it (overwrite=True, --overwrite).", "replace it (--overwrite)."),
        (
            "it cannot be continued (--overwrite makes everything again)",
            "it cannot be continued (--overwrite makes everything again)",
        ),
        ("choose by where or sample (--where, --sample)", "choose by where or sample (--where, --sample)"),
        ("give the image parameters (--params)", "give the image parameters (--params)"),
    ],
)
def test_messages_name_options_as_they_are_typed(message: str, shown: str) -> None:
    assert as_typed(message) == shown


def test_an_error_names_the_option_of_the_command_line(particles: DemoData, tmp_path: Path, cli: Cli) -> None:
    options = ("--mrc-folder", particles.folder_mrc, "--out", tmp_path / "out", "--no-plots", "--sample", 100)
    result = cli("convert", "star", particles.star_file, *options)
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: --sample is 100, but ")


def test_a_dry_run_does_not_approve_of_a_scheduler_that_does_not_answer(convert_star: Cli) -> None:
    with dask.config.set({"distributed.comm.timeouts.connect": "200ms"}):
        result = convert_star("--dry-run", "--scheduler", "tcp://127.0.0.1:9")
    assert result.exit_code == 2
    assert "No Dask scheduler answers at 'tcp://127.0.0.1:9'" in result.stderr
    assert "This is the plan" not in result.stdout
