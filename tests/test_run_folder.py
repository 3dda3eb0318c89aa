"""Who may write to an output folder, and what is there already."""

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

import dask
import pytest

from cryolike_dask.conversion import Conversion
from cryolike_dask.demo.particles import DemoData, write_demo_particles
from cryolike_dask.errors import InputError, OutputError
from cryolike_dask.particles.star import particles_from_star
from cryolike_dask.planning import input_files
from cryolike_dask.planning.input_files import sha256_of_files
from cryolike_dask.planning.preflight import bytes_written, memory_a_thread, refuse_small_memory
from cryolike_dask.runs import folder as run_folder
from cryolike_dask.runs import lock as run_lock
from cryolike_dask.runs.folder import acquire, is_current
from tests.support.chaos import until


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DemoData:
    return write_demo_particles(tmp_path_factory.mktemp("particles"), n_images=12, box=16, pixel_size=3.0, n_files=2, seed=1)


def convert(data: DemoData, out: Path, **options: Any) -> Conversion:
    particles = particles_from_star(str(data.star_file), str(data.folder_mrc))
    return Conversion(particles, data.params_file, folder_output=out, **({"batch_size": 3, "flag_plots": False} | options))


# The lock


def foreign_lock(folder: Path, **changes: Any) -> Path:
    hidden = folder / ".conversion"
    hidden.mkdir(parents=True)
    owner = {"host": "elsewhere", "machine": "elsewhere 1", "pid": 1, "process_started": 0, "token": "x", "since": "yesterday"}
    (hidden / "lock").write_text(json.dumps(owner | changes))
    return hidden / "lock"


def test_the_lock_names_its_owner_and_goes_with_it(tmp_path: Path) -> None:
    run = acquire(tmp_path)
    owner = json.loads(run.lock.read_text())
    assert owner["pid"] == os.getpid()
    assert {"host", "since", "token"} <= set(owner)
    assert is_current(tmp_path, run.token)
    run.release()
    assert not is_current(tmp_path, run.token)
    assert list(tmp_path.iterdir()) == []


def test_a_second_owner_is_refused_by_host_process_and_time(tmp_path: Path) -> None:
    run = acquire(tmp_path)
    with pytest.raises(OutputError, match=rf"process {os.getpid()} on \S+, since \d{{4}}-"):
        acquire(tmp_path)
    run.release()
    acquire(tmp_path).release()


def test_only_one_of_many_that_start_at_once_gets_the_folder(tmp_path: Path) -> None:
    foreign_lock(tmp_path, machine=run_lock._machine(), pid=2**22 + 1)  # stale, so that all try to take it over

    def attempt(_: int) -> object:
        try:
            return acquire(tmp_path)
        except OutputError:
            return None

    with ThreadPoolExecutor(16) as pool:
        owners = [run for run in pool.map(attempt, range(16)) if run]
    assert len(owners) == 1


def test_a_lock_of_a_dead_process_is_taken_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    foreign_lock(tmp_path, machine=run_lock._machine(), pid=dead.pid)
    run = acquire(tmp_path)
    assert f"process {dead.pid} on elsewhere" in caplog.text
    run.release()


def test_a_lock_of_another_process_that_has_the_same_number_now_is_taken_over(tmp_path: Path) -> None:
    foreign_lock(tmp_path, machine=run_lock._machine(), pid=os.getpid(), process_started=1.0)
    acquire(tmp_path).release()


def test_a_lock_of_another_machine_is_respected_while_it_is_touched(tmp_path: Path) -> None:
    lock = foreign_lock(tmp_path)
    with pytest.raises(OutputError, match=r"process 1 on elsewhere, since yesterday.*remove .*lock"):
        acquire(tmp_path)
    long_ago = lock.stat().st_mtime - run_lock.STALE_SECONDS - 1
    os.utime(lock, (long_ago, long_ago))
    acquire(tmp_path).release()


def test_a_lock_that_was_cut_off_is_taken_over_after_a_while(tmp_path: Path) -> None:
    lock = foreign_lock(tmp_path)
    lock.write_text('{"host": ')
    with pytest.raises(OutputError, match="Another conversion"):
        acquire(tmp_path)
    os.utime(lock, (1, 1))
    acquire(tmp_path).release()


