"""Several threads make a stack, and its files do not depend on their number."""

from __future__ import annotations

import gzip
import os
import re
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from cryolike_dask import Conversion, InputError, particles_from_star
from cryolike_dask.errors import RunStoppedError
from cryolike_dask.execution import chunks, particle_reader
from cryolike_dask.execution.chunks import convert_chunks
from cryolike_dask.execution.convert_stack import convert_stack
from cryolike_dask.mrc.reader import ImageFileReader
from cryolike_dask.planning.plan import StackPlan
from cryolike_dask.transform import cpu
from cryolike_dask.transform.interface import TransformedImages
from tests.support.chaos import process
from tests.support.clusters import threads_cluster
from tests.support.conversions import files_of
from tests.support.direct_transform import converted, polar_grid, relative_error
from tests.support.independent_reader import read_arrays
from tests.support.mrc_files import pack_mrc
from tests.support.particle_sets import BOX, NO_PLOTS, ParticleSet, params, write_particle_set

N = 41
THREADS = (1, 2, 3, 8)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of three images or less."""
    grid = params().polar_grid
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 3 * (8 * grid.n_points + 4 * BOX * BOX))
    monkeypatch.setattr(cpu, "_CACHE_BYTES", 1)


@pytest.fixture
def particles(tmp_path: Path) -> ParticleSet:
    return write_particle_set(tmp_path / "set", {"a.mrcs": 23, "b.mrcs": 1, "c.mrcs": 17}, shuffle=True)


def one_stack(particles: ParticleSet, **options: Any) -> StackPlan:
    table = particles_from_star(particles.star, particles.mrc)
    return Conversion(table, params(), folder_output=particles.folder / "out", **(NO_PLOTS | options)).plan.stack(0)


def staged(stack: StackPlan, folder: Path, n_threads: int) -> tuple[dict[str, bytes], dict[str, npt.NDArray[Any]]]:
    """The bytes of the tensor files, and the arrays of the metadata."""
    for name in ("fft", "phys"):
        (folder / name).mkdir(parents=True)
    receipt = convert_stack(stack, folder, n_threads=n_threads)
    files = {path.replace(receipt.attempt, "ATTEMPT"): content for path, content in files_of(folder).items()}
    (metadata,) = (folder / "fft").glob(".*npz*")
    arrays = read_arrays(metadata)
    arrays.pop("attempt", None)  # a random number
    return {path: content for path, content in files.items() if "npz" not in path}, arrays


@pytest.mark.parametrize("output", ["pt", "zarr"])
def test_files_are_the_same_whatever_the_number_of_threads(particles: ParticleSet, output: str) -> None:
    stack = one_stack(particles, output_format=output)
    (tensors, metadata), *others = (staged(stack, particles.folder / f"{n}", n) for n in THREADS)
    assert len(tensors) == 2
    for other, other_metadata in others:
        assert other == tensors
        assert other_metadata.keys() == metadata.keys()
        for name, values in metadata.items():
            np.testing.assert_array_equal(other_metadata[name], values, name)


def collected(stack: StackPlan, n_threads: int, at_chunk: Callable[[int], object] = lambda _: None) -> npt.NDArray[Any]:
    """The Fourier images. Checks that each was passed on once."""
    grid = stack.descriptor.polar_grid
    images = np.zeros((len(stack), grid.n_shells, grid.n_inplanes), dtype=np.complex64)
    n_times = np.zeros(len(stack), dtype=int)

    def keep(number: int, positions: npt.NDArray[np.int64], results: TransformedImages) -> None:
        at_chunk(number)
        n_times[positions] += 1
        images[positions] = results.fourier

    convert_chunks(stack, keep, n_threads)
    assert n_times.tolist() == [1] * len(stack)
    return images


@pytest.mark.parametrize("n_threads", THREADS)
def test_images_are_those_of_the_table(particles: ParticleSet, n_threads: int) -> None:
    stack = one_stack(particles)
    d = stack.descriptor
    grid = polar_grid(d.radius_max, d.dist_radii, d.polar_grid.n_inplanes)
    exact = np.stack([converted(particles.image(row), grid) for row in range(N)])
    assert relative_error(collected(stack, n_threads), exact) < 1.5e-6


def test_threads_work_on_one_stack_at_the_same_time(particles: ParticleSet) -> None:
    # Three threads wait for each other in the first three chunks. With fewer threads, they would wait forever.
    meeting = threading.Barrier(3)
    collected(one_stack(particles), 3, lambda number: meeting.wait(30) if number < 3 else None)


@pytest.mark.parametrize("n_threads", [1, 8])
def test_the_first_bad_image_in_the_order_of_reading_is_named(particles: ParticleSet, n_threads: int) -> None:
    for name, index in (("a.mrcs", 20), ("a.mrcs", 2), ("a.mrcs", 12)):
        particles.images[name][index] = 7.5
    for name, images in particles.images.items():
        (particles.mrc / name).write_bytes(pack_mrc(images, 2, pixel_size=0))
    for _ in range(10):
        with pytest.raises(InputError, match=r"image 3 of .*a\.mrcs\) is constant"):
            collected(one_stack(particles), n_threads)


@pytest.mark.parametrize("n_threads", THREADS)
def test_bad_images_that_become_zeros_are_listed_in_the_order_of_reading(particles: ParticleSet, n_threads: int) -> None:
    bad = [("a.mrcs", 3), ("a.mrcs", 20), ("b.mrcs", 0), ("c.mrcs", 16)]
    for name, index in bad:
        particles.images[name][index] = 0
    for name, images in particles.images.items():
        (particles.mrc / name).write_bytes(pack_mrc(images, 2, pixel_size=0))
    stack = one_stack(particles, on_bad_image="zero")
    _, lines = convert_chunks(stack, lambda *_: None, n_threads)
    order = [Path(stack.files[number].path).name for number in sorted(stack.files)]
    bad.sort(key=lambda image: (order.index(image[0]), image[1]))
    assert [re.findall(r"image (\d+) of .*/(.*)\) is constant", line) for line in lines] == [
        [(str(index + 1), name)] for name, index in bad
    ]


@pytest.mark.parametrize("n_threads", [1, 8])
def test_a_compressed_file_is_decompressed_once(particles: ParticleSet, n_threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    truth = collected(one_stack(particles), 1)
    for path in particles.mrc.iterdir():
        path.with_suffix(".mrcs.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    particles.star.write_text(particles.star.read_text().replace(".mrcs", ".mrcs.gz"))
    opened: list[str] = []

    class Reader(ImageFileReader):
        def __init__(self, file: Any) -> None:
            opened.append(Path(file.path).name)
            super().__init__(file)

    monkeypatch.setattr(particle_reader, "ImageFileReader", Reader)
    np.testing.assert_array_equal(collected(one_stack(particles), n_threads), truth)
    assert sorted(opened) == ["a.mrcs.gz", "b.mrcs.gz", "c.mrcs.gz"]


@pytest.mark.parametrize("n_threads", [1, 8])
def test_a_file_written_to_after_its_images_were_read_is_noticed(particles: ParticleSet, n_threads: int) -> None:
    stack = one_stack(particles)
    file = Path(stack.files[max(stack.files)].path)

    def write_to_the_last_file(number: int) -> None:
        if number == -(-N // 3) - 1:
            file.write_bytes(file.read_bytes() + b"more")

    with pytest.raises(InputError, match=file.name):
        collected(stack, n_threads, write_to_the_last_file)


@pytest.mark.parametrize("n_threads", [1, 8])
def test_a_cancelled_stack_begins_no_other_chunk_and_leaves_no_file(particles: ParticleSet, n_threads: int) -> None:
    stack, folder = one_stack(particles), particles.folder / "cancelled"
    for name in ("fft", "phys"):
        (folder / name).mkdir(parents=True)
    asked: list[int] = []
    with pytest.raises(RunStoppedError):
        convert_stack(stack, folder, lambda: not asked.append(1), n_threads)  # type: ignore[func-returns-value]
    assert 1 <= len(asked) <= n_threads
    assert files_of(folder) == {}


def test_an_error_of_a_consumer_reaches_the_caller(particles: ParticleSet) -> None:
    def full(number: int) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        collected(one_stack(particles), 8, full)


def test_an_interrupt_while_a_stack_is_given_up_does_not_leave_its_threads_behind(
    particles: ParticleSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files are closed afterwards. A thread that continued would write to the next file that gets the same descriptor."""
    inside, go_on = threading.Barrier(3), threading.Event()
    n_waits, ended = 0, []

    def wait_interrupted_twice(jobs: Any) -> Any:
        nonlocal n_waits
        n_waits += 1
        if n_waits == 1:
            inside.wait(30)
        if n_waits <= 2:
            raise KeyboardInterrupt
        go_on.set()
        return wait(jobs)

    def consume(number: int, *_: Any) -> None:
        inside.wait(30)
        assert go_on.wait(30)
        ended.append(number)

    wait = chunks.wait
    monkeypatch.setattr(chunks, "wait", wait_interrupted_twice)
    with pytest.raises(KeyboardInterrupt):
        convert_chunks(one_stack(particles), consume, 2)
    assert n_waits == 3
    assert sorted(ended) == [0, 1]


