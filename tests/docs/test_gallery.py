"""The examples of the gallery run as printed, and their pictures show what the pages say."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import starfile

from cryolike_dask import ImageDescriptor
from tests.support.gallery import GALLERY, PAGES, PICTURES, run_page, write_inputs
from tests.support.s3 import LOOSE_CONNECTIONS

SHOWN = GALLERY.parent / "_static" / "gallery"
Names = dict[str, Any]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(scope="module")
def table(inputs: Path) -> pd.DataFrame:
    return starfile.read(inputs / "particles.star")["particles"]


def relion(names: Names, table: pd.DataFrame) -> None:
    number, file = table["rlnImageName"][0].split("@")
    assert names["stack"].fourier.shape == (100, 65, 128)
    assert names["stack"].metadata["files"][0].endswith(file)
    assert names["stack"].metadata["idxs"][0] == int(number) - 1


def cryosparc(names: Names, _table: pd.DataFrame) -> None:
    for image, sign in ((names["before"], -1), (names["after"], 1)):
        assert sign * (image[28:36, 28:36].mean() - image[:8].mean()) > 5 * image[:8].std()


def cryosparc_job(_names: Names, _table: pd.DataFrame) -> None:
    radii, power = {}, {}
    for folder in ("full", "small"):
        radii[folder] = ImageDescriptor.load(f"{folder}/params.npz").polar_grid.radii
        power[folder] = np.load(f"{folder}/fft/particles_fourier_stack_000000.npz")["power_spectrum"]
        power[folder] = power[folder] / power[folder].max()
    assert {folder: len(found) for folder, found in radii.items()} == {"full": 65, "small": 33}
    shared = (radii["small"] > 0.2) & (radii["small"] < 7.5)
    at_same = np.interp(radii["small"], radii["full"], power["full"])
    np.testing.assert_allclose(power["small"][shared], at_same[shared], rtol=0.1)


def leopard_em(names: Names, _table: pd.DataFrame) -> None:
    assert sorted(names["stack"].metadata["idxs"].tolist()) == list(range(12))


def selection(names: Names, table: pd.DataFrame) -> None:
    far = table[table["rlnDefocusU"] > 14_000]
    assert len(names["far"]) == len(far)
    chosen = starfile.read("far/particles.star")["particles"]
    assert len(chosen) == 50
    assert chosen["rlnDefocusU"].min() > 14_000


def object_store(names: Names, table: pd.DataFrame) -> None:
    assert names["chosen"].tolist() == sorted(table["rlnDefocusU"].nlargest(8).index)


def slurm(names: Names, _table: pd.DataFrame) -> None:
    assert sorted(event["stack"] for event in names["events"]) == list(range(12))
    assert len(names["workers"]) == 2


def results(names: Names, _table: pd.DataFrame) -> None:
    right = (names["posterior"] > 0.5) == names["of_first"]
    assert right.mean() > 0.95
    assert right[names["sure"].index].mean() > 0.98
    # Rows are in the order of the table. CryoLike's pose is that of a template, here of the nearest one.
    tilt = starfile.read("two-structures/particles.star")["particles"]["rlnAngleTilt"]
    chosen = names["posterior"] > 0.95
    found = starfile.read("first-structure.star")["particles"]["rlnAngleTilt"]
    np.testing.assert_allclose(found, tilt[chosen], atol=5)


def stream(names: Names, table: pd.DataFrame) -> None:
    assert names["defocus"].tolist() == table["rlnDefocusU"].tolist()
    # Along the line of the first zero of the CTF, the picture is darker than on both sides of it, from top to bottom.
    relative, distance = names["relative"], names["frequency"][names["shown"]] / names["first_zero"][:, None] - 1
    for rows in np.array_split(np.arange(len(relative)), 4):
        near, lower, higher = (
            relative[rows][(distance[rows] > low) & (distance[rows] < high)].mean()
            for low, high in ((-0.05, 0.05), (-0.25, -0.15), (0.15, 0.25))
        )
        assert near < 0.75 * min(lower, higher), (rows[0], near, lower, higher)


SHOWS: dict[str, Callable[[Names, pd.DataFrame], None]] = {
    "relion": relion,
    "cryosparc": cryosparc,
    "cryosparc-job": cryosparc_job,
    "leopard-em": leopard_em,
    "selection": selection,
    "object-store": object_store,
    "slurm": slurm,
    "results": results,
    "stream": stream,
}


@pytest.mark.filterwarnings("ignore:Port .* is already in use")
@pytest.mark.parametrize("page", [pytest.param(page, marks=LOOSE_CONNECTIONS, id=page.stem) for page in PAGES])
def test_an_example_runs_and_gives_its_printed_result(
    page: Path, inputs: Path, table: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "work"
    shutil.copytree(inputs, folder)
    names = run_page(page, folder)
    monkeypatch.chdir(folder)
    assert (folder / PICTURES[page.stem]).stat().st_size > 5_000
    SHOWS[page.stem](names, table)


def test_every_example_is_in_the_gallery_with_a_small_picture() -> None:
    index = (GALLERY / "index.md").read_text(encoding="utf-8")
    stems = sorted(page.stem for page in PAGES)
    assert sorted(PICTURES) == stems
    assert sorted(re.findall(r"^([\w-]+)$", index.partition(":hidden:")[2], flags=re.MULTILINE)) == stems
    assert sorted(path.stem for path in SHOWN.iterdir()) == stems
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        assert f"](../_static/gallery/{page.stem}.png)" in text
        assert f"[{text.splitlines()[0].lstrip('# ')}]({page.name})" in index
        assert (SHOWN / f"{page.stem}.png").stat().st_size < 150_000
