"""A run is killed while it creates a Zarr store, or while it removes the store that it replaces."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cryolike_dask.demo.particles import DemoData
from cryolike_dask.runs.verify import verify_output
from tests.support.chaos import ROOT
from tests.support.clusters import conversion, make_particles

pytestmark = pytest.mark.chaos

KILLED = """
import os, signal, sys

name, nth = sys.argv[1], int(sys.argv[2])
original, calls = getattr(os, name), 0

def killed(path, *arguments, **keywords):
    global calls
    folder = keywords.get("dir_fd")
    place = os.readlink(f"/proc/self/fd/{folder}") if folder is not None else os.path.realpath(os.path.dirname(path))
    calls += "particles.zarr" in place
    if calls == nth:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(path, *arguments, **keywords)

setattr(os, name, killed)
sys.argv[1:] = sys.argv[3:]
from cryolike_dask.cli.main import main
main()
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DemoData:
    return make_particles(tmp_path_factory.mktemp("particles"), n_images=8)


def run_until_killed(data: DemoData, out: Path, function: str, nth: int, *options: str) -> None:
    """Run until just before this call of this function below the store."""
    arguments = ["convert", "star", str(data.star_file), "--mrc-folder", str(data.folder_mrc), "--params", str(data.params_file)]
    command = [sys.executable, "-c", KILLED, function, str(nth), *arguments, "--out", str(out), "--batch-size", "4"]
    done = subprocess.run(
        [*command, "--format", "zarr", "--no-plots", *options], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


def test_a_run_that_is_killed_before_its_store_is_known_is_followed_by_another(data: DemoData, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_until_killed(data, out, "replace", 1)
    assert [path.suffix for path in (out / "particles.zarr").iterdir()] == [".partial"]
    conversion(data, out, 4, output_format="zarr").run_serially()
    assert verify_output(out) == []


@pytest.mark.parametrize(
    ("function", "nth", "way"), [("unlink", 1, "skip_exist"), ("unlink", 20, "overwrite"), ("rmdir", 9, "skip_exist")]
)
def test_a_store_whose_removal_was_cut_short_is_replaced_by_the_next_run(
    data: DemoData, tmp_path: Path, function: str, nth: int, way: str
) -> None:
    out = tmp_path / "out"
    conversion(data, out, 4, output_format="zarr").run_serially()
    run_until_killed(data, out, function, nth, "--overwrite")
    conversion(data, out, 4, output_format="zarr", **{way: True}).run_serially()
    assert verify_output(out) == []
