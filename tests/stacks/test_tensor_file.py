"""`.pt` files written in place, and the checksums they need."""

from __future__ import annotations

import os
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cryolike_dask.errors import InputError
from cryolike_dask.stacks.checksums import combine_equal_lengths, crc32
from cryolike_dask.stacks.files import read_metadata, write_metadata
from cryolike_dask.stacks.loading import load_tensor
from cryolike_dask.stacks.tensor_file import TensorFileWriter, checksum_of_data, map_images, read_layout


@pytest.mark.parametrize("length", [1, 3, 4, 7, 64, 1000, 4096, 65537])
@pytest.mark.parametrize("n_blocks", [1, 2, 5, 33])
def test_checksums_of_blocks_combine_to_that_of_the_whole(length: int, n_blocks: int) -> None:
    data = np.random.default_rng(length).bytes(length * n_blocks)
    blocks = [data[i * length : (i + 1) * length] for i in range(n_blocks)]
    assert combine_equal_lengths([zlib.crc32(block) for block in blocks], length) == zlib.crc32(data)


def test_checksum_is_zlibs() -> None:
    data = np.random.default_rng(1).bytes(100_003)
    assert crc32(data) == zlib.crc32(data)
    assert crc32(data[50_000:], crc32(data[:50_000])) == zlib.crc32(data)
    assert combine_equal_lengths([], 5) == zlib.crc32(b"") == 0


