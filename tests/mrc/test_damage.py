"""Damaged image files give the same images or an InputError, and never other or fewer images."""

from __future__ import annotations

import bz2
import gzip
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cryolike_dask.errors import InputError
from cryolike_dask.mrc.reader import ImageFileReader, read_header
from tests.support.mrc_files import MODES, example_images, pack_mrc

SHAPE = (3, 6, 8)
HEADER = 1024
FILES = [
    (mode, order, pack_mrc(example_images(mode, SHAPE), mode, order, extended=bytes(range(80)) if mode % 2 else b""))
    for mode in MODES
    for order in "<>"
]
FUZZ = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True, database=None)


def images_or_none(path: Path) -> npt.NDArray[np.float32] | None:
    """All images of a file, or None if it is refused with a message that names it."""
    refusal = ""
    try:
        header = read_header(path)
        assert header.n_images * header.image_bytes <= 1 << 20, "a damaged header could request an array of any size"
        out = np.empty((header.n_images, header.n_rows, header.n_columns), dtype=np.float32)
        with ImageFileReader(header) as reader:
            reader.read(np.arange(header.n_images), out)
    except InputError as error:
        refusal = str(error)
    assert not refusal or (str(path) in refusal and "\n" not in refusal)
    return None if refusal else out


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("damage") / "stack.mrcs"


@given(file=st.sampled_from(FILES), bit=st.integers(0, 8 * HEADER - 1))
@settings(FUZZ, max_examples=400)
def test_flipped_bit_in_the_header(path: Path, file: tuple[int, str, bytes], bit: int) -> None:
    mode, _, content = file
    damaged = bytearray(content)
    damaged[bit // 8] ^= 1 << bit % 8
    path.write_bytes(damaged)
    images = images_or_none(path)
    assert images is None or np.array_equal(images, example_images(mode, SHAPE))


def test_every_flipped_bit_of_what_describes_the_images(path: Path) -> None:
    for mode, _, content in FILES:
        n_refused = 0
        for bit in [*range(8 * 16), *range(8 * 92, 8 * 96)]:
            damaged = bytearray(content)
            damaged[bit // 8] ^= 1 << bit % 8
            path.write_bytes(damaged)
            n_refused += images_or_none(path) is None
        assert n_refused == 8 * 20, mode


@given(file=st.sampled_from(FILES), cut=st.integers(0, 2500), rest=st.binary(max_size=300))
@settings(FUZZ, max_examples=300)
def test_cut_off_or_overwritten_end(path: Path, file: tuple[int, str, bytes], cut: int, rest: bytes) -> None:
    mode, _, content = file
    damaged = content[:cut] + rest
    path.write_bytes(damaged)
    images = images_or_none(path)
    if len(damaged) != len(content):
        assert images is None
    elif images is not None and damaged == content:
        assert np.array_equal(images, example_images(mode, SHAPE))


@given(file=st.sampled_from(FILES), at=st.integers(0, 1700), piece=st.binary(min_size=1, max_size=40))
@settings(FUZZ, max_examples=200)
def test_inserted_bytes(path: Path, file: tuple[int, str, bytes], at: int, piece: bytes) -> None:
    _, _, content = file
    path.write_bytes(content[:at] + piece + content[at:])
    assert images_or_none(path) is None


@given(content=st.one_of(st.binary(max_size=3000), st.binary(min_size=16, max_size=16).map(lambda start: start + bytes(2000))))
@settings(FUZZ, max_examples=200)
def test_arbitrary_bytes(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    images_or_none(path)


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress])
@given(data=st.data())
@settings(FUZZ, max_examples=250)
def test_damaged_archive(path: Path, compress: object, data: st.DataObject) -> None:
    assert callable(compress)
    content = bytearray(compress(pack_mrc(example_images(2, SHAPE), 2)))
    if data.draw(st.booleans(), "cut off"):
        del content[data.draw(st.integers(0, len(content) - 1), "length") :]
    else:
        bit = data.draw(st.integers(0, 8 * len(content) - 1), "bit")
        content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)
    images = images_or_none(path)
    assert images is None or np.array_equal(images, example_images(2, SHAPE))
