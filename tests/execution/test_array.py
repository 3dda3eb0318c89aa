"""A conversion as a lazy array, compared with the stacks that a serial run writes."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import dask
import numpy as np
import numpy.typing as npt
import pytest
from dask.array.utils import assert_eq

from cryolike_dask.execution.chunks import convert_chunks
from cryolike_dask.stacks.files import load_stack
from tests.support.clusters import conversion, make_particles, threads_cluster


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return make_particles(tmp_path_factory.mktemp("particles"), n_images=42)


@pytest.fixture(scope="module")
def truth(data: Any, tmp_path_factory: pytest.TempPathFactory) -> npt.NDArray[Any]:
    """(42, n_shells, n_inplanes) as written."""
    out = tmp_path_factory.mktemp("serial") / "out"
    conversion(data, out).run_serially()
    return np.concatenate([load_stack(out, counter).fourier.numpy() for counter in range(11)])


def test_shape_chunks_and_dtype_are_known_before_anything_is_read(data: Any, tmp_path: Path, truth: npt.NDArray[Any]) -> None:
    array = conversion(data, tmp_path / "out").to_dask_array()
    assert array.shape == truth.shape
    assert array.chunks == ((4,) * 10 + (2,), truth.shape[1:2], truth.shape[2:])
    assert array.dtype == array._meta.dtype == np.complex64
    assert not (tmp_path / "out").exists()


def test_values_are_those_that_are_written(data: Any, tmp_path: Path, truth: npt.NDArray[Any]) -> None:
    array = conversion(data, tmp_path / "out").to_dask_array()
    assert_eq(array, truth, check_graph=False)
    np.testing.assert_array_equal(array.compute(), truth)
    assert not (tmp_path / "out").exists()


def test_a_slice_reads_only_its_stacks(data: Any, tmp_path: Path, truth: npt.NDArray[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def watched(stack: Any, *rest: Any, **options: Any) -> Any:
        made.append(stack.counter)
        return convert_chunks(stack, *rest, **options)

    monkeypatch.setattr("cryolike_dask.execution.composition.array.convert_chunks", watched)
    part = conversion(data, tmp_path / "out").to_dask_array()[6:9, 2, ::5]
    np.testing.assert_array_equal(part.compute(), truth[6:9, 2, ::5])
    assert sorted(made) == [1, 2]


def test_survives_persist_map_blocks_rechunk_and_reductions_on_a_cluster(
    data: Any, tmp_path: Path, truth: npt.NDArray[Any]
) -> None:
    with threads_cluster(threads_per_worker=2):
        array = conversion(data, tmp_path / "out").to_dask_array().persist()
        np.testing.assert_array_equal(array.map_blocks(np.abs, dtype=np.float32).compute(), np.abs(truth))
        np.testing.assert_array_equal(array.rechunk((7, -1, -1)).compute(), truth)
        power = (abs(array) ** 2).mean(axis=(0, 2))
        np.testing.assert_allclose(power.compute(), (np.abs(truth) ** 2).mean(axis=(0, 2)), rtol=1e-5)


def test_the_graph_sends_each_block_its_own_rows_only(data: Any, tmp_path: Path) -> None:
    array = conversion(data, tmp_path / "out").to_dask_array()
    block = array.blocks[3]
    (part,) = dask.optimize(block)
    n_rows = [len(pickle.dumps(task)) for task in dict(part.dask).values()]
    assert sum(n_rows) < len(pickle.dumps(dict(array.dask)))


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