def test_a_run_whose_lock_was_taken_notices_and_leaves_the_new_one_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = acquire(tmp_path)
    first.lock.unlink()
    second = acquire(tmp_path)
    assert not is_current(tmp_path, first.token)
    monkeypatch.setattr(run_folder, "HEARTBEAT_SECONDS", 0)
    with pytest.raises(OutputError, match="removed or taken over"):
        first.refuse_lost_lock()
    first.release()
    assert is_current(tmp_path, second.token)
    second.refuse_lost_lock()
    second.release()


def test_a_lock_is_touched_while_its_run_is_busy_and_no_longer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_lock, "HEARTBEAT_SECONDS", 0.01)
    run = acquire(tmp_path)
    with run.heartbeat():
        os.utime(run.lock, (1, 1))
        until(lambda: run.lock.stat().st_mtime > 1, "a heartbeat")
        run.lock.write_text("{}")  # as if another run had taken it
        until(lambda: "cryolike-heartbeat" not in {thread.name for thread in threading.enumerate()}, "the end of it")
    run.lock.unlink()
    run.release()


def test_a_lock_is_touched_while_inputs_are_hashed(data: DemoData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hours may pass before the first stack; another machine must not take the folder for that of a dead run."""
    lock = tmp_path / "out" / ".conversion" / "lock"

    def slowly(paths: Sequence[str]) -> list[str | InputError]:
        os.utime(lock, (1, 1))
        until(lambda: lock.stat().st_mtime > 1, "a heartbeat")
        return sha256_of_files(paths)

    monkeypatch.setattr(run_lock, "HEARTBEAT_SECONDS", 0.01)
    monkeypatch.setattr(input_files, "sha256_of_files", slowly)
    assert convert(data, tmp_path / "out", hash_inputs=True).run().n_images == 12


def test_tokens_of_dead_runs_end_with_the_next_run(tmp_path: Path) -> None:
    foreign_lock(tmp_path, machine=run_lock._machine(), pid=2**22 + 1)
    (tmp_path / ".conversion" / "oldoldoldold").touch()
    run = acquire(tmp_path)
    assert not is_current(tmp_path, "oldoldoldold")
    run.release()


# Links


@pytest.mark.parametrize("name", ["fft", "phys", "plots", ".conversion", "particles.zarr", "particles.zarr/fourier"])
def test_output_does_not_follow_a_link_out_of_its_folder(data: DemoData, tmp_path: Path, name: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    link = tmp_path / "out" / name
    link.parent.mkdir(parents=True)
    link.symlink_to(elsewhere)
    with pytest.raises(OutputError, match="is a link"):
        convert(data, tmp_path / "out", flag_plots=True, output_format="zarr" if "zarr" in name else "pt").run()
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize("name", ["manifest.json", "params.npz", "particles.star", "fft/particles_fourier_stack_000000.pt"])
def test_a_link_in_the_place_of_a_file_is_replaced_and_not_followed(data: DemoData, tmp_path: Path, name: str) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    link = tmp_path / "out" / name
    link.parent.mkdir(parents=True)
    link.symlink_to(victim)
    convert(data, tmp_path / "out", overwrite=True).run()
    assert victim.read_text() == "precious"
    assert not link.is_symlink()


# What is there already


def test_output_is_refused_before_any_work_unless_told_what_to_do(data: DemoData, tmp_path: Path) -> None:
    convert(data, tmp_path / "out").run()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    with pytest.raises(OutputError, match="already holds a conversion"):
        convert(data, tmp_path / "out").run()
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == before


def test_another_run_is_refused_with_what_differs(data: DemoData, tmp_path: Path) -> None:
    convert(data, tmp_path / "out").run()
    with pytest.raises(OutputError, match=r"settings\.batch_size: 3 there, 4 now\n  settings\.save_phys: True there, False now"):
        convert(data, tmp_path / "out", batch_size=4, save_phys=False, skip_exist=True).run()


def test_settings_without_effect_on_a_stack_do_not_make_another_run(data: DemoData, tmp_path: Path) -> None:
    convert(data, tmp_path / "out").run()
    report = convert(
        data,
        tmp_path / "out",
        device="cpu",
        flag_plots=True,
        on_bad_image="zero",
        on_missing="skip",
        hash_inputs=True,
        skip_exist=True,
    ).run()
    assert report.n_kept == 4
    assert len(list((tmp_path / "out" / "plots").glob("*.png"))) == 12


def test_a_trial_of_a_few_stacks_is_continued_to_all(data: DemoData, tmp_path: Path) -> None:
    convert(data, tmp_path / "out", n_stacks_max=2).run()
    report = convert(data, tmp_path / "out", skip_exist=True).run()
    assert (report.n_kept, len(report.stacks)) == (2, 4)
    with pytest.raises(OutputError, match=r"holds 4 stacks .* n_stacks_max=2 asks for fewer"):
        convert(data, tmp_path / "out", skip_exist=True, n_stacks_max=2).run()
    assert len(list((tmp_path / "out" / "fft").glob("*.npz"))) == 4


def test_stacks_without_a_manifest_are_not_continued(data: DemoData, tmp_path: Path) -> None:
    convert(data, tmp_path / "out").run()
    (tmp_path / "out" / "manifest.json").unlink()
    with pytest.raises(OutputError, match=r"without a manifest\.json"):
        convert(data, tmp_path / "out", skip_exist=True).run()


def test_the_manifest_tells_settings_versions_inputs_and_each_stack(data: DemoData, tmp_path: Path) -> None:
    convert(data, tmp_path / "out").run()
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["settings"]["batch_size"] == 3
    assert {"python", "numpy", "torch", "dask", "numba"} <= set(manifest["versions"])
    files = sorted(data.folder_mrc.iterdir())
    assert sorted((file["path"], file["size"], file["mtime_ns"]) for file in manifest["inputs"]) == [
        (str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files
    ]
    assert [stack["rows"] for stack in manifest["stacks"]] == [[0, 3], [3, 6], [6, 9], [9, 12]]
    for stack in manifest["stacks"]:
        written = list((tmp_path / "out").glob(f"*/*_stack_{stack['counter']:06d}.*"))
        assert stack["n_bytes"] == sum(path.stat().st_size for path in written)


# Before the start


def test_a_folder_that_cannot_be_written_is_told(data: DemoData, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"cannot be written: Not a directory"):
        convert(data, tmp_path / "file" / "out").run()


@pytest.mark.parametrize("way", ["run", "graph"])
def test_inputs_that_changed_after_planning_are_told_before_anything_is_written(tmp_path: Path, way: str) -> None:
    data = write_demo_particles(tmp_path / "particles", n_images=12, box=16, pixel_size=3.0, n_files=3, seed=1)
    planned = convert(data, tmp_path / "out")
    touched, gone, same = sorted(data.folder_mrc.iterdir())
    os.utime(touched, ns=(0, touched.stat().st_mtime_ns + 1))
    gone.unlink()
    with pytest.raises(InputError, match=r"2 image files changed after .* bytes of .* then, .* now\); .*No such file") as told:
        planned.run() if way == "run" else dask.compute(planned.to_delayed(), scheduler="synchronous")
    assert touched.name in str(told.value)
    assert gone.name in str(told.value)
    assert same.name not in str(told.value)
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file() and ".graph-" not in str(path)]


def test_workers_with_too_little_memory_are_told(data: DemoData, tmp_path: Path) -> None:
    plan = convert(data, tmp_path / "out").plan
    needed = memory_a_thread(plan)
    refuse_small_memory(needed, plan)
    refuse_small_memory(None, plan)
    with pytest.raises(InputError, match=r"needs .* of memory, but a worker has only"):
        refuse_small_memory(needed - 1, plan)


def test_the_estimate_of_the_output_is_close(data: DemoData, tmp_path: Path) -> None:
    report = convert(data, tmp_path / "out", batch_size=12).run()
    estimate = bytes_written(convert(data, tmp_path / "estimate", batch_size=12).plan)
    assert report.n_bytes < estimate < report.n_bytes + 100_000
