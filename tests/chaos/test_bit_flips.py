"""One bit anywhere in an output folder is flipped: `verify` notices it, and the remedy that it states works."""

from __future__ import annotations

import io
import logging
import os
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cryolike_dask.demo.particles import DemoData, write_demo_particles
from cryolike_dask.errors import OutputError
from cryolike_dask.runs.info import describe_output
from cryolike_dask.runs.verify import verify_output
from tests.support.clusters import conversion
from tests.support.flips import Flip, choose_flips, files_below

pytestmark = pytest.mark.chaos

SEED = 16
FORMS = ("pt", "zarr")
OTHER_TIMES = ("manifest.json", "particles.star")
"""Files that contain the time when they were written."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DemoData:
    return write_demo_particles(tmp_path_factory.mktemp("particles"), n_images=5, box=16, pixel_size=3.0, n_files=1, seed=11)


def arrays(content: bytes) -> dict[str, Any]:
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        return {
            key: (archive[key].dtype.str, archive[key].shape, archive[key].tobytes()) for key in archive.files if key != "attempt"
        }


class Folder:
    """The output of a small run, which can be damaged and restored."""

    def __init__(self, out: Path, data: DemoData, form: str) -> None:
        self.out, self.data, self.form = out, data, form
        self.convert()
        self.whole = {name: (out / name).read_bytes() for name in files_below(out)}

    def convert(self, **options: Any) -> None:
        conversion(self.data, self.out, batch_size=3, output_format=self.form, **options).run_serially()

    def restore(self) -> None:
        for name in set(files_below(self.out)) - set(self.whole):
            (self.out / name).unlink()
        for name, content in self.whole.items():
            (self.out / name).parent.mkdir(parents=True, exist_ok=True)
            if not (self.out / name).exists() or (self.out / name).read_bytes() != content:
                (self.out / name).write_bytes(content)

    def differing(self) -> list[str]:
        """Files that have changed, apart from the time in some of them, and the random name of an attempt in metadata."""
        now = {name: (self.out / name).read_bytes() for name in files_below(self.out)}
        changed = [name for name in now.keys() | self.whole.keys() if now.get(name) != self.whole.get(name)]
        return [
            name
            for name in changed
            if name not in OTHER_TIMES
            and not (
                self.form == "zarr" and name.startswith("fft/") and name in now and arrays(now[name]) == arrays(self.whole[name])
            )
        ]

    def flips(self, in_each: int) -> list[Flip]:
        return choose_flips(self.out, list(self.whole), in_each, np.random.default_rng(SEED))


@pytest.fixture(params=FORMS)
def folder(request: pytest.FixtureRequest, data: DemoData, tmp_path: Path) -> Folder:
    return Folder(tmp_path / "out", data, request.param)


def test_every_flipped_bit_is_noticed_with_a_remedy(folder: Folder) -> None:
    flips = folder.flips(in_each=2)
    counts = Counter(flip.region for flip in flips)
    assert len(flips) >= 150, counts  # in each of the two forms
    for flip in flips:
        flip.apply(folder.out)
        problems = verify_output(folder.out)
        assert problems, (SEED, flip)
        assert all("--skip-exist" in problem or "--overwrite" in problem for problem in problems), (SEED, flip, problems)
        folder.restore()
    assert verify_output(folder.out) == []


def test_the_stated_remedy_makes_the_file_again(folder: Folder) -> None:
    logging.disable(logging.ERROR)
    try:
        for flip in folder.flips(in_each=1):
            flip.apply(folder.out)
            problems = verify_output(folder.out)
            if any("--overwrite" in problem for problem in problems):
                assert flip.name == "manifest.json", (SEED, flip, problems)
                with pytest.raises(OutputError, match="damaged"):
                    folder.convert(skip_exist=True)
            else:
                folder.convert(skip_exist=True)
                assert folder.differing() == [], (SEED, flip, problems)
                assert verify_output(folder.out) == [], (SEED, flip)
            folder.restore()
    finally:
        logging.disable(logging.NOTSET)


@pytest.mark.parametrize("how", ["gone", "empty", "longer"])
def test_a_file_that_is_gone_empty_or_longer_is_noticed_and_made_again(folder: Folder, how: str) -> None:
    for name in folder.whole:
        path = folder.out / name
        if how == "gone":
            path.unlink()
        else:
            path.write_bytes(b"" if how == "empty" else path.read_bytes() + b"\x01garbage")
        problems = verify_output(folder.out)
        assert problems, name
        if not name.endswith("c/0"):  # for the content of columns, see verify
            told = "damaged" if name != "manifest.json" else "unknown"
            if name == "manifest.json" and how != "gone":
                with pytest.raises(OutputError, match=r"manifest\.json is damaged"):
                    describe_output(folder.out)
            else:
                assert describe_output(folder.out).status == told, name
        if name != "manifest.json":
            folder.convert(skip_exist=True)
            assert folder.differing() == [], (name, problems)
            assert verify_output(folder.out) == [], name
        folder.restore()


def test_data_flipped_without_another_time_are_left_to_verify(folder: Folder) -> None:
    """A limit of resuming, as docs/reliability.md says: images are read again only if their file was modified."""
    name = "fft/particles_fourier_stack_000000.pt" if folder.form == "pt" else "particles.zarr/fourier/c/0/0/0"
    path = folder.out / name
    times = path.stat()
    flip = next(f for f in folder.flips(in_each=1) if f.name == name and f.region in ("data of 0", "images"))
    flip.apply(folder.out)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    folder.convert(skip_exist=True)
    assert folder.differing() == [name]
    assert verify_output(folder.out) != []
    shutil.rmtree(folder.out)
