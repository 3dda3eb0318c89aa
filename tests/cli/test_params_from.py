"""`params --from`, and conversions without parameters, take box and pixel size from the table."""

from __future__ import annotations

from pathlib import Path

import pytest

from cryolike_dask import ImageDescriptor
from cryolike_dask.demo.particles import DemoData
from tests.cli.conftest import Cli
from tests.support.leopard_em_files import rows_of_page, write_rows
from tests.support.particle_sets import in_sequence, optics_table, write_star

FROM_TABLE = ImageDescriptor.from_individual_values(16, 3.0)


def test_from_a_star_file(particles: DemoData, tmp_path: Path, cli: Cli) -> None:
    result = cli("params", tmp_path / "p.npz", "--from", particles.star_file)
    assert result.exit_code == 0, result.stderr
    assert "Box 16 pixels and pixel size 3 Å from particles.star.\n" in result.stdout
    assert ImageDescriptor.load(tmp_path / "p.npz") == FROM_TABLE
    options = ("--precision", "double", "--resolution-factor", 0.5, "--n-inplanes", 40, "--downsample-factor", 2)
    result = cli("params", tmp_path / "half.npz", "--from", particles.star_file, *options)
    assert result.exit_code == 0, result.stderr
    assert ImageDescriptor.load(tmp_path / "half.npz") == ImageDescriptor.from_individual_values(
        8, 6.0, "double", resolution_factor=0.5, n_inplanes=40
    )


def test_from_a_table_of_boxes(tmp_path: Path, cli: Cli) -> None:
    table = write_rows(tmp_path / "t.csv", rows_of_page())
    without = cli("params", tmp_path / "p.npz", "--from", table)
    assert without.exit_code == 2
    assert "--box-size" in without.stderr
    result = cli("params", tmp_path / "p.npz", "--from", table, "--box-size", 64)
    assert result.exit_code == 0, result.stderr
    assert ImageDescriptor.load(tmp_path / "p.npz") == ImageDescriptor.from_individual_values(64, 1.1)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--pixel-size", 2.9), "--pixel-size 2.9 contradicts the table. Box 16 pixels and pixel size 3 Å from particles.star."),
        (("--n-pixels", 32), "--n-pixels 32 contradicts the table"),
    ],
)
def test_a_contradiction_is_an_error_unless_it_is_meant(
    options: tuple[object, ...], told: str, particles: DemoData, tmp_path: Path, cli: Cli
) -> None:
    result = cli("params", tmp_path / "p.npz", "--from", particles.star_file, *options)
    assert result.exit_code == 2
    assert told in result.stderr
    assert "--override" in result.stderr
    assert not (tmp_path / "p.npz").exists()
    result = cli("params", tmp_path / "p.npz", "--from", particles.star_file, *options, "--override")
    assert result.exit_code == 0, result.stderr
    given = dict(zip(options[::2], options[1::2], strict=True))
    box, size = int(str(given.get("--n-pixels", 16))), float(str(given.get("--pixel-size", 3.0)))
    assert ImageDescriptor.load(tmp_path / "p.npz") == ImageDescriptor.from_individual_values(box, size)


def test_values_that_agree_with_the_table_are_accepted(particles: DemoData, tmp_path: Path, cli: Cli) -> None:
    options = ("--n-pixels", 16, "--pixel-size", 3.0001)
    assert cli("params", tmp_path / "p.npz", "--from", particles.star_file, *options).exit_code == 0
    assert ImageDescriptor.load(tmp_path / "p.npz") == FROM_TABLE


def test_options_of_a_table_need_a_table(tmp_path: Path, cli: Cli) -> None:
    for options, told in (
        (("--n-pixels", 16), "--pixel-size"),
        ((), "--from TABLE"),
        (("--n-pixels", 16, "--pixel-size", 1, "--downsample-factor", 2), "--downsample-factor has an effect only with a table"),
        (("--n-pixels", 16, "--pixel-size", 1, "--where", "defocus_u < 3"), "--where has an effect only with a table"),
        (("--n-pixels", 16, "--pixel-size", 1, "--override"), "--override has an effect only with a table"),
    ):
        result = cli("params", tmp_path / "p.npz", *options)
        assert result.exit_code == 2
        assert told in result.stderr


def test_the_name_of_the_file_is_the_one_that_is_written(tmp_path: Path, cli: Cli) -> None:
    options = ("--n-pixels", 16, "--pixel-size", 1)
    refused = cli("params", tmp_path / "p.npy", *options)
    assert refused.exit_code == 2
    assert "p.npy: the name of a parameter file ends with .npz" in refused.stderr
    assert list(tmp_path.iterdir()) == []
    assert f"{tmp_path / 'p.npz'}: 16 × 16 pixels" in cli("params", tmp_path / "p", *options).stdout
    assert list(tmp_path.iterdir()) == [tmp_path / "p.npz"]


def test_several_optics_groups_are_distinguished(tmp_path: Path, cli: Cli) -> None:
    optics = optics_table(2, rlnImagePixelSize=["1.06", "1.31"], rlnImageSize=["64", "64"])
    star = write_star(tmp_path / "p.star", in_sequence({"a.mrcs": 4}), optics=optics, groups=[1, 2, 2, 2])
    (tmp_path / "a.mrcs").write_bytes(b"")
    result = cli("params", tmp_path / "p.npz", "--from", star)
    assert result.exit_code == 2
    assert "64 pixels of 1.06 Å in group1 (1 particle), 64 pixels of 1.31 Å in group2 (3 particles)" in result.stderr
    result = cli("params", tmp_path / "p.npz", "--from", star, "--where", "optics_group == 'group2'")
    assert result.exit_code == 0, result.stderr
    assert ImageDescriptor.load(tmp_path / "p.npz") == ImageDescriptor.from_individual_values(64, 1.31)


def test_convert_and_preview_without_parameters(particles: DemoData, tmp_path: Path, cli: Cli) -> None:
    images = ("--mrc-folder", particles.folder_mrc)
    result = cli("convert", "star", particles.star_file, *images, "--out", tmp_path / "out", "--no-plots")
    assert result.exit_code == 0, result.stderr
    assert "Box 16 pixels and pixel size 3 Å from particles.star.\n" in result.stderr
    assert ImageDescriptor.load(tmp_path / "out" / "params.npz") == FROM_TABLE
    result = cli("preview", particles.star_file, *images, "--out", tmp_path / "p.png", "--downsample-factor", 2)
    assert result.exit_code == 0, result.stderr
    assert "8 × 8 pixels, 48 Å" in result.stdout
