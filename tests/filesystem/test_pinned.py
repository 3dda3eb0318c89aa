"""Temporary folders are removed at the end, or by the next run if the process was killed."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from cryolike_dask.filesystem.pinned import temporary_folder
from cryolike_dask.particles.star.particles import particles_from_star
from tests.support.chaos import ROOT
from tests.support.clusters import make_particles

pytestmark = pytest.mark.chaos

KILLED_WHILE_IT_READS = """
import os, signal, sys
from cryolike_dask.particles.star import tables
tables._parse = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
tables.read_star_tables(tables.Path(sys.argv[1]), {"ImageName", "OpticsGroup"})
"""
HOLDS_ONE = """
import sys
from pathlib import Path
from cryolike_dask.filesystem.pinned import temporary_folder
with temporary_folder(parent=Path(sys.argv[1])):
    print("ready", flush=True)
    sys.stdin.read()
"""


def age(folder: Path) -> None:
    """Set the times of everything in a folder to an hour ago."""
    for path in folder.iterdir():
        os.utime(path, (path.stat().st_atime - 3600, path.stat().st_mtime - 3600))


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files go."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return folder


def test_the_next_run_removes_the_folder_of_a_killed_process(tmp_path: Path, temporary: Path) -> None:
    data = make_particles(tmp_path / "particles", n_images=4)
    command = [sys.executable, "-c", KILLED_WHILE_IT_READS, str(data.star_file)]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == -signal.SIGKILL
    (left,) = temporary.iterdir()
    assert list(left.iterdir())
    age(temporary)
    particles_from_star(data.star_file, data.folder_mrc)
    assert list(temporary.iterdir()) == []


def test_folders_in_use_and_of_others_stay(temporary: Path) -> None:
    (temporary / "cryolike-demo").mkdir()
    (temporary / "cryolike-tmp-file").write_text("no folder")
    (temporary / "elsewhere").mkdir()
    (temporary / "cryolike-tmp-link").symlink_to(temporary / "elsewhere")
    (temporary / "cryolike-tmp-abandoned").mkdir()
    before = {path.name for path in temporary.iterdir()}
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS_ONE, str(temporary)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "ready\n"
        in_use = {path.name for path in temporary.iterdir()} - before
        assert len(in_use) == 1
        age(temporary)
        (temporary / "cryolike-tmp-young").mkdir()
        with temporary_folder() as own:
            pass
        assert not own.exists()
        left = {path.name for path in temporary.iterdir()}
        other.communicate("")
    assert left == before - {"cryolike-tmp-abandoned"} | in_use | {"cryolike-tmp-young"}
    assert not in_use & {path.name for path in temporary.iterdir()}


def test_an_interrupt_is_not_hidden_by_a_folder_that_somebody_still_fills(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def not_empty(path: str, *, dir_fd: int | None = None) -> None:
        raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), path)

    def be_interrupted() -> None:
        with temporary_folder():
            monkeypatch.setattr(os, "rmdir", not_empty)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        be_interrupted()
    monkeypatch.undo()
