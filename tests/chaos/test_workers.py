"""Workers that die."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from distributed import Client, LocalCluster

from cryolike_dask.errors import RunStoppedError
from cryolike_dask.execution.tasks import convert_stack_task
from tests.support.chaos import (
    At,
    Case,
    die_at,
    kill,
    kill_some_worker,
    live,
    living_workers,
    make_case,
    process_cluster,
    until,
    watching,
)

pytestmark = pytest.mark.chaos


def test_workers_killed_at_random_moments(case: Case, out: Path, random: np.random.Generator) -> None:
    with process_cluster() as (cluster, client), watching(out) as watcher:
        faults = At(7, lambda: kill_some_worker(cluster, random), every=True)
        report = case.conversion(out).run(client, faults)
    assert faults.times == 8
    assert faults.done == list(range(case.n_stacks))
    assert report.n_images == 600
    assert watcher.most_seen == case.n_stacks
    case.check(out)


@pytest.fixture(scope="module")
def healing_cluster() -> Iterator[tuple[LocalCluster, Client]]:
    with process_cluster() as cluster:
        yield cluster


@pytest.mark.parametrize(
    ("function", "name"),
    [
        ("pwrite", r"/fft/.*000007\.pt\..*\.partial$"),
        ("fsync", r"/phys/.*000007\.pt\..*\.partial$"),
        ("fsync", r"/fft/.*000007\.npz\..*\.partial$"),
        ("replace", r"/phys/.*000007\.pt\..*\.staged$"),
        ("replace", r"/fft/.*000007\.npz\..*\.staged$"),
        ("replace", r"/phys/particles_phys_stack_000007\.pt$"),
        ("replace", r"/fft/particles_fourier_stack_000007\.pt$"),
        ("replace", r"/fft/particles_fourier_stack_000007\.npz$"),
    ],
)
def test_workers_killed_at_each_step_of_a_stack(
    case_by_file: Case, out: Path, healing_cluster: tuple[LocalCluster, Client], function: str, name: str
) -> None:
    cluster, client = healing_cluster
    client.wait_for_workers(2)
    before = set(living_workers(cluster))
    client.run(die_at, function, name)
    with watching(out):
        case_by_file.conversion(out).run(client)
    assert set(living_workers(cluster)) != before
    case_by_file.check(out)
    # Workers that did not get there must not die in the next test.
    client.wait_for_workers(2)
    client.run(live, on_error="ignore")


def test_all_workers_killed_at_once_three_times(case: Case, out: Path) -> None:
    def kill_all() -> None:
        for pid in until(lambda: living_workers(cluster), "a living worker"):
            kill(pid)

    with process_cluster() as (cluster, client), watching(out):
        faults = At(15, kill_all, every=True)
        case.conversion(out).run(client, faults)
    assert faults.times == 4
    case.check(out)


def test_all_workers_gone_for_good_and_others_joined(case: Case, out: Path) -> None:
    def replace_workers() -> None:
        # Nannies and their workers leave; the cluster is empty for a moment.
        cluster.scale(0)
        until(lambda: not client.nthreads(), "an empty cluster")
        cluster.scale(2)

    with process_cluster() as (cluster, client), watching(out):
        faults = At(20, replace_workers)
        case.conversion(out).run(client, faults)
    assert faults.times == 1
    case.check(out)


def test_sixty_kills_in_one_run_of_three_hundred_stacks(
    tmp_path_factory: pytest.TempPathFactory, out: Path, random: np.random.Generator
) -> None:
    case = make_case(tmp_path_factory.mktemp("many"), n_images=900, batch_size=3)
    assert case.n_stacks == 300
    with process_cluster() as (cluster, client), watching(out):
        faults = At(5, lambda: kill_some_worker(cluster, random), every=True)
        report = case.conversion(out).run(client, faults)
    assert faults.times == 60
    assert len(report.stacks) == 300
    case.check(out)


def test_a_task_of_a_run_that_is_over_writes_nothing(case: Case, out: Path) -> None:
    token: list[str] = []
    case.conversion(out).run(None, At(1, lambda: token.extend(path.name for path in (out / ".conversion").iterdir())))
    (run_token,) = [name for name in token if len(name) == 12 and "." not in name]
    with pytest.raises(RunStoppedError, match="has ended"):
        convert_stack_task(str(out), run_token, 0)
    case.check(out)
