"""Schedulers and clients that die, and Ctrl-C."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import dask
import pytest
from distributed import Client

from cryolike_dask.errors import ConversionError
from tests.support.chaos import COMMAND_LINE, At, Case, kill, n_visible, process, until, warm_up, watching

pytestmark = pytest.mark.chaos


@dataclass
class ExternalCluster:
    """A scheduler and two workers, each a process of its own, without nannies."""

    folder: Path
    pids: dict[str, int] = field(default_factory=dict)

    @property
    def file(self) -> Path:
        return self.folder / "scheduler.json"

    @contextmanager
    def client(self) -> Iterator[Client]:
        with Client(scheduler_file=str(self.file), set_as_default=False) as client:
            client.wait_for_workers(2)
            client.run(warm_up)
            yield client


@contextmanager
def external_cluster(folder: Path) -> Iterator[ExternalCluster]:
    folder.mkdir()
    cluster = ExternalCluster(folder)
    with ExitStack() as stack:
        scheduler = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
        worker = [sys.executable, "-m", "distributed.cli.dask_worker", "--nthreads", "1", "--no-nanny", "--no-dashboard"]
        for name, command in {"scheduler": scheduler, "worker 1": worker, "worker 2": worker}.items():
            command = [*command, "--scheduler-file", str(cluster.file)]
            log = stack.enter_context((folder / f"{name}.log").open("w"))
            cluster.pids[name] = stack.enter_context(process(command, stdout=log)).pid
        until(lambda: cluster.file.exists() and cluster.file.stat().st_size, "a scheduler")
        yield cluster


@pytest.fixture
def impatient() -> Iterator[None]:
    """Clients soon stop to wait for a lost scheduler."""
    with dask.config.set({"distributed.comm.timeouts.connect": "2s", "distributed.client.heartbeat": "1s"}):
        yield


@pytest.mark.usefixtures("impatient")
def test_a_killed_scheduler_is_reported_and_the_run_continues_with_another(case: Case, out: Path, tmp_path: Path) -> None:
    gone = pytest.raises(ConversionError, match=r"scheduler at .* is gone.*--skip-exist")
    with external_cluster(tmp_path / "first") as cluster, cluster.client() as client, watching(out), gone:
        case.conversion(out).run(client, At(7, lambda: kill(cluster.pids["scheduler"])))
    assert 7 <= n_visible(out) < case.n_stacks
    with external_cluster(tmp_path / "second") as cluster, cluster.client() as client, watching(out):
        report = case.conversion(out, skip_exist=True).run(client)
    assert report.n_kept >= 7
    case.check(out)


def test_a_client_that_is_killed_is_followed_by_another_on_the_same_cluster(case: Case, out: Path, tmp_path: Path) -> None:
    with external_cluster(tmp_path / "cluster") as cluster, watching(out):
        with process(case.command(out, "--scheduler-file", str(cluster.file))) as first:
            until(lambda: n_visible(out) >= 5, "the fifth stack")
            kill(first.pid)
            first.wait()
        assert n_visible(out) < case.n_stacks
        # Its workers are still there, and may be in the middle of a stack. Its lock is that of a dead process.
        with process(case.command(out, "--skip-exist", "--scheduler-file", str(cluster.file))) as second:
            text = second.communicate()[0]
        assert second.returncode == 0, text
        assert "Taking over" in text
    case.check(out)


def test_a_conversion_that_is_killed_three_times_ends_with_the_right_result(case: Case, out: Path) -> None:
    with watching(out):
        for n_wanted in (5, 20, 35):
            with process(case.command(out, "--skip-exist")) as run:
                until(lambda n=n_wanted: n_visible(out) >= n, f"stack {n_wanted}")
                kill(run.pid)
                run.wait()
            assert n_visible(out) < case.n_stacks
    case.resume_and_check(out)


@pytest.mark.parametrize("more", [(), ("--workers", "2")], ids=["threads", "cluster"])
def test_control_c_stops_within_seconds_and_leaves_no_leftovers(case_of_many: Case, out: Path, more: tuple[str, ...]) -> None:
    case = case_of_many
    with watching(out), process(case.command(out, *more)) as run:
        until(lambda: n_visible(out) >= 5, "the fifth stack")
        # As from a terminal, all processes get the signal.
        os.killpg(run.pid, signal.SIGINT)
        began = time.monotonic()
        text = run.communicate(timeout=30)[0]
        assert time.monotonic() - began < 15
    assert run.returncode == 130, text  # the exit code of shells for Ctrl-C
    assert "--skip-exist" in text
    assert 5 <= n_visible(out) < case.n_stacks
    assert not list(out.rglob("*.partial"))
    assert not (out / ".conversion").exists()
    case.resume_and_check(out)


def test_control_c_in_python_stops_the_tasks_too(case: Case, out: Path) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    with watching(out), pytest.raises(KeyboardInterrupt):
        case.conversion(out).run(None, At(5, interrupt))
    n_then = n_visible(out)
    assert not list(out.rglob("*.partial"))
    assert not (out / ".conversion").exists()
    report = case.resume_and_check(out)
    assert report.n_kept >= n_then


def test_a_broken_pipe_of_the_output_does_not_matter_to_the_stacks(case: Case, out: Path) -> None:
    with process([*case.command(out)]) as run:
        assert run.stdout is not None
        run.stdout.close()
        run.wait()
    case.resume_and_check(out)
    with process([*COMMAND_LINE, "verify", str(out), "--deep"]) as verify:
        assert "complete and undamaged" in verify.communicate()[0]
    assert verify.returncode == 0
