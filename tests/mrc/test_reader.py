"""Reading images: right values from every kind of file, few system calls, and clear errors."""

from __future__ import annotations

import errno
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import numpy.typing as npt
import pytest

from cryolike_dask.errors import InputError
from cryolike_dask.mrc import reader as mrc_reader
from cryolike_dask.mrc.reader import ImageFileReader, read_header
from tests.support.mrc_files import example_images, mrc_variants, pack_mrc
from tests.support.reference import DATA, INPUT, needs_data


def read(path: Path | str, indexes: list[int], dtype: Any = np.float32) -> npt.NDArray[Any]:
    header = read_header(path)
    out = np.full((len(indexes), header.n_rows, header.n_columns), np.nan, dtype=dtype)
    with ImageFileReader(header) as reader:
        reader.advise(np.array(indexes, dtype=np.int64))
        reader.read(np.array(indexes, dtype=np.int64), out)
    return out


def stack_of(tmp_path: Path, n: int, order: str = "<", mode: int = 2) -> tuple[Path, npt.NDArray[np.float32]]:
    images = example_images(mode, (n, 6, 8))
    path = tmp_path / f"stack{mode}{'little' if order == '<' else 'big'}.mrcs"
    path.write_bytes(pack_mrc(images, mode, order))
    return path, images


def test_every_kind_of_file_equals_its_float32_twin(tmp_path: Path) -> None:
    for variant in mrc_variants(tmp_path):
        indexes = list(range(len(variant.images)))
        images = read(variant.path, indexes)
        assert images.dtype == np.float32
        np.testing.assert_array_equal(images, variant.images, err_msg=variant.name)
        np.testing.assert_array_equal(images, read(variant.twin, indexes), err_msg=variant.name)


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.uint16, np.float16, np.float32])
@pytest.mark.parametrize("compression", [None, "gzip", "bzip2"])
def test_images_written_by_mrcfile(tmp_path: Path, dtype: Any, compression: str | None) -> None:
    images = np.random.default_rng(1).integers(0, 100, (5, 7, 9)).astype(dtype)
    path = tmp_path / "stack.mrcs"
    with mrcfile.new(path, compression=compression) as stack:
        stack.set_data(images)
    np.testing.assert_array_equal(read(path, [0, 2, 3, 4]), images[[0, 2, 3, 4]].astype(np.float32))


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(DATA / "empiar_10076_7.mrc", marks=needs_data),
        pytest.param(DATA / "relion31.mrcs", marks=needs_data),
        INPUT / "mrc" / "A.mrcs",
    ],
    ids=lambda path: path.name,
)
@pytest.mark.filterwarnings("ignore:Map ID string not found", "ignore:Unrecognised machine stamp")
def test_images_of_real_files_are_those_that_mrcfile_reads(path: Path) -> None:
    with mrcfile.open(path, permissive=True) as file:
        np.testing.assert_array_equal(read(path, list(range(len(file.data)))), file.data)


def test_extended_header_of_nine_hundred_kilobytes(tmp_path: Path) -> None:
    images = example_images(1, (2, 6, 8))
    path = tmp_path / "fei.mrc"
    path.write_bytes(pack_mrc(images, 1, extended=b"\xff" * 900_000))
    np.testing.assert_array_equal(read(path, [0, 1]), images)


@pytest.mark.parametrize("mode", [1, 2])
@pytest.mark.parametrize(
    "indexes", [[], [9], [0, 0, 0], [1, 2, 2, 3, 7, 7, 8], [0, 2, 4, 6, 8], [3, 3, 4, 4, 5, 5], list(range(10))]
)
def test_any_ascending_choice_of_images(tmp_path: Path, mode: int, indexes: list[int]) -> None:
    path, images = stack_of(tmp_path, 10, mode=mode)
    for dtype in (np.float32, np.float64):
        np.testing.assert_array_equal(read(path, indexes, dtype), images[indexes])


