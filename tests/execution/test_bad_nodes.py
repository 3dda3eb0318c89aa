"""Workers that cannot work on a run: they are not used, or others make their stacks, and the user is told why."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from distributed import Client, LocalCluster, WorkerPlugin

from cryolike_dask import ConversionError
from tests.support.chaos import (
    Case,
    break_reads,
    die_at,
    make_case,
    n_visible,
    process,
    process_cluster,
    until,
)

WORKER = "from distributed.cli.dask_worker import main; main()"


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return make_case(tmp_path_factory.mktemp("case"), n_images=60, batch_size=5)


@contextmanager
def cluster_with(folder: Path, *workers: list[str]) -> Iterator[Client]:
    """A scheduler, a good worker and others, each in a process of its own."""
    folder.mkdir()
    file = folder / "scheduler.json"
    scheduler = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
    good = [sys.executable, "-c", WORKER]
    options = ["--nthreads", "1", "--no-nanny", "--no-dashboard", "--scheduler-file", str(file)]
    with ExitStack() as stack:
        log = stack.enter_context((folder / "log").open("w"))
        stack.enter_context(process([*scheduler, "--scheduler-file", str(file)], stdout=log))
        until(lambda: file.exists() and file.stat().st_size, "a scheduler")
        for number, command in enumerate([good, *workers]):
            stack.enter_context(process([*command, "--name", f"worker-{number}", *options], stdout=log))
        client = stack.enter_context(Client(scheduler_file=str(file), set_as_default=False))
        client.wait_for_workers(1 + len(workers), timeout=60)
        yield client


def warned(caplog: pytest.LogCaptureFixture) -> str:
    return "\n".join(record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import sys; sys.modules['cryolike_dask'] = None", "it cannot import cryolike_dask"),
        ("import cryolike_dask; cryolike_dask.__version__ = '0.0.1'", "it has cryolike_dask 0.0.1, and this run was planned with"),
    ],
)
def test_a_worker_without_the_package_or_with_another_version_is_not_used(
    case: Case, tmp_path: Path, caplog: pytest.LogCaptureFixture, code: str, reason: str
) -> None:
    with cluster_with(tmp_path / "cluster", [sys.executable, "-c", f"{code}; {WORKER}"]) as client:
        case.conversion(tmp_path / "out").run(client)
        # Not even the scheduler, through which everything passes, loads libraries that compute images.
        loaded = client.run_on_scheduler(lambda: sorted({"cryolike_dask", "torch", "numba"} & set(sys.modules)))
    case.check(tmp_path / "out")
    assert "Worker worker-1 (" in warned(caplog)
    assert reason in warned(caplog)
    assert loaded == []


@pytest.mark.parametrize(("hidden", "reason"), [("images", "it cannot read"), ("output", "it does not see the output folder")])
def test_a_worker_on_a_machine_without_the_shared_folders_is_not_used(
    case: Case, tmp_path: Path, caplog: pytest.LogCaptureFixture, hidden: str, reason: str
) -> None:
    (tmp_path / "parent").mkdir()
    out = tmp_path / "parent" / "out"
    folder = case.data.folder_mrc if hidden == "images" else out.parent
    # The process has a mount namespace of its own, in which an empty file system hides the folder.
    isolated = ["unshare", "--mount", "sh", "-c", f"mount -t tmpfs tmpfs '{folder}' && exec \"$@\"", "sh"]
    if subprocess.run([*isolated, "true"], capture_output=True, check=False).returncode:
        pytest.skip("mounting in a namespace is not permitted here")
    with cluster_with(tmp_path / "cluster", [*isolated, sys.executable, "-c", WORKER]) as client:
        case.conversion(out).run(client)
    case.check(out)
    assert "Worker worker-1 (" in warned(caplog)
    assert reason in warned(caplog)


def test_a_cluster_of_nothing_but_unusable_workers_is_an_error_that_names_them(case: Case, tmp_path: Path) -> None:
    code = "import cryolike_dask; cryolike_dask.__version__ = '0.0.1'"
    with process_cluster(1) as (_, client):
        client.run(exec, code, {})
        with pytest.raises(ConversionError, match=r"The only worker at .* cannot work on this run:\n  Worker 0 .*0\.0\.1"):
            case.conversion(tmp_path / "out").run(client)
    assert not list((tmp_path / "out").glob("fft/*.pt"))
    case.resume_and_check(tmp_path / "out")


def test_a_stack_that_fails_on_one_worker_is_made_on_another(case: Case, tmp_path: Path) -> None:
    with process_cluster() as (_, client):
        bad = sorted(client.scheduler_info()["workers"])[0]
        client.run(break_reads, case.data.folder_mrc.name, -1, workers=[bad])
        case.conversion(tmp_path / "out").run(client)
    case.check(tmp_path / "out")


def test_stacks_that_were_meant_for_workers_that_left_are_made_by_others(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One worker cannot be used, so tasks are restricted to the others. These leave before they begin, and another worker joins."""
    monkeypatch.setattr("cryolike_dask.execution.executors.waiting.POLL_SECONDS", 0.2)
    with process_cluster() as (cluster, client):
        bad, good = sorted(client.scheduler_info()["workers"])
        client.run(exec, "import cryolike_dask; cryolike_dask.__version__ = '0.0.1'", {}, workers=[bad])
        blocked = tmp_path / "go on"
        busy = client.submit(_wait_for, blocked, workers=[good], pure=False)
        until(lambda: client.processing(workers=[good]).get(good), "a busy worker")
        run = threading.Thread(target=lambda: case.conversion(tmp_path / "out").run(client))
        run.start()
        until(lambda: len(client.processing(workers=[good]).get(good, ())) > 1, "stacks that wait for it")
        client.retire_workers([good], close_workers=True, remove=True)
        cluster.scale(3)
        blocked.touch()
        run.join(60)
        assert not run.is_alive()
        busy.release()
    case.check(tmp_path / "out")


def _wait_for(path: Path) -> None:
    until(path.exists, "leave to go on")


class _Kills(WorkerPlugin):
    """Kills every worker when it writes this stack."""

    name = "kills"

    def __init__(self, counter: int) -> None:
        self.counter = counter

    def setup(self, worker: Any) -> None:
        die_at("pwrite", rf"/fft/.*{self.counter:06d}\.pt\..*\.partial$")


def test_a_stack_that_kills_its_workers_fails_by_name_and_without_the_others(case: Case, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with process_cluster() as (_, client):
        client.register_plugin(_Kills(7))
        with pytest.raises(
            ConversionError, match=r"^1 stack could not be made.*\n  stack 000007: each worker that made it died"
        ) as caught:
            case.conversion(out).run(client)
    assert "nothing else was in progress" in str(caught.value)
    assert n_visible(out) == 7
    report = case.resume_and_check(out)
    assert report.n_kept == case.n_stacks - 1


def test_a_run_without_workers_says_so_and_begins_when_they_come(
    case: Case, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cryolike_dask.execution.executors.waiting.SILENT_SECONDS", 0.5)
    monkeypatch.setattr("cryolike_dask.execution.executors.waiting.POLL_SECONDS", 0.2)
    with (
        LocalCluster(n_workers=0, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        run = threading.Thread(target=lambda: case.conversion(tmp_path / "out").run(client))
        run.start()
        until(lambda: "has no workers to use" in warned(caplog), "a word on workers")
        cluster.scale(1)
        run.join(60)
        assert not run.is_alive()
    case.check(tmp_path / "out")
    assert "Nothing was completed for" in warned(caplog)
