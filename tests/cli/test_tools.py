"""`params`, `info`, `verify`, `demo`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import Cli


def test_params_writes_what_was_asked_for(cli: Cli, tmp_path: Path) -> None:
    result = cli(
        *("params", tmp_path / "p.npz", "--n-pixels", 100, "--pixel-size", 1.5, "--precision", "double"),
        *("--resolution-factor", 0.5, "--n-inplanes", 90),
    )
    assert result.exit_code == 0
    with np.load(tmp_path / "p.npz") as values:
        assert values["n_pixels"].tolist() == [100, 100]
        assert values["pixel_size"].tolist() == [1.5, 1.5]
        assert float(values["radius_max"]) == 12.5
        assert int(values["n_inplanes"]) == 90
        assert str(values["precision"]) == "double"
    assert "51 shells × 90 in-plane angles up to 6 Å" in result.stdout


@pytest.mark.parametrize(
    ("option", "value"), [("--n-pixels", "0"), ("--pixel-size", "-1"), ("--resolution-factor", "1.5"), ("--n-inplanes", "0")]
)
def test_params_out_of_range_are_refused(option: str, value: str, cli: Cli, tmp_path: Path) -> None:
    given = {"--n-pixels": "64", "--pixel-size": "2", option: value}
    result = cli("params", tmp_path / "p.npz", *(word for pair in given.items() for word in pair))
    assert result.exit_code == 2
    assert value in result.stderr
    assert not (tmp_path / "p.npz").exists()


def test_params_replaces_other_parameters_only_with_overwrite(cli: Cli, tmp_path: Path) -> None:
    small, large = (("params", tmp_path / "p", "--n-pixels", box, "--pixel-size", 2) for box in (32, 64))
    assert cli(*small).exit_code == 0
    written = (tmp_path / "p.npz").read_bytes()
    assert cli(*small).exit_code == 0  # the same once more
    result = cli(*large)
    assert result.exit_code == 2
    assert "--overwrite" in result.stderr
    assert (tmp_path / "p.npz").read_bytes() == written
    assert cli(*large, "--overwrite").exit_code == 0
    assert np.load(tmp_path / "p.npz")["n_pixels"].tolist() == [64, 64]
    (tmp_path / "p.npz").write_text("hello")
    assert cli(*large).exit_code == 2
    assert (tmp_path / "p.npz").read_text() == "hello"


def test_info_shows_the_content_of_a_folder(cli: Cli, convert_star: Cli, tmp_path: Path) -> None:
    assert convert_star("--batch-size", "5").exit_code == 0
    told = cli("info", tmp_path / "out").stdout
    for words in ("complete", "particles.star", "3 Å, from the table", "batch size: 5 images per stack", "32 in-plane angles"):
        assert words in told
    numbers = json.loads(cli("info", tmp_path / "out", "--json").stdout)
    assert (numbers["n_stacks"], numbers["n_images"], numbers["status"]) == (3, 12, "complete")
    files = [path for name in ("fft", "phys") for path in (tmp_path / "out" / name).iterdir()]
    assert numbers["n_bytes"] == sum(path.stat().st_size for path in files)


def test_info_counts_stacks_where_there_is_no_manifest(cli: Cli, convert_star: Cli, tmp_path: Path) -> None:
    assert convert_star("--batch-size", "5").exit_code == 0
    (tmp_path / "out" / "manifest.json").unlink()
    numbers = json.loads(cli("info", tmp_path / "out", "--json").stdout)
    assert (numbers["n_stacks"], numbers["n_images"], numbers["status"]) == (3, 12, "unknown")
    assert "no manifest.json" in cli("info", tmp_path / "out").stdout


def test_info_of_something_else_is_refused(cli: Cli, tmp_path: Path) -> None:
    assert cli("info", tmp_path / "nothing").exit_code == 2
    empty = cli("info", tmp_path)
    assert empty.exit_code == 2
    assert "holds no conversion" in empty.stderr


def test_info_of_a_damaged_manifest_is_refused(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"status": "compl')
    result = cli("info", tmp_path)
    assert result.exit_code == 2
    assert "manifest.json is damaged" in result.stderr


def test_verify_finds_a_damaged_stack(cli: Cli, convert_star: Cli, tmp_path: Path) -> None:
    assert convert_star("--batch-size", "5").exit_code == 0
    assert cli("verify", tmp_path / "out").exit_code == 0
    assert cli("verify", tmp_path / "out", "--deep").exit_code == 0
    stack = tmp_path / "out" / "fft" / "particles_fourier_stack_000001.pt"
    content = bytearray(stack.read_bytes())
    content[len(content) // 2] ^= 0xFF
    stack.write_bytes(content)
    result = cli("verify", tmp_path / "out")
    assert result.exit_code == 1
    assert "000001" in result.stderr
    assert json.loads(cli("verify", tmp_path / "out", "--json").stdout)["problems"]


def test_demo_makes_converts_and_verifies(cli: Cli, tmp_path: Path) -> None:
    result = cli("demo", tmp_path / "demo", "--n-images", 24, "--box", 16)
    assert result.exit_code == 0, result.output
    stacks = tmp_path / "demo" / "stacks"
    for told in (stacks / "fft", stacks / "phys", stacks / "plots", tmp_path / "demo" / "particles" / "particles.star"):
        assert str(told) in result.stdout
        assert told.exists()
    assert "complete and undamaged" in result.stdout
    assert len(list((stacks / "fft").glob("*.pt"))) == 4


def test_a_quiet_demo_prints_nothing(cli: Cli, tmp_path: Path) -> None:
    result = cli("demo", tmp_path / "demo", "--n-images", 3, "--box", 16, "--workers", 1, "--quiet")
    assert (result.exit_code, result.stdout) == (0, "")
    assert (tmp_path / "demo" / "stacks" / "report.html").exists()


def test_demo_leaves_the_folders_of_others_alone(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    assert cli("demo", tmp_path).exit_code == 2
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_verify_says_what_it_does_unless_it_is_to_be_quiet(cli: Cli, convert_star: Cli, tmp_path: Path) -> None:
    assert convert_star("--batch-size", 4).exit_code == 0
    told = cli("verify", tmp_path / "out", "--deep")
    assert "Verifying stacks: 0 of 3" in told.stderr
    assert "Comparing images with their source: 0 of 12" in told.stderr
    assert cli("verify", tmp_path / "out", "--deep", "--quiet").output == ""


def test_verify_shows_ten_problems_and_the_number_of_all(cli: Cli, convert_star: Cli, tmp_path: Path) -> None:
    assert convert_star("--batch-size", 1).exit_code == 0
    for path in (tmp_path / "out" / "fft").glob("*.pt"):
        path.write_bytes(path.read_bytes()[:-1])
    result = cli("verify", tmp_path / "out", "--quiet")
    lines = result.stderr.splitlines()
    assert len(lines) == 11
    assert lines[-1] == "and 2 more (all of them with --json)"
    assert len(json.loads(cli("verify", tmp_path / "out", "--json").stdout)["problems"]) == 12


def test_the_demo_reports_its_steps(cli: Cli, tmp_path: Path) -> None:
    result = cli("demo", tmp_path / "demo", "--n-images", 6, "--box", 16, "--workers", 1)
    assert result.exit_code == 0, result.output
    told = [
        "Simulating images: 0 of 6",
        "Starting 1 worker ...",
        "dashboard",
        "Converting 6 images",
        "Closing the workers ...",
        "Verifying",
    ]
    places = [result.stderr.find(words) for words in told]
    assert -1 not in places
    assert places == sorted(places)
