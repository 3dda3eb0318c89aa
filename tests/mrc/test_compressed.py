"""Image files compressed with gzip or bzip2."""

from __future__ import annotations

import bz2
import gzip
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cryolike_dask.errors import InputError
from cryolike_dask.mrc.reader import ImageFileReader, read_header, scan_headers
from tests.support.mrc_files import example_images, pack_mrc

COMPRESS: dict[str, Callable[[bytes], bytes]] = {"gz": gzip.compress, "bz2": bz2.compress}
IMAGES = example_images(2, (20, 40, 40))
PLAIN = pack_mrc(IMAGES, 2, extended=bytes(300))


@pytest.fixture(params=["gz", "bz2"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def write(tmp_path: Path, kind: str, plain: bytes = PLAIN) -> Path:
    path = tmp_path / f"stack.mrcs.{kind}"
    path.write_bytes(COMPRESS[kind](plain))
    return path


def test_compressed_file_has_the_header_and_images_of_the_plain_one(tmp_path: Path, kind: str) -> None:
    header = read_header(write(tmp_path, kind))
    assert (header.compression, header.n_images, header.data_offset) == (kind, 20, 1324)
    out = np.empty((4, 40, 40), dtype=np.float32)
    with ImageFileReader(header) as reader:
        reader.advise(np.array([3]))
        for indexes in ([3, 4, 4, 19], [0, 1, 2, 3]):  # forward, then back to the beginning
            reader.read(np.array(indexes), out)
            np.testing.assert_array_equal(out, IMAGES[indexes])


def test_name_without_suffix_and_several_members(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "stack.mrcs"
    path.write_bytes(COMPRESS[kind](PLAIN[:5000]) + COMPRESS[kind](PLAIN[5000:]))
    out = np.empty((20, 40, 40), dtype=np.float64)
    with ImageFileReader(read_header(path)) as reader:
        reader.read(np.arange(20), out)
    np.testing.assert_array_equal(out, IMAGES)


def test_archive_cut_off_names_the_first_missing_image(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path, kind, PLAIN[: 1324 + 7 * 6400 + 50])
    out = np.empty((20, 40, 40), dtype=np.float32)
    with ImageFileReader(read_header(path)) as reader, pytest.raises(InputError, match=rf"\.{kind} ends too early: image 8 of 20"):
        reader.read(np.arange(20), out)
    with ImageFileReader(read_header(path)) as reader, pytest.raises(InputError, match="image 18 of 20"):
        reader.read(np.array([17]), out[:1])


def test_archive_whose_bytes_end_early_is_refused(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path, kind)
    os.truncate(path, path.stat().st_size - 3)
    out = np.empty((20, 40, 40), dtype=np.float32)
    with ImageFileReader(read_header(path)) as reader, pytest.raises(InputError, match=r"image \d+ of 20 .*cannot be read"):
        reader.read(np.arange(20), out)


def test_checksum_is_verified_at_the_end(tmp_path: Path) -> None:
    path = write(tmp_path, "gz")
    content = bytearray(path.read_bytes())
    content[-6] ^= 1  # within the CRC-32
    path.write_bytes(content)
    out = np.empty((20, 40, 40), dtype=np.float32)
    with ImageFileReader(read_header(path)) as reader, pytest.raises(InputError, match="damaged archive"):
        reader.read(np.arange(20), out)


def test_damaged_beginning_is_refused(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path, kind)
    content = bytearray(path.read_bytes())
    content[10:60] = bytes(50)
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"stack.mrcs.(gz|bz2)"):
        read_header(path)


def test_archive_of_something_else_is_refused(tmp_path: Path, kind: str) -> None:
    for plain, message in ((b"", "empty"), (b"loop_", "not an MRC file"), (bytes(5000), "not an MRC file")):
        with pytest.raises(InputError, match=message):
            scan_headers([str(write(tmp_path, kind, plain))])


def test_no_more_is_unpacked_than_was_asked_for(tmp_path: Path, kind: str) -> None:
    """A small archive that unpacks to a hundred times more than its header announces."""
    path = write(tmp_path, kind, PLAIN + bytes(100 * len(PLAIN)))
    out = np.empty((20, 40, 40), dtype=np.float32)
    with ImageFileReader(read_header(path)) as reader:
        tracemalloc.start()
        reader.read(np.arange(19), out[:19])
        with pytest.raises(InputError, match=r"more data than its header states: image 20 of 20"):
            reader.read(np.array([19]), out[19:])
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    np.testing.assert_array_equal(out[:19], IMAGES[:19])
    assert peak < 4e6
