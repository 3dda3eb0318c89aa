"""Reading the headers of image files, and refusing other files."""

from __future__ import annotations

import math
import os
import struct
import time
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from cryolike_dask.errors import InputError
from cryolike_dask.mrc.reader import read_header, scan_headers
from tests.support.mrc_files import example_images, mrc_variants, pack_mrc
from tests.support.reference import DATA, REFERENCE, needs_data

IMAGES = example_images(2, (3, 6, 8))


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def with_int(content: bytes, offset: int, value: int, order: str = "<") -> bytes:
    return content[:offset] + struct.pack(f"{order}i", value) + content[offset + 4 :]


def test_header_of_every_kind_of_file(tmp_path: Path) -> None:
    kinds = {0: "i1", 1: "i2", 2: "f4", 6: "u2", 12: "f2"}
    n_variants = 0
    for variant in mrc_variants(tmp_path):
        header = read_header(variant.path)
        assert (header.n_images, header.n_rows, header.n_columns) == variant.images.shape, variant.name
        assert np.dtype(header.dtype) == np.dtype(variant.order + kinds[variant.mode]), variant.name
        assert header.pixel_size == pytest.approx(1.5), variant.name
        stored = variant.images.size * np.dtype(header.dtype).itemsize
        assert header.data_offset == variant.path.stat().st_size - stored, variant.name
        n_variants += 1
    assert n_variants == 540


def test_header_agrees_with_mrcfile(tmp_path: Path) -> None:
    path = tmp_path / "stack.mrcs"
    with mrcfile.new(path) as stack:
        stack.set_data(np.zeros((4, 6, 10), dtype=np.float32))
        stack.set_image_stack()
        stack.voxel_size = 1.31
        stack.set_extended_header(np.zeros(3, dtype="V200"))
    header = read_header(path)
    assert (header.n_images, header.n_rows, header.n_columns) == (4, 6, 10)
    assert (header.dtype, header.data_offset, header.compression) == ("<f4", 1024 + 600, "")
    assert header.pixel_size == pytest.approx(1.31, rel=1e-6)
    assert (header.size, header.mtime_ns) == (path.stat().st_size, path.stat().st_mtime_ns)


@pytest.mark.parametrize(
    ("folder", "n_at_least"), [pytest.param(DATA, 2, marks=needs_data, id="real"), pytest.param(REFERENCE, 20, id="reference")]
)
@pytest.mark.filterwarnings("ignore:Map ID string not found", "ignore:Unrecognised machine stamp")
def test_header_of_files_made_by_other_programs(folder: Path, n_at_least: int) -> None:
    paths = sorted(folder.rglob("*.mrc*"))
    assert len(paths) >= n_at_least
    for path, header in zip(paths, scan_headers([str(p) for p in paths]), strict=True):
        assert header is not None
        with mrcfile.open(path, permissive=True) as file:
            assert file.data.shape[-2:] == (header.n_rows, header.n_columns)
            assert file.data.size == header.n_images * header.n_rows * header.n_columns


@pytest.mark.parametrize(
    ("cell", "samples"),
    [
        ((0.0, 0.0), (8, 6)),
        ((8.0, 6.0), (8, 6)),
        ((12.0, 12.0), (8, 6)),
        ((math.nan, 9.0), (8, 6)),
        ((math.inf, math.inf), (8, 6)),
        ((-12.0, -9.0), (8, 6)),
        ((12.0, 9.0), (0, 0)),
        ((12.0, 9.0), (-8, -6)),
    ],
)
def test_unbelievable_pixel_size_is_not_stated(tmp_path: Path, cell: tuple[float, float], samples: tuple[int, int]) -> None:
    content = bytearray(pack_mrc(IMAGES, 2))
    struct.pack_into("<2i", content, 28, *samples)
    struct.pack_into("<2f", content, 40, *cell)
    assert math.isnan(read_header(write(tmp_path / "a.mrcs", bytes(content))).pixel_size)


