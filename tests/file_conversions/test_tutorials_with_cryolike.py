"""The calls in CryoLike's tutorials, as printed, on the files that the tutorials describe."""

from __future__ import annotations

import re
import shutil
import textwrap
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

import cryolike_dask
from tests.support.cryolike import import_cryolike
from tests.support.cs_files import ctf_columns, particle_columns, uids, write_cs
from tests.support.independent_reader import read_stacks
from tests.support.particle_sets import BOX, PIXEL_SIZE, assert_holds, params, write_images, write_star

TUTORIALS = Path(import_cryolike().__file__).parents[2] / "docs" / "source" / "tutorials"
CALL = re.compile(r"^ {4}(convert_particle_stacks_from_\w+\(\n.*?\n {4}\))", flags=re.MULTILINE | re.DOTALL)

FILES = {"somedir/file1.mrc": 4, "somedir/file2.mrc": 10, "otherdir/file3.mrc": 10}
LISTED = [("file1.mrc", 2), ("file1.mrc", 0), ("file2.mrc", 9), ("file3.mrc", 9), ("file1.mrc", 1)]
PAIRS = [("images.mrc", 0), ("images.mrc", 1), *(("images2.mrc", index) for index in range(3))]
BATCHES = [(f"batch_{number:06d}_restacked.mrc", index) for number in range(3) for index in range(4)]
EXPECTED = {
    # Images, images per stack, and the factor of downsampling, in the order of the page.
    "read_cryosparc_file.rst": [
        (LISTED, [5], 1),
        (LISTED, [5], 1),
        (LISTED, [3, 2], 1),
        (BATCHES, [12], 1),
        (BATCHES[:8], [4, 4], 1),
        (BATCHES, [12], 2),
    ],
    # The text says that the pairs give one stack of five, but CryoLike writes one stack per pair.
    "read_star_file.rst": [(PAIRS, [2, 3], 1), (LISTED, [5], 1), (LISTED, [5], 1), (LISTED, [3, 2], 2)],
}


@pytest.fixture
def described(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, npt.NDArray[np.float32]]:
    """The files that the two pages describe; the same image files in the folder to which "you had moved" them."""
    moved = tmp_path / "home" / "my_research" / "my_mrc_files"
    job = tmp_path / "cryosparc" / "J4"
    for folder in (moved, job / "restack", job / "downsample", tmp_path / "somedir", tmp_path / "otherdir"):
        folder.mkdir(parents=True)
    images = write_images(tmp_path, {Path(name).name: n for name, n in FILES.items()} | {"images.mrc": 2, "images2.mrc": 3})
    for name in FILES:
        shutil.copy(tmp_path / Path(name).name, moved)
        (tmp_path / Path(name).name).rename(tmp_path / name)
    recorded = [(next(file for file in FILES if file.endswith(name)), index) for name, index in LISTED]
    write_star(tmp_path / "MyFile.star", recorded)
    columns = particle_columns([name for name, _ in recorded], [index for _, index in recorded], BOX)
    columns["blob/psize_A"][:] = PIXEL_SIZE
    write_cs(tmp_path / "MyFile.cs", columns)
    write_cs(job / "J4_passthrough_particles.cs", {"uid": uids(12), **ctf_columns(12)})
    images |= write_images(job / "restack", {name: 4 for name, _ in BATCHES})
    write_images(job / "downsample", {f"batch_{number:06d}_downsample.mrc": 4 for number in (0, 1, 2, 4)})
    for name in ("my_params.npz", "my_params_file.npz"):
        params().save(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return images


@pytest.mark.parametrize(("page", "number"), [(page, number) for page, calls in EXPECTED.items() for number in range(len(calls))])
def test_calls_of_the_tutorials(page: str, number: int, described: dict[str, npt.NDArray[np.float32]]) -> None:
    calls = CALL.findall((TUTORIALS / page).read_text(encoding="utf-8"))
    assert len(calls) == len(EXPECTED[page])
    listed, sizes, factor = EXPECTED[page][number]
    if "MyFile.star" in calls[number] and "star_file_list" in calls[number]:
        write_star(Path("MyFile.star"), PAIRS[:2])
        write_star(Path("File2.star"), PAIRS[2:])
    call = textwrap.dedent(calls[number])
    name = call.partition("(")[0]
    function = getattr(cryolike_dask, name)
    if name in ("convert_particle_stacks_from_indexed_cryosparc", "convert_particle_stacks_from_indexed_star_files"):
        with pytest.warns(DeprecationWarning, match=name):
            exec(call, {name: function})
    else:
        exec(call, {name: function})
    stacks = read_stacks(Path("OUTDIR" if "OUTDIR" in call else "."))
    assert [len(stack.fourier) for stack in stacks] == sizes
    assert_holds(stacks, described, listed, factor)
