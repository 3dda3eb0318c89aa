"""Output folders with the files of another run, of a crash, or with damage."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from cryolike_dask.errors import OutputError
from tests.support.chaos import At, Case, n_visible, process, process_cluster, until, watching

pytestmark = pytest.mark.chaos


def test_a_second_run_on_the_same_folder_refuses_and_does_not_disturb_the_first(case: Case, out: Path) -> None:
    refusals = []

    def start_another() -> None:
        for options in ({}, {"skip_exist": True}, {"overwrite": True}):
            with pytest.raises(OutputError, match=r"Another conversion is writing .* process \d+ on .*, since") as told:
                case.conversion(out, **options).run()
            refusals.append(told)

    with process_cluster() as (_, client), watching(out):
        case.conversion(out).run(client, At(5, start_another))
    assert len(refusals) == 3
    case.check(out)


def test_a_run_of_another_process_that_is_stopped_but_alive_keeps_its_lock(case: Case, out: Path) -> None:
    with watching(out), process(case.command(out)) as first:
        until(lambda: n_visible(out) >= 3, "the third stack")
        os.kill(first.pid, signal.SIGSTOP)
        with process(case.command(out, "--skip-exist")) as second:
            text = second.communicate()[0]
        assert second.returncode == 2
        assert f"process {first.pid} on" in text
        os.kill(first.pid, signal.SIGCONT)
        assert first.wait() == 0
    case.check(out)


def interrupted(case: Case, out: Path, n_done: int = 20) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        case.conversion(out).run(None, At(n_done, stop))


def flip_a_byte(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))


@pytest.mark.parametrize("name", ["fft/particles_fourier_stack_000004.pt", "phys/particles_phys_stack_000004.pt"])
@pytest.mark.parametrize(
    "damage",
    [flip_a_byte, Path.unlink, lambda path: os.truncate(path, path.stat().st_size // 2), lambda path: os.truncate(path, 0)],
    ids=["one bit", "gone", "half", "empty"],
)
def test_a_damaged_stack_is_made_again_and_all_others_are_kept(
    case: Case, out: Path, name: str, damage: Callable[[Path], None]
) -> None:
    interrupted(case, out)
    n_before = n_visible(out)
    damage(out / name)
    report = case.conversion(out, skip_exist=True).run()
    assert report.n_kept >= n_before - 1
    assert not next(stack for stack in report.stacks if stack.counter == 4).fourier.is_symlink()
    case.check(out)


def test_metadata_that_are_damaged_or_of_another_stack_are_made_again(case: Case, out: Path) -> None:
    interrupted(case, out)
    fft = out / "fft"
    os.truncate(fft / "particles_fourier_stack_000002.npz", 100)
    shutil.copy2(fft / "particles_fourier_stack_000006.npz", fft / "particles_fourier_stack_000005.npz")
    case.conversion(out, skip_exist=True).run()
    case.check(out)


def test_files_of_crashed_attempts_are_checked_and_used_or_removed(case: Case, out: Path) -> None:
    interrupted(case, out)
    last = n_visible(out)
    fft, phys = out / "fft", out / "phys"
    # Half a stack of a killed worker, a staged stack without metadata, a wrong one, and a correct one.
    (fft / f".particles_fourier_stack_{last:06d}.pt.aaaaaaaaaaaa.partial").write_bytes(b"half")
    (fft / f".particles_fourier_stack_{last + 1:06d}.pt.bbbbbbbbbbbb.staged").write_bytes(b"half")
    (fft / f".particles_fourier_stack_{last + 2:06d}.npz.cccccccccccc.staged").write_bytes(b"PK")
    (out / ".manifest.json.dddddddddddd.partial").write_text("{")
    for name in (f"fft/particles_fourier_stack_{last - 1:06d}.npz", f"fft/particles_fourier_stack_{last - 1:06d}.pt"):
        path = out / name
        path.rename(path.with_name(f".{path.name}.eeeeeeeeeeee.staged"))
    assert (phys / f"particles_phys_stack_{last - 1:06d}.pt").exists()  # as after a crash in the middle of publishing
    report = case.resume_and_check(out)
    assert report.n_kept >= last


def test_overwriting_leaves_nothing_of_a_larger_run(case: Case, case_by_file: Case, out: Path) -> None:
    case.conversion(out).run()
    with watching(out):
        case_by_file.conversion(out, overwrite=True).run()
    case_by_file.check(out)


def test_a_killed_run_that_is_overwritten_leaves_nothing(case: Case, out: Path) -> None:
    with process(case.command(out)) as run:
        until(lambda: n_visible(out) >= 5, "the fifth stack")
        run.kill()
        run.wait()
    with watching(out):
        case.conversion(out, overwrite=True).run()
    case.check(out)
