"""The lock on an output folder, which only one run may hold."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from cryolike_dask.errors import InputError, OutputError
from cryolike_dask.planning import input_files
from cryolike_dask.planning.input_files import sha256_of_files
from cryolike_dask.runs import folder as run_folder
from cryolike_dask.runs import lock as run_lock
from cryolike_dask.runs.active import is_active
from cryolike_dask.runs.folder import acquire_folder
from tests.support.chaos import until
from tests.support.clusters import conversion, make_particles


def foreign_lock(folder: Path, **changes: Any) -> Path:
    hidden = folder / ".conversion"
    hidden.mkdir(parents=True)
    owner = {"host": "elsewhere", "machine": "elsewhere 1", "pid": 1, "process_started": 0, "token": "x", "since": "yesterday"}
    (hidden / "lock").write_text(json.dumps(owner | changes))
    return hidden / "lock"


def test_the_lock_names_its_owner_and_is_removed_with_it(tmp_path: Path) -> None:
    run = acquire_folder(tmp_path)
    owner = json.loads(run.lock.read_text())
    assert owner["pid"] == os.getpid()
    assert {"host", "since", "token"} <= set(owner)
    assert is_active(tmp_path, run.run_id)
    run.release()
    assert not is_active(tmp_path, run.run_id)
    assert list(tmp_path.iterdir()) == []


def test_a_second_owner_is_refused_by_host_process_and_time(tmp_path: Path) -> None:
    run = acquire_folder(tmp_path)
    with pytest.raises(OutputError, match=rf"process {os.getpid()} on \S+, since \d{{4}}-"):
        acquire_folder(tmp_path)
    run.release()
    acquire_folder(tmp_path).release()


def test_only_one_of_many_that_start_at_once_gets_the_folder(tmp_path: Path) -> None:
    foreign_lock(tmp_path, machine=run_lock._machine_id(), pid=2**22 + 1)  # stale, so that all try to take it over

    def attempt(_: int) -> object:
        try:
            return acquire_folder(tmp_path)
        except OutputError:
            return None

    with ThreadPoolExecutor(16) as pool:
        owners = [run for run in pool.map(attempt, range(16)) if run]
    assert len(owners) == 1


def test_a_lock_of_a_dead_process_is_taken_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    foreign_lock(tmp_path, machine=run_lock._machine_id(), pid=dead.pid)
    run = acquire_folder(tmp_path)
    assert f"process {dead.pid} on elsewhere" in caplog.text
    run.release()


def test_a_lock_of_another_process_that_has_the_same_number_now_is_taken_over(tmp_path: Path) -> None:
    foreign_lock(tmp_path, machine=run_lock._machine_id(), pid=os.getpid(), process_started=1.0)
    acquire_folder(tmp_path).release()


def test_a_lock_of_another_machine_is_respected_while_it_is_touched(tmp_path: Path) -> None:
    lock = foreign_lock(tmp_path)
    with pytest.raises(OutputError, match=r"process 1 on elsewhere, since yesterday.*remove .*lock"):
        acquire_folder(tmp_path)
    long_ago = lock.stat().st_mtime - run_lock.STALE_SECONDS - 1
    os.utime(lock, (long_ago, long_ago))
    acquire_folder(tmp_path).release()


def test_a_lock_that_was_cut_off_is_taken_over_after_a_while(tmp_path: Path) -> None:
    lock = foreign_lock(tmp_path)
    lock.write_text('{"host": ')
    with pytest.raises(OutputError, match="Another conversion"):
        acquire_folder(tmp_path)
    os.utime(lock, (1, 1))
    acquire_folder(tmp_path).release()


def test_a_run_whose_lock_was_taken_notices_and_leaves_the_new_one_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = acquire_folder(tmp_path)
    first.lock.unlink()
    second = acquire_folder(tmp_path)
    assert not is_active(tmp_path, first.run_id)
    monkeypatch.setattr(run_folder, "HEARTBEAT_SECONDS", 0)
    with pytest.raises(OutputError, match="removed or taken over"):
        first.check_lock()
    first.release()
    assert is_active(tmp_path, second.run_id)
    second.check_lock()
    second.release()


def test_a_lock_is_touched_while_its_run_is_busy_and_no_longer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_lock, "HEARTBEAT_SECONDS", 0.01)
    run = acquire_folder(tmp_path)
    with run.heartbeat():
        os.utime(run.lock, (1, 1))
        until(lambda: run.lock.stat().st_mtime > 1, "a heartbeat")
        run.lock.write_text("{}")  # as if another run had taken it
        until(lambda: "cryolike-heartbeat" not in {thread.name for thread in threading.enumerate()}, "the end of it")
    run.lock.unlink()
    run.release()


def test_a_lock_is_touched_while_inputs_are_hashed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hours may pass before the first stack. Other machines must not assume that the run is dead."""
    data = make_particles(tmp_path / "particles", n_images=12)
    lock = tmp_path / "out" / ".conversion" / "lock"

    def slowly(paths: Sequence[str]) -> list[str | InputError]:
        os.utime(lock, (1, 1))
        until(lambda: lock.stat().st_mtime > 1, "a heartbeat")
        return sha256_of_files(paths)

    monkeypatch.setattr(run_lock, "HEARTBEAT_SECONDS", 0.01)
    monkeypatch.setattr(input_files, "sha256_of_files", slowly)
    assert conversion(data, tmp_path / "out", hash_inputs=True).run().n_images == 12