FORK = """
import os, sys
from cryolike_dask import Conversion, particles_from_star
from cryolike_dask.execution.chunks import convert_chunks

star, mrc, params = sys.argv[1:]
stack = Conversion(particles_from_star(star, mrc), params, batch_size=1000).plan.stack(0)
convert_chunks(stack, lambda *_: None, 2)
child = os.fork()
if not child:
    convert_chunks(stack, lambda *_: None, 2)
    os._exit(7)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_process_converts_with_threads_of_its_own(particles: ParticleSet) -> None:
    params().save(particles.folder / "params.npz")
    command = [sys.executable, "-c", FORK, str(particles.star), str(particles.mrc), str(particles.folder / "params.npz")]
    with process(command) as run:
        run.communicate(timeout=60)
    assert run.returncode == 7


def test_a_worker_with_a_gpu_and_one_thread_reads_and_writes_while_it_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers as dask-cuda starts them: without a resource, and with one thread each."""
    monkeypatch.setattr(chunks, "resolve_device", lambda device: "cpu" if device == "cpu" else "cuda:0")
    for n_threads, wanted in ((1, 3), (5, 5)):
        with threads_cluster(threads_per_worker=n_threads) as client:
            assert client.submit(chunks.process_threads, "cuda").result() == wanted
            assert client.submit(chunks.process_threads, "cpu").result() == n_threads
