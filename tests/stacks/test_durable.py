"""The order of writing, syncing and renaming, because of which a power cut leaves nothing half-written under a final name."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cryolike_dask.runs.verify import verify_output
from tests.support.chaos import real_path
from tests.support.clusters import conversion, make_particles

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc to tell the path of an open file")

Step = tuple[str, str]
"""A step ('write', 'sync' or 'name') and its path; for 'name' the new path."""


def path_of(descriptor: int) -> str:
    return os.readlink(f"/proc/self/fd/{descriptor}")


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[Step]:
    """Every write in place, sync and change of a name, in the order in which they end."""
    done: list[Step] = []

    def recorded(function: str, step: str, path: Callable[..., str]) -> None:
        original = getattr(os, function)

        def and_recorded(*arguments: Any) -> Any:
            named = path(*arguments)
            result = original(*arguments)
            done.append((step, named))
            return result

        monkeypatch.setattr(os, function, and_recorded)

    recorded("pwrite", "write", lambda descriptor, *_: path_of(descriptor))
    recorded("fsync", "sync", path_of)
    recorded("replace", "name", lambda old, new: f"{real_path(old)} -> {real_path(new)}")
    return done


def renames(steps: list[Step], pattern: str) -> list[tuple[int, str, str]]:
    """Place, old and new path of each new name that matches."""
    split = [(i, *path.split(" -> ")) for i, (step, path) in enumerate(steps) if step == "name"]
    return [(i, old, new) for i, old, new in split if re.search(pattern, new)]


def test_files_are_on_the_disk_before_they_are_staged(steps: list[Step], tmp_path: Path) -> None:
    conversion(make_particles(tmp_path / "particles"), tmp_path / "out").run_serially()
    staged = renames(steps, r"\.staged$")
    assert len(staged) == 3 * len(list((tmp_path / "out" / "fft").glob("*.npz")))
    for i, partial, _ in staged:
        syncs = [j for j, step in enumerate(steps[:i]) if step == ("sync", partial)]
        writes = [j for j, step in enumerate(steps) if step == ("write", partial)]
        assert syncs, f"{partial} was never synced before it was staged"
        assert bool(writes) == (".pt." in partial)
        assert not writes or max(writes) < max(syncs), f"{partial} was written to after it was synced"


def test_each_name_is_on_the_disk_before_the_next_one_appears(steps: list[Step], tmp_path: Path) -> None:
    conversion(make_particles(tmp_path / "particles"), tmp_path / "out").run_serially()
    published = renames(steps, r"/(fft|phys)/particles_[^/]*_stack_\d{6}\.(pt|npz)$")
    order = [re.sub(r".*particles_(\w+)_stack_0*(\d+)\.(\w+)$", r"\2 \1 \3", new) for _, _, new in published]
    n_stacks = len(list((tmp_path / "out" / "fft").glob("*.npz")))
    assert order == [f"{k} {kind}" for k in range(n_stacks) for kind in ("phys pt", "fourier pt", "fourier npz")]
    after = [i for i, _, _ in published[1:]] + [len(steps)]
    for (i, _, new), end in zip(published, after, strict=True):
        assert ("sync", str(Path(new).parent)) in steps[i:end], f"{new} may appear after what follows it"


def test_metadata_are_written_when_the_tensors_are_on_the_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Otherwise, if a server sets the time of a file when its last bytes arrive, all stacks would look modified and be read again."""
    early, synced = [], []

    def fsync(descriptor: int) -> None:
        path = path_of(descriptor)
        if attempt := re.search(r"\.pt\.(\w+)\.partial$", path):
            synced.append(path)
            early.extend((tmp_path / "out" / "fft").glob(f".*.npz.{attempt[1]}.partial"))

    monkeypatch.setattr(os, "fsync", fsync)
    conversion(make_particles(tmp_path / "particles"), tmp_path / "out").run_serially()
    assert len(synced) == 2 * len(list((tmp_path / "out" / "fft").glob("*.npz")))
    assert early == []


@pytest.mark.parametrize("form", ["pt", "zarr"])
def test_a_short_write_is_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    write = os.pwrite

    def half(fd: int, data: Any, offset: int) -> int:
        return write(fd, memoryview(data)[: max(1, len(data) // 2)], offset)

    monkeypatch.setattr(os, "pwrite", half)
    conversion(make_particles(tmp_path / "particles", n_images=6), tmp_path / "out", 4, output_format=form).run_serially()
    monkeypatch.undo()
    assert verify_output(tmp_path / "out") == []
