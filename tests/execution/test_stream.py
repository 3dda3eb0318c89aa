"""Streaming: stacks one after the other, and nothing is written."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from distributed import Client, LocalCluster

from cryolike_dask import Conversion, InputError, load_stack, particles_from_star
from cryolike_dask.execution import chunks
from cryolike_dask.execution.composition import stream
from cryolike_dask.stacks.loading import LoadedStack
from tests.support.chaos import until
from tests.support.conversions import files_of
from tests.support.mrc_files import pack_mrc
from tests.support.particle_sets import NO_PLOTS, ParticleSet, params

N_STACKS = 8
OF_FILES = {"fourier_crc32", "phys_crc32"}


def conversion(particles: ParticleSet, folder: Path, **options: Any) -> Conversion:
    table = particles_from_star(particles.star, particles.mrc)
    return Conversion(table, params(), folder_output=folder, **(NO_PLOTS | {"batch_size": 4} | options))


@pytest.fixture(scope="module")
def written(scattered: ParticleSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("written")
    conversion(scattered, folder).run_serially()
    return folder


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


def assert_equal_to(written: Path, stacks: list[LoadedStack]) -> None:
    assert len(stacks) == N_STACKS
    for counter, stack in enumerate(stacks):
        wanted = load_stack(written, counter)
        assert torch.equal(stack.fourier, wanted.fourier)
        assert (stack.physical is None) == (wanted.physical is None)
        if stack.physical is not None and wanted.physical is not None:
            assert torch.equal(stack.physical, wanted.physical)
        assert stack.metadata.keys() == wanted.metadata.keys() - OF_FILES
        for key, value in stack.metadata.items():
            assert value.dtype == wanted.metadata[key].dtype, key
            np.testing.assert_array_equal(value, wanted.metadata[key], key)


def test_stacks_of_this_process_are_those_that_are_written(scattered: ParticleSet, written: Path, tmp_path: Path) -> None:
    assert_equal_to(written, list(conversion(scattered, tmp_path / "out").stream()))
    assert not (tmp_path / "out").exists()


def test_stacks_of_a_cluster_are_those_that_are_written(
    scattered: ParticleSet, written: Path, tmp_path: Path, client: Client
) -> None:
    assert_equal_to(written, list(conversion(scattered, tmp_path / "out").stream(client, ahead=5)))
    assert not (tmp_path / "out").exists()
    assert not client.futures


def test_without_physical_images(scattered: ParticleSet, tmp_path: Path) -> None:
    (first, *_) = conversion(scattered, tmp_path / "out", save_phys=False).stream()
    assert first.physical is None


def test_pytorchs_loader_takes_them(scattered: ParticleSet, written: Path, tmp_path: Path) -> None:
    dataset = conversion(scattered, tmp_path / "out").to_dataset()
    assert len(dataset) == N_STACKS
    for _epoch in range(2):
        assert_equal_to(written, list(torch.utils.data.DataLoader(dataset, batch_size=None)))
    with pytest.raises(InputError, match="num_workers"):
        list(torch.utils.data.DataLoader(dataset, batch_size=None, num_workers=1))


def test_no_more_stacks_are_made_than_asked_for(scattered: ParticleSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[int] = []
    done = threading.Semaphore(0)

    def watched(pickled: bytes, stream_id: str) -> Any:
        begun.append(len(begun))
        result = make_stack(pickled, stream_id)
        done.release()
        return result

    make_stack = stream.make_stack_task
    monkeypatch.setattr(stream, "make_stack_task", watched)
    stacks = conversion(scattered, tmp_path / "out").stream(ahead=2)
    for n_taken in range(1, 4):
        next(stacks)
        # Stacks in progress end, and no other one begins before the caller continues.
        while len(begun) and done.acquire(timeout=0.5):
            pass
        assert len(begun) == n_taken + 2
    stacks.close()


def test_a_stack_that_was_handed_over_is_the_callers_alone(
    scattered: ParticleSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handed_over: list[weakref.ref[Any]] = []

    def watched(fourier: Any, physical: Any, metadata: Any) -> LoadedStack:
        handed_over.append(weakref.ref(fourier))
        return loaded(fourier, physical, metadata)

    loaded = stream._loaded
    monkeypatch.setattr(stream, "_loaded", watched)
    stacks = conversion(scattered, tmp_path / "out").stream(ahead=1)
    for _ in range(N_STACKS):
        stack = next(stacks)
        assert handed_over[-1]() is not None
        del stack
        assert handed_over[-1]() is None
    stacks.close()


def test_leaving_early_stops_the_stacks_under_way(scattered: ParticleSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Chunks of one image. After each, the task checks whether the stream has ended.
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 1)
    monkeypatch.setattr("cryolike_dask.transform.cpu._CACHE_BYTES", 1)
    entered, go_on, n_chunks = threading.Event(), threading.Event(), 0

    def wait_in_the_third_stack(self: Any, number: int, positions: Any, status: Any) -> None:
        nonlocal n_chunks
        if self.stack.counter == 2:
            n_chunks += 1
            entered.set()
            assert go_on.wait(30)

    monkeypatch.setattr(chunks._Chunks, "_check_images", wait_in_the_third_stack)
    stacks = conversion(scattered, tmp_path / "out", batch_size=10).stream(ahead=2)
    next(stacks)
    assert entered.wait(30)
    n_ended = len(stream._ended)
    closing = threading.Thread(target=stacks.close)
    closing.start()
    until(lambda: len(stream._ended) > n_ended, "the end of the stream")
    go_on.set()
    closing.join(30)
    assert not closing.is_alive()
    assert n_chunks <= chunks.process_threads()


def test_a_bad_image_is_named(scattered: ParticleSet, tmp_path: Path) -> None:
    images = {name: images.copy() for name, images in scattered.images.items()}
    images["c.mrcs"][0] = 1.5
    folder = tmp_path / "mrc"
    folder.mkdir()
    for name, content in images.items():
        (folder / name).write_bytes(pack_mrc(content, 2, pixel_size=0))
    table = particles_from_star(scattered.star, folder)
    with pytest.raises(InputError, match=r"c\.mrcs.*constant"):
        list(Conversion(table, params(), folder_output=tmp_path / "out", batch_size=4, **NO_PLOTS).stream())
    assert files_of(tmp_path / "out") == {}


def test_ahead_must_be_at_least_one(scattered: ParticleSet, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="ahead is 0"):
        next(conversion(scattered, tmp_path / "out").stream(ahead=0))
