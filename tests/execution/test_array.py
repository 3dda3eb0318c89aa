"""A conversion as a lazy array, compared with the stacks that a serial run writes."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import cloudpickle
import dask
import numpy as np
import numpy.typing as npt
import pytest
from dask.array.utils import assert_eq
from dask.base import collections_to_expr
from distributed.protocol import serialize, to_serialize
from distributed.utils import nbytes

from cryolike_dask.conversion import Conversion
from cryolike_dask.errors import InputError
from cryolike_dask.execution.chunks import convert_chunks
from cryolike_dask.particles.star.particles import particles_from_star
from cryolike_dask.stacks.loading import load_stack
from tests.support.clusters import conversion, make_particles, threads_cluster


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return make_particles(tmp_path_factory.mktemp("particles"), n_images=42)


@pytest.fixture(scope="module")
def truth(data: Any, tmp_path_factory: pytest.TempPathFactory) -> npt.NDArray[Any]:
    """(42, n_shells, n_inplanes) Fourier images as written."""
    out = tmp_path_factory.mktemp("serial") / "out"
    conversion(data, out).run_serially()
    return np.concatenate([load_stack(out, counter).fourier.numpy() for counter in range(11)])


def test_shape_chunks_and_dtype_are_known_before_anything_is_read(data: Any, tmp_path: Path, truth: npt.NDArray[Any]) -> None:
    array = conversion(data, tmp_path / "out").to_dask_array(chunks=4)
    assert array.shape == truth.shape
    assert array.chunks == ((4,) * 10 + (2,), truth.shape[1:2], truth.shape[2:])
    assert array.dtype == array._meta.dtype == np.complex64
    assert not (tmp_path / "out").exists()


def test_values_are_those_that_are_written(data: Any, tmp_path: Path, truth: npt.NDArray[Any]) -> None:
    array = conversion(data, tmp_path / "out").to_dask_array()
    assert_eq(array, truth, check_graph=False)
    np.testing.assert_array_equal(array.compute(), truth)
    assert not (tmp_path / "out").exists()


def test_blocks_are_of_dasks_size_whatever_the_batch_size(data: Any, tmp_path: Path, truth: npt.NDArray[Any]) -> None:
    with dask.config.set({"array.chunk-size": 5 * truth[0].nbytes}):
        for batch_size in (4, 1000):
            array = conversion(data, tmp_path / "out", batch_size=batch_size).to_dask_array()
            assert array.chunks == ((5,) * 8 + (2,), truth.shape[1:2], truth.shape[2:])
            np.testing.assert_array_equal(array.compute(), truth)


def test_blocks_as_the_caller_wants_them(data: Any, tmp_path: Path, truth: npt.NDArray[Any]) -> None:
    array = conversion(data, tmp_path / "out").to_dask_array(chunks=(1, 40, 1))
    assert array.chunks[0] == (1, 40, 1)
    np.testing.assert_array_equal(array.compute(), truth)
    for chunks in ((1, 40), "some", 0):
        with pytest.raises(InputError, match="add up to 42"):
            conversion(data, tmp_path / "out").to_dask_array(chunks=chunks)


def test_blocks_across_stacks_of_other_pixel_sizes(data: Any, tmp_path: Path) -> None:
    """Images are shifted by origins in Å, so each needs the pixel size of its own stack."""
    table = particles_from_star(data.star_file, data.folder_mrc)
    table.rows["origin_x"], table.rows["origin_y"] = np.random.default_rng(4).uniform(-9, 9, (2, len(table)))
    planned = Conversion(
        table, data.params_file, folder_output=tmp_path / "out", batch_size=4, flag_plots=False, apply_origins=True
    )
    sizes = np.repeat(planned.plan.pixel_size[0] * np.array([1.0, 1.25, 1.5]), [3, 1, 7])
    planned.plan = replace(planned.plan, pixel_size=sizes)
    found = planned.to_dask_array(chunks=(6, 5, 31)).compute()
    planned.run_serially()
    written = np.concatenate([load_stack(tmp_path / "out", counter).fourier.numpy() for counter in range(11)])
    np.testing.assert_array_equal(found, written)


def test_a_slice_reads_only_its_blocks(data: Any, tmp_path: Path, truth: npt.NDArray[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def watched(stack: Any, *rest: Any, **options: Any) -> Any:
        made.append(len(stack))
        return convert_chunks(stack, *rest, **options)

    monkeypatch.setattr("cryolike_dask.execution.composition.array.convert_chunks", watched)
    part = conversion(data, tmp_path / "out").to_dask_array(chunks=(5, 6, 7, 24))[6:12, 2, ::5]
    np.testing.assert_array_equal(part.compute(), truth[6:12, 2, ::5])
    assert sorted(made) == [6, 7]


@pytest.mark.parametrize(
    "index",
    [
        (7,),
        (-1, slice(None, None, -1)),
        (slice(13, 4, -3),),
        (slice(3, None, -1),),
        (slice(40, None),),
        (slice(9, 9),),
        (Ellipsis, 0),
        (slice(5, 6), None),
        ([11, 9, 9],),
        (np.arange(42) % 5 == 1,),
        (np.isin(np.arange(42), (20, 22)), 3),
    ],
    ids=str,
)
def test_parts_are_those_of_the_whole(index: Any, data: Any, tmp_path: Path, truth: npt.NDArray[Any]) -> None:
    array = conversion(data, tmp_path / "out").to_dask_array(chunks=4)
    np.testing.assert_array_equal(array[index].compute(), truth[index])


def test_lazy_indices_and_mistakes_are_left_to_dask(data: Any, tmp_path: Path, truth: npt.NDArray[Any]) -> None:
    array = conversion(data, tmp_path / "out").to_dask_array(chunks=4)
    chosen = abs(array[:, 0, 0]) > np.median(np.abs(truth[:, 0, 0]))
    np.testing.assert_array_equal(array[chosen].compute(), truth[np.abs(truth[:, 0, 0]) > np.median(np.abs(truth[:, 0, 0]))])
    with pytest.raises(IndexError, match="out of bounds"):
        array[42]


def test_parts_that_overlap_are_made_once(
    data: Any, tmp_path: Path, truth: npt.NDArray[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []

    def watched(stack: Any, *rest: Any, **options: Any) -> Any:
        made.append(len(stack))
        return convert_chunks(stack, *rest, **options)

    monkeypatch.setattr("cryolike_dask.execution.composition.array.convert_chunks", watched)
    array = conversion(data, tmp_path / "out").to_dask_array(chunks=10)
    parts = dask.compute(array[5:15], array[12:25])
    np.testing.assert_array_equal(parts[0], truth[5:15])
    np.testing.assert_array_equal(parts[1], truth[12:25])
    assert made == [10, 10, 10]


def test_survives_persist_map_blocks_rechunk_and_reductions_on_a_cluster(
    data: Any, tmp_path: Path, truth: npt.NDArray[Any]
) -> None:
    with threads_cluster(threads_per_worker=2):
        array = conversion(data, tmp_path / "out").to_dask_array().persist()
        np.testing.assert_array_equal(array.map_blocks(np.abs, dtype=np.float32).compute(), np.abs(truth))
        np.testing.assert_array_equal(array.rechunk((7, -1, -1)).compute(), truth)
        power = (abs(array) ** 2).mean(axis=(0, 2))
        np.testing.assert_allclose(power.compute(), (np.abs(truth) ** 2).mean(axis=(0, 2)), rtol=1e-5)


def sent_bytes(array: Any) -> int:
    """Bytes that a client sends to its scheduler for this array, as `Client._graph_to_futures` counts them."""
    expression = collections_to_expr([array]).finalize_compute().optimize()
    header, frames = serialize(to_serialize(expression))
    return sum(nbytes(part) for part in (header, *frames))


def test_a_part_of_a_million_images_has_a_small_graph(data: Any, tmp_path: Path) -> None:
    large = conversion(data, tmp_path / "out")
    chosen = np.random.default_rng(1).integers(0, 42, 1_000_000)
    first = np.arange(0, 1_000_000, 1000)
    large.plan = replace(
        large.plan,
        table=large.plan.table.take(chosen),
        bounds=np.stack([first, first + 1000], axis=1),
        pixel_size=np.full(1000, large.plan.pixel_size[0]),
    )
    array = large.to_dask_array(chunks=1000)
    for part in (array[10:20], array[[999_999]], array[500_500:501_500, 2]):
        assert sent_bytes(part) < 1e5
    assert sent_bytes(array) < 20e6


def test_a_scheduler_without_this_package_can_pass_the_graph_on(data: Any, tmp_path: Path) -> None:
    array = conversion(data, tmp_path / "out").to_dask_array(chunks=20)
    expression = collections_to_expr([array[5:25]]).finalize_compute().optimize()
    file = tmp_path / "graph"
    file.write_bytes(cloudpickle.dumps(expression))
    program = f"""