def test_neighbouring_images_are_one_system_call_into_the_callers_array(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, images = stack_of(tmp_path, 10)
    out = np.empty((7, 6, 8), dtype=np.float32)
    calls: list[tuple[int, int, bool]] = []
    preadv = os.preadv

    def counted(descriptor: int, buffers: list[memoryview], position: int) -> int:
        calls.append((position, len(buffers[0]), np.shares_memory(np.asarray(buffers[0]), out)))
        return preadv(descriptor, buffers, position)

    monkeypatch.setattr(mrc_reader.os, "preadv", counted)
    with ImageFileReader(read_header(path)) as reader:
        reader.read(np.array([0, 1, 2, 3, 6, 7, 9]), out)
    image = 6 * 8 * 4
    assert calls == [(1024, 4 * image, True), (1024 + 6 * image, 2 * image, True), (1024 + 9 * image, image, True)]
    np.testing.assert_array_equal(out, images[[0, 1, 2, 3, 6, 7, 9]])


def test_reads_that_return_less_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, images = stack_of(tmp_path, 10)
    preadv = os.preadv
    monkeypatch.setattr(mrc_reader.os, "preadv", lambda fd, buffers, position: preadv(fd, [buffers[0][:101]], position))
    np.testing.assert_array_equal(read(path, list(range(10))), images)


def test_casting_large_runs_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, images = stack_of(tmp_path, 11, ">")
    monkeypatch.setattr(mrc_reader, "_CAST_BYTES", 3 * 6 * 8 * 4)
    np.testing.assert_array_equal(read(path, list(range(11))), images)


def test_system_errors_are_raised_so_that_callers_can_try_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, _ = stack_of(tmp_path, 3)

    def failing(*_: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(mrc_reader.os, "preadv", failing)
    with pytest.raises(OSError, match="Input/output") as caught:
        read(path, [0])
    assert caught.value.errno == errno.EIO


def test_index_beyond_the_file_is_refused(tmp_path: Path) -> None:
    path, _ = stack_of(tmp_path, 3)
    with pytest.raises(InputError, match=r"Image 3 \(counted from 0\) of .*stack2little.mrcs does not exist: it has 3"):
        read(path, [0, 3])
    with pytest.raises(InputError, match="Image -1 "):
        read(path, [-1, 0])


def test_misuse_by_the_program_is_a_value_error(tmp_path: Path) -> None:
    path, _ = stack_of(tmp_path, 3)
    with pytest.raises(ValueError, match="ascending"):
        read(path, [2, 0])
    with ImageFileReader(read_header(path)) as reader, pytest.raises(ValueError, match="C-contiguous"):
        reader.read(np.array([0, 1]), np.empty((2, 8, 6), dtype=np.float32).transpose(0, 2, 1))


@pytest.mark.parametrize("change", ["grown", "touched", "gone", "shrunk"])
def test_file_changed_since_planning_is_refused(tmp_path: Path, change: str) -> None:
    path, _ = stack_of(tmp_path, 3)
    header = read_header(path)
    if change == "grown":
        path.write_bytes(path.read_bytes() + bytes(192))
        os.utime(path, ns=(header.mtime_ns, header.mtime_ns))
    elif change == "touched":
        os.utime(path, ns=(header.mtime_ns, header.mtime_ns + 1_000_000))
    elif change == "shrunk":
        os.truncate(path, 1500)
    else:
        path.unlink()
    message = "same path" if change == "gone" else "has changed since its header was read"
    with pytest.raises(InputError, match=rf"{re.escape(str(path))}.*{message}"):
        ImageFileReader(header)


def test_file_cut_off_while_it_is_open_names_the_first_missing_image(tmp_path: Path) -> None:
    path, images = stack_of(tmp_path, 10)
    header = read_header(path)
    out = np.empty((10, 6, 8), dtype=np.float32)
    with ImageFileReader(header) as reader:
        os.truncate(path, 1024 + 4 * 192 + 7)
        reader.read(np.arange(4), out[:4])
        np.testing.assert_array_equal(out[:4], images[:4])
        with pytest.raises(InputError, match=r"stack2little.mrcs ends too early: image 5 of 10"):
            reader.read(np.arange(10), out)
        with pytest.raises(InputError, match="image 7 of 10"):
            reader.read(np.array([6]), out[:1])


def test_reader_opens_its_file_once_and_closes_it(tmp_path: Path) -> None:
    path, _ = stack_of(tmp_path, 3)
    before = set(os.listdir("/proc/self/fd"))
    with ImageFileReader(read_header(path)) as reader:
        assert len(set(os.listdir("/proc/self/fd")) - before) == 1
    reader.close()
    with pytest.raises(InputError):
        ImageFileReader(replace(read_header(path), size=1))
    assert set(os.listdir("/proc/self/fd")) == before
