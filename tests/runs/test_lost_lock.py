"""A run that lost its lock, for example because its machine slept, does not change the files of the next run."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cryolike_dask.errors import OutputError, RunStoppedError
from cryolike_dask.progress import NoProgress, StackProgress
from cryolike_dask.report import ConversionReport
from cryolike_dask.runs import lock as run_lock
from cryolike_dask.runs.active import publishing
from cryolike_dask.runs.folder import RunFolder, acquire_folder
from cryolike_dask.runs.manifest import read_manifest
from cryolike_dask.runs.verify import verify_output
from tests.support.clusters import conversion, make_particles

N_IMAGES = 40
BATCH = 4
WAIT = 60


class AtStack(NoProgress):
    """Does something once, when this stack is complete."""

    def __init__(self, counter: int, action: Callable[[], None]) -> None:
        self.counter, self.action = counter, action

    def stack_done(self, stack: StackProgress) -> None:
        if stack.counter == self.counter:
            self.action()


def make_stale(lock: Path) -> None:
    """Make the lock look like that of a run on another machine that has not touched it for long."""
    owner = json.loads(lock.read_text())
    lock.write_text(json.dumps(owner | {"machine": "elsewhere 1"}))
    os.utime(lock, (1, 1))


def state_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize(("way", "batch_size"), [("overwrite", BATCH), ("overwrite", 5), ("skip_exist", BATCH)])
@pytest.mark.parametrize("later", ["ended", "midway"])
def test_a_run_that_wakes_up_late_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str, batch_size: int, later: str
) -> None:
    # The first run must not notice by itself before its end.
    monkeypatch.setattr(run_lock, "HEARTBEAT_SECONDS", 1e6)
    monkeypatch.setattr("cryolike_dask.runs.folder.HEARTBEAT_SECONDS", 1e6)
    data = make_particles(tmp_path / "particles", n_images=N_IMAGES)
    out = tmp_path / "out"
    lock = out / ".conversion" / "lock"
    reached, go_on = threading.Event(), threading.Event()
    result: dict[str, Any] = {}

    def pause() -> None:
        reached.set()
        assert go_on.wait(WAIT)

    def second() -> None:
        progress = AtStack(5, pause) if later == "midway" else NoProgress()
        try:
            result["report"] = conversion(data, out, batch_size=batch_size, flag_plots=False, **{way: True}).run(progress=progress)
        except BaseException as error:  # noqa: BLE001  # raised again in the thread of the test
            result["error"] = error
        finally:
            reached.set()

    thread = threading.Thread(target=second)

    def sleep_through_another_run() -> None:
        make_stale(lock)
        thread.start()
        assert reached.wait(WAIT)
        if later == "ended":
            thread.join(WAIT)
            result["state"] = state_of(out)

    first = conversion(data, out, batch_size=BATCH, flag_plots=False)
    with pytest.raises(OutputError, match="taken over while this conversion was running"):
        first.run(progress=AtStack(2, sleep_through_another_run))
    if later == "ended":
        assert state_of(out) == result["state"]
    go_on.set()
    thread.join(WAIT)
    assert "error" not in result, result["error"]
    report: ConversionReport = result["report"]
    assert report.n_images == N_IMAGES
    manifest = read_manifest(out)
    assert manifest is not None
    assert manifest["status"] == "complete"
    assert manifest["identity"]["settings"]["batch_size"] == batch_size
    assert verify_output(out) == []
    assert not (out / ".conversion").exists()


def test_nothing_is_changed_without_the_lock(tmp_path: Path) -> None:
    first = acquire_folder(tmp_path)
    make_stale(first.lock)
    second = acquire_folder(tmp_path)
    with pytest.raises(OutputError, match="taken over"), first.exclusive_changes():
        pytest.fail("the folder is another run's")
    with pytest.raises(RunStoppedError), publishing(tmp_path, first.run_id):
        pytest.fail("the folder is another run's")
    with second.exclusive_changes():
        assert second.lock.exists()
    second.release()
    # The hidden folder is gone, too.
    with pytest.raises(OutputError, match="taken over"), first.exclusive_changes():
        pytest.fail("the folder is nobody's")


def test_a_folder_is_not_taken_over_in_the_midst_of_a_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_lock, "_WAIT_SECONDS", 0.1)
    run = acquire_folder(tmp_path)
    with run.exclusive_changes():
        make_stale(run.lock)
        with pytest.raises(OutputError, match="suspended"):
            acquire_folder(tmp_path)
    acquire_folder(tmp_path).release()


def test_each_run_fills_files_of_its_own_on_their_way(tmp_path: Path) -> None:
    one, other = RunFolder(tmp_path, "one"), RunFolder(tmp_path, "other")
    assert one.scratch("particles.star") != other.scratch("particles.star")