def test_tokens_of_dead_runs_end_with_the_next_run(tmp_path: Path) -> None:
    foreign_lock(tmp_path, machine=run_lock._machine_id(), pid=2**22 + 1)
    (tmp_path / ".conversion" / "oldoldoldold").touch()
    run = acquire_folder(tmp_path)
    assert not is_active(tmp_path, "oldoldoldold")
    run.release()


def test_a_lock_of_a_zombie_process_is_taken_over(tmp_path: Path) -> None:
    zombie = subprocess.Popen([sys.executable, "-c", ""])
    until(lambda: psutil.Process(zombie.pid).status() == psutil.STATUS_ZOMBIE, "the end of the process")
    started = psutil.Process(zombie.pid).create_time()
    foreign_lock(tmp_path, machine=run_lock._machine_id(), pid=zombie.pid, process_started=started)
    acquire_folder(tmp_path).release()
    zombie.wait()


def test_a_step_of_the_clock_does_not_make_a_living_owner_look_dead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = acquire_folder(tmp_path)
    create_time = psutil.Process.create_time
    monkeypatch.setattr(psutil.Process, "create_time", lambda process: create_time(process) + 3600)
    with pytest.raises(OutputError, match="Another conversion is writing"):
        acquire_folder(tmp_path)
    run.release()


@pytest.mark.parametrize("missing", ["pid", "process_started", "host", "since", "token"])
def test_a_lock_without_a_field_counts_as_long_as_it_is_touched(tmp_path: Path, missing: str) -> None:
    lock = foreign_lock(tmp_path, machine=run_lock._machine_id(), pid=os.getpid(), process_started=psutil.Process().create_time())
    content = json.loads(lock.read_text())
    del content[missing]
    lock.write_text(json.dumps(content))
    with pytest.raises(OutputError, match="Another conversion is writing") as caught:
        acquire_folder(tmp_path)
    assert "None" not in str(caught.value)
    if missing in ("pid", "process_started"):
        os.utime(lock, (1, 1))
        acquire_folder(tmp_path).release()


def test_a_lock_is_never_seen_without_its_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    link = os.link

    def watched(source: Path, target: Path) -> None:
        assert not target.exists()
        link(source, target)
        seen.append(target.read_text())

    monkeypatch.setattr(os, "link", watched)
    run = acquire_folder(tmp_path)
    assert [json.loads(content)["token"] for content in seen] == [run.run_id]
    run.release()


def test_a_lock_is_made_on_a_file_system_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(source: Path, target: Path) -> None:
        raise PermissionError("no links here")

    monkeypatch.setattr(os, "link", refused)
    run = acquire_folder(tmp_path)
    with pytest.raises(OutputError, match="Another conversion"):
        acquire_folder(tmp_path)
    run.release()
