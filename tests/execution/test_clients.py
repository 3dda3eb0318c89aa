"""Values of the `client` argument: asynchronous clients and clusters, and conversions inside tasks."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from distributed import Client, LocalCluster, get_client

from cryolike_dask.errors import InputError
from cryolike_dask.progress import NoProgress, StackProgress
from cryolike_dask.runs.manifest import read_manifest
from tests.support.clusters import conversion, make_particles, stacks, threads_cluster


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return make_particles(tmp_path_factory.mktemp("particles"))


@pytest.fixture(scope="module")
def serial(data: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("serial") / "out"
    conversion(data, out).run_serially()
    return stacks(out)


def _asynchronous_cluster() -> Any:
    return LocalCluster(
        n_workers=1, threads_per_worker=2, processes=False, dashboard_address=":0", asynchronous=True, protocol="tcp://"
    )


@pytest.mark.parametrize("given", ["client", "cluster", "current"])
def test_asynchronous_code_awaits_a_conversion(data: Any, serial: dict[str, Any], tmp_path: Path, given: str) -> None:
    async def main() -> int:
        async with _asynchronous_cluster() as cluster, Client(cluster, asynchronous=True) as client:
            ticks = 0

            async def count() -> None:
                nonlocal ticks
                while True:
                    await asyncio.sleep(0)  # shows that the event loop is not blocked
                    ticks += 1

            counting = asyncio.create_task(count())
            chosen = {"client": client, "cluster": cluster, "current": None}[given]
            report = await conversion(data, tmp_path / "out").run_async(chosen)
            counting.cancel()
            assert ticks > 100
            return report.n_images

    assert asyncio.run(main()) == 40
    assert stacks(tmp_path / "out") == serial


def test_run_refuses_an_asynchronous_client(data: Any, tmp_path: Path) -> None:
    async def main() -> None:
        async with _asynchronous_cluster() as cluster, Client(cluster, asynchronous=True) as client:
            with pytest.raises(InputError, match="run_async"):
                conversion(data, tmp_path / "out").run(client)

    asyncio.run(main())


class _Cancelling(NoProgress):
    """Progress that cancels the awaiting task after the first stack."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.task = asyncio.current_task()

    def start(self, n_stacks: int, n_images: int) -> None:
        """See `Progress`."""

    def stack_done(self, stack: StackProgress) -> None:
        """See `Progress`."""
        assert self.task is not None
        if stack.counter == 0:
            self.loop.call_soon_threadsafe(self.task.cancel)

    def finish(self, error: BaseException | None) -> None:
        """See `Progress`."""


def test_a_cancelled_conversion_stops_cleanly_and_can_be_continued(data: Any, serial: dict[str, Any], tmp_path: Path) -> None:
    out = tmp_path / "out"

    async def cancelled() -> None:
        async with _asynchronous_cluster() as cluster:
            with pytest.raises(asyncio.CancelledError):
                await conversion(data, out, batch_size=1).run_async(cluster, _Cancelling())

    asyncio.run(cancelled())
    manifest = read_manifest(out)
    assert manifest is not None
    assert manifest["status"] == "incomplete"
    assert not (out / ".conversion").exists()
    conversion(data, out, batch_size=1, skip_exist=True).run_serially()
    assert len(list((out / "fft").glob("*.npz"))) == 40


def _convert_inside(data: Any, out: Path, explicitly: bool) -> int:
    return conversion(data, out).run(get_client() if explicitly else None).n_images


@pytest.mark.parametrize("explicitly", [False, True])
def test_a_task_on_the_only_thread_of_a_cluster_may_convert(
    data: Any, serial: dict[str, Any], tmp_path: Path, explicitly: bool
) -> None:
    with threads_cluster() as client:
        assert client.submit(_convert_inside, data, tmp_path / "out", explicitly).result(timeout=60) == 40
    assert stacks(tmp_path / "out") == serial


def test_a_closed_client_is_refused(data: Any, tmp_path: Path) -> None:
    with threads_cluster() as client:
        pass
    planned = conversion(data, tmp_path / "out")
    with pytest.raises(InputError, match="The client is closed: give one that is connected"):
        planned.run(client)
    with pytest.raises(InputError, match="The client is closed"):
        next(iter(planned.stream(client)))
    with pytest.raises(InputError, match="The client is closed"):
        asyncio.run(planned.run_async(client))