def random_tensor(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    values = np.random.default_rng(0).normal(size=(*shape, 2))
    return (values[..., 0] + 1j * values[..., 1]).astype(dtype) if np.dtype(dtype).kind == "c" else values[..., 0].astype(dtype)


def write_in_random_order(path: Path, tensor: np.ndarray, seed: int = 0) -> int:
    random = np.random.default_rng(seed)
    order = random.permutation(len(tensor))
    with TensorFileWriter(path, tensor.shape, tensor.dtype) as writer:
        first = 0
        while first < len(order):
            # Sorted chunks of a random order, in which only some images are consecutive.
            positions = np.sort(order[first : first + random.integers(1, 6)])
            writer.write(positions, np.ascontiguousarray(tensor[positions]))
            first += len(positions)
        return writer.finish()


@pytest.mark.parametrize("dtype", [np.complex64, np.complex128, np.float32])
@pytest.mark.parametrize("shape", [(1, 3, 4), (23, 5, 7), (64, 17, 32)])
def test_images_written_in_any_order_make_the_file_that_torch_writes(tmp_path: Path, shape: tuple[int, ...], dtype: Any) -> None:
    tensor = random_tensor(shape, dtype)
    path = tmp_path / "written.pt"
    crc = write_in_random_order(path, tensor)
    with (tmp_path / "saved.pt").open("wb") as file:
        torch.save(torch.from_numpy(tensor), file)
    assert path.stat().st_size == (tmp_path / "saved.pt").stat().st_size
    with zipfile.ZipFile(path) as written, zipfile.ZipFile(tmp_path / "saved.pt") as saved:
        assert written.namelist() == saved.namelist()
        for name in written.namelist():
            # torch's serialization ID is a hash of the members' checksums, computed before the data are written.
            if not name.endswith("/serialization_id"):
                assert written.read(name) == saved.read(name)
    assert crc == zlib.crc32(tensor.tobytes())


@pytest.mark.parametrize("dtype", [np.complex64, np.complex128, np.float32])
@pytest.mark.parametrize(
    "shape",
    [(1,), (2, 3), (1, 3, 4), (255, 1, 2), (256, 3, 65535), (70_000, 1, 5), (4095, 257, 512), (4096, 256, 512), (4300, 257, 512)],
)
def test_reserved_files_are_those_that_torch_reserves(tmp_path: Path, shape: tuple[int, ...], dtype: Any) -> None:
    """Equal to the last byte, even if sizes or offsets need 64-bit numbers. The data are holes that take no space."""
    with TensorFileWriter(tmp_path / "reserved.pt", shape, np.dtype(dtype)):
        pass
    with (tmp_path / "saved.pt").open("wb") as file, torch.serialization.skip_data():
        torch.save(torch.empty(shape, dtype=torch.from_numpy(np.empty(0, dtype)).dtype), file)
    _assert_same_but_for_holes(tmp_path)


def test_reserved_files_of_more_values_than_32_bits_count_are_those_that_torch_reserves(tmp_path: Path) -> None:
    with TensorFileWriter(tmp_path / "reserved.pt", (1 << 31, 1), np.dtype(np.float32)):
        pass
    with (tmp_path / "saved.pt").open("wb") as file, torch.serialization.skip_data():
        torch.save(torch.empty((1 << 31, 1)), file)
    _assert_same_but_for_holes(tmp_path)


def _assert_same_but_for_holes(tmp_path: Path) -> None:
    edge = 1 << 12
    for path in ("reserved.pt", "saved.pt"):
        assert (tmp_path / path).stat().st_blocks < 1 << 10
    with (tmp_path / "reserved.pt").open("rb") as reserved, (tmp_path / "saved.pt").open("rb") as saved:
        assert reserved.seek(0, os.SEEK_END) == saved.seek(0, os.SEEK_END)
        for start, whence in ((0, os.SEEK_SET), (-min(edge, reserved.tell()), os.SEEK_END)):
            reserved.seek(start, whence)
            saved.seek(start, whence)
            assert reserved.read(edge) == saved.read(edge)


@pytest.mark.parametrize("dtype", [np.complex64, np.float32])
def test_torch_and_zip_tools_accept_the_file(tmp_path: Path, dtype: Any) -> None:
    tensor = random_tensor((11, 6, 5), dtype)
    path = tmp_path / "stack.pt"
    write_in_random_order(path, tensor)
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
    for mmap in (False, True):
        loaded = torch.load(path, weights_only=True, mmap=mmap)
        assert loaded.is_contiguous()
        assert loaded.device.type == "cpu"
        assert loaded.untyped_storage().nbytes() == tensor.nbytes
        np.testing.assert_array_equal(loaded.numpy(), tensor)


def test_the_name_of_the_file_leaves_no_trace_in_it(tmp_path: Path) -> None:
    tensor = random_tensor((4, 3, 2), np.float32)
    for name in ("one.pt", "another name.partial"):
        write_in_random_order(tmp_path / name, tensor, seed=len(name))
    assert (tmp_path / "one.pt").read_bytes() == (tmp_path / "another name.partial").read_bytes()


def test_an_image_written_twice_counts_once(tmp_path: Path) -> None:
    tensor = random_tensor((5, 3, 2), np.float32)
    path = tmp_path / "stack.pt"
    with TensorFileWriter(path, tensor.shape, tensor.dtype) as writer:
        writer.write(np.arange(5), tensor[::-1].copy())
        writer.write(np.arange(5), tensor)
        writer.finish()
    np.testing.assert_array_equal(torch.load(path, weights_only=True).numpy(), tensor)
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None


def test_an_image_that_was_never_written_is_noticed(tmp_path: Path) -> None:
    tensor = random_tensor((5, 3, 2), np.float32)
    with TensorFileWriter(tmp_path / "stack.pt", tensor.shape, tensor.dtype) as writer:
        writer.write(np.array([0, 1, 3, 4]), tensor[[0, 1, 3, 4]])
        with pytest.raises(AssertionError, match="image 2 "):
            writer.finish()


def test_a_changed_byte_shows_in_the_checksum(tmp_path: Path) -> None:
    tensor = random_tensor((5, 30, 20), np.float32)
    path = tmp_path / "stack.pt"
    crc = write_in_random_order(path, tensor)
    layout = read_layout(path)
    assert (layout.crc, layout.data_bytes) == (crc, tensor.nbytes)
    assert checksum_of_data(path, layout, block_bytes=1000) == crc
    content = bytearray(path.read_bytes())
    assert content[layout.data_offset : layout.data_offset + layout.data_bytes] == tensor.tobytes()
    content[layout.data_offset + 777] ^= 16
    path.write_bytes(content)
    assert checksum_of_data(path, layout) != crc


@pytest.mark.parametrize("cut", [0, 10, 500, -1, -30])
def test_a_file_that_is_cut_off_has_no_layout(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "stack.pt"
    write_in_random_order(path, random_tensor((5, 30, 20), np.float32))
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises((zipfile.BadZipFile, KeyError, OSError)):
        read_layout(path)


def test_stacks_beyond_4_gib_have_64_bit_layouts(tmp_path: Path) -> None:
    if not hasattr(os, "posix_fallocate"):
        pytest.skip("this system may not make sparse files")
    path = tmp_path / "large.pt"
    n, shape = 5, (1 << 14, 1 << 14)  # 5 images of 1 GiB, none of which is written: the file is all holes
    with TensorFileWriter(path, (n, *shape), np.dtype(np.float32)) as writer:
        layout = writer.layout
        assert layout.data_bytes == n << 30
        last = np.arange(1 << 10, dtype=np.float32)
        # The last bytes of the last image, as `write` would place them.
        os.pwrite(writer._fd, last.tobytes(), layout.data_offset + (n << 30) - last.nbytes)
        crc_of_zeros = crc32(bytes(1 << 24))
        gib_of_zeros = combine_equal_lengths([crc_of_zeros] * 64, 1 << 24)
        ending = combine_equal_lengths([*[crc32(bytes(last.nbytes))] * ((1 << 18) - 1), crc32(last.tobytes())], last.nbytes)
        writer.crcs[:-1], writer.crcs[-1] = gib_of_zeros, ending
        writer.written[:] = True
        crc = writer.finish()
    assert os.stat(path).st_blocks * 512 < 1 << 24
    assert read_layout(path) == type(layout)(layout.data_offset, n << 30, crc, layout.crc_offsets)
    loaded = torch.load(path, weights_only=True, mmap=True)
    assert loaded.shape == (n, *shape)
    np.testing.assert_array_equal(loaded[-1, -1, -(1 << 10) :].numpy(), last)
    assert not loaded[2, 5].any()
    with zipfile.ZipFile(path) as archive:
        assert crc == archive.getinfo("archive/data/0").CRC


def damaged(whole: bytes, case: int, random: np.random.Generator) -> bytes:
    """Cut off, or with one bit changed."""
    if case % 4 == 0:
        return whole[: random.integers(len(whole))]
    content = bytearray(whole)
    content[random.integers(len(whole))] ^= 1 << random.integers(8)
    return bytes(content)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol:UserWarning")
def test_damaged_tensors_give_one_kind_of_error(tmp_path: Path) -> None:
    tensor = random_tensor((5, 4, 3), np.float32)
    path = tmp_path / "stack.pt"
    crc = write_in_random_order(path, tensor)
    whole, random, noticed = path.read_bytes(), np.random.default_rng(0), 0
    for case in range(400):
        path.write_bytes(damaged(whole, case, random))
        try:
            layout = read_layout(path)
            loaded = load_tensor(path)
        except (zipfile.BadZipFile, KeyError, InputError):
            noticed += 1
        else:
            same = loaded.shape == tensor.shape and np.array_equal(loaded.numpy(), tensor)
            assert same or checksum_of_data(path, layout) != crc or layout.crc != crc or tuple(loaded.shape) != tensor.shape
    assert noticed > 100


def test_damaged_metadata_give_one_kind_of_error(tmp_path: Path) -> None:
    values = {"defocusU": np.arange(5.0), "files": np.array(["a.mrc", "b.mrc"]), "n_images": np.int64(3)}
    path = tmp_path / "stack.npz"
    write_metadata(path, values)
    whole, random, noticed = path.read_bytes(), np.random.default_rng(0), 0
    for case in range(400):
        path.write_bytes(damaged(whole, case, random))
        try:
            loaded = read_metadata(path)
        except InputError as error:
            noticed += "stack.npz is damaged" in str(error)
        else:
            assert all(np.array_equal(loaded[key], value) for key, value in values.items() if key in loaded)
    assert noticed > 100


@pytest.mark.parametrize("dtype", [np.float32, np.complex64, np.complex128])
def test_mapped_images_are_those_that_torch_loads(tmp_path: Path, dtype: Any) -> None:
    tensor = random_tensor((7, 5, 3), dtype)
    with (tmp_path / "by_torch.pt").open("wb") as file:
        torch.save(torch.from_numpy(tensor), file)
    write_in_random_order(tmp_path / "ours.pt", tensor)
    for name in ("by_torch.pt", "ours.pt"):
        mapped = map_images(tmp_path / name, tensor.shape, tensor.dtype)
        assert mapped.dtype == tensor.dtype
        np.testing.assert_array_equal(mapped, torch.load(tmp_path / name, weights_only=True).numpy())


def test_images_of_another_size_or_of_a_damaged_file_are_not_mapped(tmp_path: Path) -> None:
    tensor = random_tensor((4, 3, 2), np.float32)
    path = tmp_path / "stack.pt"
    write_in_random_order(path, tensor)
    with pytest.raises(InputError, match="holds 96 bytes of images"):
        map_images(path, (5, 3, 2), tensor.dtype)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(InputError, match="is damaged"):
        map_images(path, tensor.shape, tensor.dtype)
    path.unlink()
    with pytest.raises(InputError, match="does not exist"):
        map_images(path, tensor.shape, tensor.dtype)