def test_imod_bytes_have_a_sign_only_where_the_flag_says_so(tmp_path: Path) -> None:
    images = example_images(0, (1, 6, 8))
    assert read_header(write(tmp_path / "signed.mrc", pack_mrc(images, 0, imod_flags=1))).dtype == "|i1"
    assert read_header(write(tmp_path / "unsigned.mrc", pack_mrc(images, 0, imod_flags=0))).dtype == "|u1"
    with pytest.raises(InputError, match="4-bit"):
        read_header(write(tmp_path / "packed.mrc", pack_mrc(images, 0, imod_flags=17)))


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (LFS, "Git LFS pointer.*git lfs pull"),
        (b"\n <!DOCTYPE html><html><body>Log in</body></html>" + b" " * 2000, "HTML page"),
        (b"loop_\n" * 10, "not an MRC file.*60 bytes"),
        (b"\x89PNG" * 1000, "not an MRC file"),
        (bytes(4096), "not an MRC file"),
        (pack_mrc(IMAGES, 2)[:1024], r"too short.*3 images of 6 × 8 \(<f4\), and image 1 "),
        (pack_mrc(IMAGES, 2)[:-1], "too short.*image 3 "),
        (pack_mrc(IMAGES, 2, extended=bytes(500))[:1300], "too short.*image 1 "),
        (pack_mrc(IMAGES, 2) + b"\0", r"too long.*1600 in all, and it has 1601.*truncate -s 1600"),
        (with_int(pack_mrc(IMAGES, 2, extended=bytes(500)), 92, 80), "too long"),
        (with_int(pack_mrc(IMAGES, 2), 8, 0), "makes no sense: 0 images"),
        (with_int(pack_mrc(IMAGES, 2), 92, -4), "makes no sense.*-4 bytes"),
        (with_int(pack_mrc(IMAGES, 2), 12, 3), "mode 3 .complex"),
        (with_int(pack_mrc(IMAGES, 2), 12, 4), "mode 4 .complex"),
        (with_int(pack_mrc(IMAGES, 2), 12, 101), "mode 101 .packed 4-bit"),
        (with_int(pack_mrc(IMAGES, 2), 12, 7), "mode 7, which is not supported"),
        (pack_mrc(IMAGES, 2, axes=(3, 2, 1)), r"order \(3, 2, 1\)"),
    ],
)
def test_file_that_holds_no_images_is_refused_by_name(tmp_path: Path, content: bytes, message: str) -> None:
    path = write(tmp_path / "particles.mrcs", content)
    with pytest.raises(InputError, match=message) as caught:
        read_header(path)
    assert str(path) in str(caught.value)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mrcs")
    for path, message in [
        (tmp_path / "absent.mrcs", "does not exist"),
        (tmp_path, "is a folder, not an image file"),
        (tmp_path / "pipe.mrcs", "is a named pipe, not an image file"),
        ("nul\0byte.mrcs", "cannot be read"),
        (tmp_path / ("x" * 300), "cannot be read"),
    ]:
        with pytest.raises(InputError, match=message):
            read_header(path)


def test_scan_keeps_the_order_and_marks_missing_files(tmp_path: Path) -> None:
    paths = []
    for n in range(1, 40):
        path = tmp_path / f"{n:03d}.mrcs"
        if n % 7:
            path.write_bytes(pack_mrc(example_images(2, (n, 4, 4)), 2))
        paths.append(str(path))
    found = scan_headers(paths, n_threads=4)
    assert [header.n_images if header else None for header in found] == [n if n % 7 else None for n in range(1, 40)]


def test_scan_lists_every_faulty_file_up_to_a_limit(tmp_path: Path) -> None:
    paths = [str(write(tmp_path / f"bad{n:02d}.mrcs", b"")) for n in range(14)]
    with pytest.raises(InputError, match=r"^14 image files cannot be used") as caught:
        scan_headers(paths)
    assert [name in str(caught.value) for name in ("bad00", "bad09", "bad10")] == [True, True, False]
    assert "And 4 more." in str(caught.value)
    with pytest.raises(InputError, match=r"^\S*bad00.mrcs is empty"):
        scan_headers(paths[:1])


def test_a_thousand_headers_are_scanned_in_about_a_second(tmp_path: Path) -> None:
    content = pack_mrc(IMAGES, 2)
    paths = [str(write(tmp_path / f"{n}.mrcs", content)) for n in range(1000)]
    started = time.perf_counter()
    assert all(scan_headers(paths))
    assert time.perf_counter() - started < 2.0  # 0.1 s on an idle machine
