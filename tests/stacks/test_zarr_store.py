"""Zarr stores in folders, read with Zarr itself and compared with the `.pt` files of a serial run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import zarr

from cryolike_dask.conversion import Conversion
from cryolike_dask.errors import InputError, OutputError
from cryolike_dask.progress import NoProgress
from cryolike_dask.runs.verify import verify_output
from cryolike_dask.stacks.loading import load_stack
from cryolike_dask.stacks.particle_store import open_store
from tests.support.clusters import conversion, make_particles, stacks, threads_cluster

N, BATCH = 42, 8
Arrays = dict[str, Any]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return make_particles(tmp_path_factory.mktemp("particles"), n_images=N)


def as_zarr(data: Any, out: Path, **options: Any) -> Conversion:
    return conversion(data, out, **({"batch_size": BATCH, "output_format": "zarr"} | options))


@pytest.fixture(scope="module")
def truth(data: Any, tmp_path_factory: pytest.TempPathFactory) -> Arrays:
    """What `.pt` and `.npz` files hold, all stacks one after the other."""
    out = tmp_path_factory.mktemp("serial") / "out"
    conversion(data, out, batch_size=BATCH).run_serially()
    stacks = [load_stack(out, counter) for counter in range(6)]
    assert all(stack.physical is not None for stack in stacks)
    found = {"fourier": np.concatenate([stack.fourier.numpy() for stack in stacks])}
    found["phys"] = np.concatenate([stack.physical.numpy() for stack in stacks])  # type: ignore[union-attr]
    for key in ("defocusU", "defocusV", "defocusAngle", "phaseShift", "idxs", "row", "files", "anglePsi"):
        found[key] = np.concatenate([stack.metadata[key] for stack in stacks])
    found["voltage"] = stacks[0].metadata["voltage"]
    return found


def test_zarr_itself_reads_the_numbers_of_the_pt_files(data: Any, truth: Arrays, tmp_path: Path) -> None:
    as_zarr(data, tmp_path).run_serially()
    group: Any = zarr.open_group(str(tmp_path / "particles.zarr"), mode="r")
    np.testing.assert_array_equal(group["fourier"][:], truth["fourier"])
    np.testing.assert_array_equal(group["phys"][:], truth["phys"])
    assert group["fourier"].shards == (BATCH, *truth["fourier"].shape[1:])
    for key in ("defocusU", "defocusV", "defocusAngle", "phaseShift", "idxs", "row", "anglePsi"):
        np.testing.assert_array_equal(group[key][:], truth[key])
    assert (group["voltage"][:] == truth["voltage"]).all()
    np.testing.assert_array_equal(group["files"][:][group["file"][:]].tolist(), truth["files"])
    assert dict(group.attrs)["cryolike_dask"]["committed_images"] == N
    # The name is part of the format: stores that exist must stay readable.
    assert dict(group.attrs)["cryolike_dask"]["images_a_stack"] == BATCH


def test_shards_are_those_that_zarr_writes(data: Any, truth: Arrays, tmp_path: Path) -> None:
    as_zarr(data, tmp_path / "ours").run_serially()
    ours: Any = zarr.open_group(str(tmp_path / "ours" / "particles.zarr"), mode="r")["fourier"]
    theirs = zarr.create_array(
        str(tmp_path / "theirs"),
        shape=ours.shape,
        shards=ours.shards,
        chunks=ours.chunks,
        dtype=ours.dtype,
        compressors=None,
        filters=None,
        fill_value=0,
    )
    theirs[:] = truth["fourier"]
    for counter in range(6):
        name = Path("c", str(counter), "0", "0")
        assert (tmp_path / "ours" / "particles.zarr" / "fourier" / name).read_bytes() == (tmp_path / "theirs" / name).read_bytes()


@pytest.mark.parametrize("how", ["threads", "cluster", "graph"])
def test_every_way_of_running_writes_the_same_store(data: Any, truth: Arrays, tmp_path: Path, how: str) -> None:
    if how == "graph":
        dask.compute(*as_zarr(data, tmp_path).to_delayed())
    elif how == "threads":
        as_zarr(data, tmp_path).run()
    else:
        with threads_cluster(threads_per_worker=3) as client:
            as_zarr(data, tmp_path).run(client)
    store = open_store(tmp_path)
    assert store.complete
    np.testing.assert_array_equal(store.fourier.compute(), truth["fourier"])
    assert verify_output(tmp_path) == []
    assert not list(tmp_path.rglob("*.partial"))


def test_open_store_is_lazy_and_has_a_block_a_stack(data: Any, truth: Arrays, tmp_path: Path) -> None:
    as_zarr(data, tmp_path).run()
    store = open_store(tmp_path / "particles.zarr")
    assert len(store) == N
    assert store.fourier.chunks[0] == (8, 8, 8, 8, 8, 2)
    assert store.physical.dtype == np.float32
    np.testing.assert_array_equal(store.fourier[5:20, 3].compute(), truth["fourier"][5:20, 3])
    np.testing.assert_array_equal(store.columns["defocusU"][30:].compute(), truth["defocusU"][30:])
    assert store.descriptor.n_pixels == (16, 16)


def test_only_committed_stacks_are_shown(data: Any, truth: Arrays, tmp_path: Path) -> None:
    seen: list[int] = []

    class Look(NoProgress):
        """Progress that opens the store during the run."""

        def start(self, n_stacks: int, n_images: int) -> None:
            """See `Progress`."""

        def stack_done(self, stack: Any) -> None:
            store = open_store(tmp_path)
            seen.append(len(store))
            np.testing.assert_array_equal(store.fourier.compute(), truth["fourier"][: len(store)])

        def finish(self, error: BaseException | None) -> None:
            """See `Progress`."""

    as_zarr(data, tmp_path).run_serially(Look())
    assert seen == [8, 16, 24, 32, 40, 42]


def test_an_interrupted_run_continues(data: Any, truth: Arrays, tmp_path: Path) -> None:
    as_zarr(data, tmp_path, n_stacks_max=2).run_serially()
    assert len(open_store(tmp_path)) == 16
    kept = (tmp_path / "particles.zarr" / "fourier" / "c" / "1" / "0" / "0").stat().st_mtime_ns
    (tmp_path / "particles.zarr" / "fourier" / "c" / "0" / "0" / "0").unlink()
    report = as_zarr(data, tmp_path, skip_exist=True).run_serially()
    assert [record.counter for record in report.stacks] == list(range(6))
    assert (tmp_path / "particles.zarr" / "fourier" / "c" / "1" / "0" / "0").stat().st_mtime_ns == kept
    np.testing.assert_array_equal(open_store(tmp_path).fourier.compute(), truth["fourier"])
    assert verify_output(tmp_path) == []


def test_a_store_elsewhere_and_the_records_in_the_folder(data: Any, truth: Arrays, tmp_path: Path) -> None:
    report = as_zarr(data, tmp_path / "out", zarr_store=str(tmp_path / "elsewhere")).run()
    assert report.store == str(tmp_path / "elsewhere")
    np.testing.assert_array_equal(open_store(report.store).fourier.compute(), truth["fourier"])
    np.testing.assert_array_equal(load_stack(tmp_path / "out", 5, zarr_store=report.store).fourier.numpy(), truth["fourier"][40:])
    assert verify_output(tmp_path / "out", deep=True, zarr_store=report.store) == []


def test_overwriting_leaves_nothing_of_the_old_store(data: Any, tmp_path: Path) -> None:
    as_zarr(data, tmp_path, batch_size=4).run_serially()
    as_zarr(data, tmp_path, overwrite=True).run_serially()
    assert sorted(int(path.name) for path in (tmp_path / "particles.zarr" / "fourier" / "c").iterdir()) == [0, 1, 2, 3, 4, 5]
    conversion(data, tmp_path, overwrite=True).run_serially()
    assert not (tmp_path / "particles.zarr").exists()


def test_a_place_with_something_else_is_refused_and_left_alone(data: Any, tmp_path: Path) -> None:
    other = tmp_path / "home"
    other.mkdir()
    (other / "thesis.tex").write_text("important")
    for options in ({}, {"overwrite": True}):
        with pytest.raises(OutputError, match="something other than a conversion"):
            as_zarr(data, tmp_path / "out", zarr_store=str(other), **options).run_serially()
        # The folder is not locked either, so that another location can be tried immediately.
        assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert (other / "thesis.tex").read_text() == "important"
    as_zarr(data, tmp_path / "first", zarr_store=str(tmp_path / "store")).run_serially()
    with pytest.raises(OutputError, match="holds a conversion already"):
        as_zarr(data, tmp_path / "second", batch_size=4, zarr_store=str(tmp_path / "store")).run_serially()


def test_output_is_not_replaced_if_its_store_would_be_refused(data: Any, tmp_path: Path) -> None:
    conversion(data, tmp_path / "out").run_serially()
    before = stacks(tmp_path / "out")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.tex").write_text("important")
    with pytest.raises(OutputError, match="something other than a conversion"):
        as_zarr(data, tmp_path / "out", zarr_store=str(tmp_path / "home"), overwrite=True).run_serially()
    assert stacks(tmp_path / "out") == before


def test_stacks_of_several_sizes_are_refused_before_anything_is_written(data: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="stacks of one size"):
        as_zarr(data, tmp_path / "out", never_combine_input_files=True)
    assert not (tmp_path / "out").exists()


def test_a_store_without_zarr_is_refused(data: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--format zarr"):
        conversion(data, tmp_path, zarr_store="somewhere")
    with pytest.raises(InputError, match="holds no Zarr store"):
        open_store(tmp_path)


@pytest.mark.parametrize("where", ["in the images", "in the index"])
def test_verify_finds_a_damaged_shard(data: Any, tmp_path: Path, where: str) -> None:
    as_zarr(data, tmp_path).run_serially()
    shard = tmp_path / "particles.zarr" / "phys" / "c" / "3" / "0" / "0"
    content = bytearray(shard.read_bytes())
    content[100 if where == "in the images" else -10] ^= 1
    shard.write_bytes(content)
    (problem,) = verify_output(tmp_path)
    assert "stack 000003" in problem
    assert "phys" in problem


def test_a_batch_larger_than_all_particles(data: Any, truth: Arrays, tmp_path: Path) -> None:
    as_zarr(data, tmp_path, batch_size=1000, save_phys=False, flag_plots=True).run()
    store = open_store(tmp_path)
    assert store.physical is None
    np.testing.assert_array_equal(store.fourier.compute(), truth["fourier"])
    assert len(list((tmp_path / "plots").glob("*.png"))) == 2
    assert verify_output(tmp_path) == []


@pytest.mark.parametrize("name", ["._video.mp4.partial", ".0.0123456789AB.partial", ".0123456789ab.partial"])
def test_a_folder_with_partial_files_of_others_is_not_an_empty_store(data: Any, tmp_path: Path, name: str) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / name).write_bytes(b"a film")
    with pytest.raises(OutputError, match="holds something other than a conversion"):
        as_zarr(data, tmp_path / "out", zarr_store=str(theirs), overwrite=True).run_serially()
    assert (theirs / name).read_bytes() == b"a film"


def test_the_next_run_removes_what_a_killed_run_was_writing(tmp_path: Path) -> None:
    data, out = make_particles(tmp_path / "particles", n_images=8), tmp_path / "out"
    conversion(data, out, output_format="zarr", n_stacks_max=1).run()
    store = out / "particles.zarr"
    places = (store, store / "fourier", store / "defocusU" / "c", store / "fourier" / "staged")
    for place in places:
        place.mkdir(exist_ok=True)
        (place / ".0.0123456789ab.partial").write_bytes(b"cut o")
    conversion(data, out, output_format="zarr", skip_exist=True).run()
    assert [path for path in store.rglob("*") if path.name.endswith(".partial") or path.name == "staged"] == []