import pickle, sys
sys.modules["cryolike_dask"] = None
graph = pickle.load(open({str(file)!r}, "rb")).__dask_graph__()
print(len(graph), sorted({{"torch", "numba"}} & sys.modules.keys()))
"""
    assert subprocess.check_output([sys.executable, "-c", program], text=True).split(maxsplit=1)[1].strip() == "[]"


def test_equal_conversions_share_names_and_others_do_not(data: Any, tmp_path: Path) -> None:
    array = conversion(data, tmp_path / "a").to_dask_array()
    assert conversion(data, tmp_path / "b").to_dask_array().name == array.name
    assert conversion(data, tmp_path / "a", batch_size=5).to_dask_array().name != array.name
    assert conversion(data, tmp_path / "a", on_bad_image="zero").to_dask_array().name != array.name


def test_dask_knows_equal_conversions_by_their_token(data: Any, tmp_path: Path) -> None:
    tokens = [dask.base.tokenize(conversion(data, tmp_path / "out")) for _ in range(2)]
    assert tokens[0] == tokens[1]
    others = [
        conversion(data, tmp_path / "elsewhere"),
        conversion(data, tmp_path / "out", batch_size=3),
        conversion(data, tmp_path / "out", save_phys=False),
    ]
    assert len({tokens[0], *map(dask.base.tokenize, others)}) == 4
