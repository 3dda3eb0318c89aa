"""A plan on disk: it is read back unchanged, and a worker reads no more than it needs."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cryolike_dask.errors import OutputError
from cryolike_dask.planning.plan import Plan
from cryolike_dask.planning.store import load_plan, load_whole_plan, store_plan
from tests.support.clusters import conversion, make_particles

_N_LARGE = 1_000_000


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    folder = tmp_path_factory.mktemp("particles")
    return conversion(make_particles(folder), folder / "out", batch_size=7).plan


def stored(plan: Plan, folder: Path) -> Path:
    folder.mkdir()
    store_plan(plan, folder)
    return folder


def assert_equal(found: Any, wanted: Any) -> None:
    assert type(found) is type(wanted)
    for field in fields(wanted):
        a, b = getattr(found, field.name), getattr(wanted, field.name)
        if isinstance(b, np.ndarray):
            assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes()), field.name
        elif field.name == "table":
            assert_equal(replace(a, warnings=()), replace(b, warnings=()))
        else:
            assert a == b, field.name


def test_every_stack_comes_back(plan: Plan, tmp_path: Path) -> None:
    found = load_plan(stored(plan, tmp_path / "plan"), "some run")
    for counter in range(plan.n_stacks):
        assert_equal(found.stack(counter), plan.stack(counter))
        assert found.end_of(counter) == plan.bounds[counter, 1]


def test_the_whole_plan_comes_back(plan: Plan, tmp_path: Path) -> None:
    offsets = np.arange(plan.n_stacks) - 1
    table = replace(plan.table, files=(*plan.table.files, "/gone.mrcs"))
    plan = replace(plan, table=table, file_offsets=offsets, warnings=("one", "two"), files=(*plan.files, None))
    assert_equal(load_whole_plan(stored(plan, tmp_path / "plan")), plan)


def test_names_that_are_no_text_come_back(plan: Plan, tmp_path: Path) -> None:
    odd = b"/\xc3\xa9/\xff.mrcs".decode("utf-8", errors="surrogateescape")
    names = (odd, *plan.table.files[1:])
    files = tuple(None if file is None else replace(file, path=name) for file, name in zip(plan.files, names, strict=True))
    plan = replace(plan, table=replace(plan.table, files=names), files=files)
    found = load_whole_plan(stored(plan, tmp_path / "plan"))
    assert found.table.files == names
    assert [asdict(file) for file in found.files if file] == [asdict(file) for file in files if file]


def test_a_plan_that_lost_its_end_is_not_taken_for_a_smaller_one(plan: Plan, tmp_path: Path) -> None:
    folder = stored(plan, tmp_path / "plan")
    rows = folder / "rows.npy"
    rows.write_bytes(rows.read_bytes()[:-1])
    with pytest.raises(OutputError, match="shorter"):
        load_plan(folder, "some run").stack(plan.n_stacks - 1)


@pytest.mark.parametrize("size", [0, 5, 20])
def test_a_plan_whose_file_lost_its_header_is_refused(plan: Plan, tmp_path: Path, size: int) -> None:
    folder = stored(plan, tmp_path / "plan")
    with (folder / "rows.npy").open("r+b") as file:
        file.truncate(size)
    with pytest.raises(OutputError, match=r"rows\.npy is damaged"):
        load_plan(folder, "some run")


def test_columns_are_written_as_numpy_writes_them(plan: Plan, tmp_path: Path) -> None:
    folder = stored(plan, tmp_path / "plan")
    rows = np.load(folder / "rows.npy")
    assert (rows.dtype, rows.tobytes()) == (plan.table.rows.dtype, plan.table.rows.tobytes())
    assert [int(stack["last"]) for stack in np.load(folder / "stacks.npy")] == plan.bounds[:, 1].tolist()


def test_a_plan_with_other_columns_is_refused(plan: Plan, tmp_path: Path) -> None:
    folder = stored(plan, tmp_path / "plan")
    np.save(folder / "rows.npy", np.zeros(3))
    with pytest.raises(OutputError, match="another version"):
        load_plan(folder, "some run")


def test_a_worker_reads_what_it_needs_of_a_million_stacks(plan: Plan, tmp_path: Path) -> None:
    first = np.arange(_N_LARGE)
    large = replace(
        plan,
        table=plan.table.take(first % plan.n_images),
        bounds=np.stack([first, first + 1], axis=1),
        pixel_size=np.full(_N_LARGE, plan.pixel_size[0]),
    )
    folder = stored(large, tmp_path / "plan")
    program = f"""
import resource, time
from pathlib import Path
import cryolike_dask.planning.store as store
import cryolike_dask.particles.table
def megabytes():
    return int(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))) / 1e3
before, began = megabytes(), time.perf_counter()
assert len(store.load_plan(Path({str(folder)!r}), "run").stack(999_999)) == 1
print(time.perf_counter() - began, megabytes() - before)
"""
    seconds, megabytes = map(float, subprocess.check_output([sys.executable, "-c", program], text=True).split())
    assert seconds < 0.2
    assert megabytes < 60
