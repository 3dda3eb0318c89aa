"""Every byte of an archive is checked: archives of torch and numpy are accepted, and no others."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from cryolike_dask.errors import InputError
from cryolike_dask.stacks.archive import check_archive, member_bytes, read_members
from cryolike_dask.stacks.complete import check_tensor_file
from cryolike_dask.stacks.files import write_metadata
from cryolike_dask.stacks.tensor_file import TensorFileWriter

REFERENCE = Path(__file__).parents[1] / "reference"
WRITTEN_BY_OTHER_TORCH = sorted((REFERENCE / "torch_files").glob("*.pt"))
WRITTEN_BY_OTHER_PYTHON = sorted((REFERENCE / "npz_files").glob("*.npz"))


def is_accepted(content: bytes) -> bool:
    try:
        for member in read_members(file := io.BytesIO(content)):
            member_bytes(file, member)
    except zipfile.BadZipFile:
        return False
    return True


def archives(folder: Path) -> dict[str, bytes]:
    with TensorFileWriter(folder / "ours.pt", (2, 3, 4), np.dtype(np.complex64)) as writer:
        writer.write(np.arange(2), np.ones((2, 3, 4), np.complex64))
        writer.finish()
    with (folder / "torch.pt").open("wb") as file:
        torch.save(torch.ones(2, 3, 4), file)
    write_metadata(folder / "metadata.npz", {"a": np.arange(3), "b": np.str_("text"), "c": np.empty(0)})
    found = {path.name: path.read_bytes() for path in folder.iterdir()}
    return found | {path.name: path.read_bytes() for path in WRITTEN_BY_OTHER_TORCH + WRITTEN_BY_OTHER_PYTHON}


def test_what_torch_and_numpy_write_is_accepted(tmp_path: Path) -> None:
    found = archives(tmp_path)
    assert len(found) >= 6
    assert {name for name, content in found.items() if not is_accepted(content)} == set()


def test_every_flipped_bit_is_noticed(tmp_path: Path) -> None:
    for name, content in archives(tmp_path).items():
        for position in range(len(content)):
            flipped = bytearray(content)
            flipped[position] ^= 1 << position % 8
            assert not is_accepted(bytes(flipped)), (name, position)


@pytest.mark.parametrize("change", ["before", "behind", "a second end", "cut off", "nothing"])
def test_no_byte_more_or_less_is_accepted(tmp_path: Path, change: str) -> None:
    for name, content in archives(tmp_path).items():
        changed = {
            "before": b"\0" + content,
            "behind": content + b"\0",
            "a second end": content + content[-22:],
            "cut off": content[:-1],
            "nothing": b"",
        }[change]
        assert not is_accepted(changed), name


def test_a_compressed_archive_is_not_accepted(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", a=np.zeros(1000))
    with pytest.raises(InputError, match="compressed"):
        check_archive(tmp_path / "a.npz", "metadata")


@pytest.mark.parametrize("path", WRITTEN_BY_OTHER_TORCH, ids=lambda path: path.name)
def test_files_of_the_oldest_torch_are_whole(path: Path) -> None:
    dtype = np.dtype(path.stem.rpartition("-")[2])
    real = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    expected = (real + 1j * (real + 0.5)).astype(dtype)
    with zipfile.ZipFile(path) as archive:
        crc = archive.getinfo("archive/data/0").CRC
    tensor = check_tensor_file(path, (2, 3, 4), dtype, crc, read_data=True)
    np.testing.assert_array_equal(tensor.numpy(), expected)
    for shape, other in (((2, 4, 3), dtype), ((2, 3, 4), np.dtype(np.float32))):
        with pytest.raises(InputError, match="its metadata say"):
            check_tensor_file(path, shape, other, crc, read_data=False)
    with pytest.raises(InputError, match="another checksum"):
        check_tensor_file(path, (2, 3, 4), dtype, crc ^ 1, read_data=False)


def test_a_part_of_a_tensor_is_not_accepted(tmp_path: Path) -> None:
    with (tmp_path / "part.pt").open("wb") as file:
        torch.save(torch.ones(4, 3, 4)[1:3], file)
    with zipfile.ZipFile(tmp_path / "part.pt") as archive:
        crc = archive.getinfo("archive/data/0").CRC
    with pytest.raises(InputError, match="a part of a tensor"):
        check_tensor_file(tmp_path / "part.pt", (2, 3, 4), np.dtype(np.float32), crc, read_data=True)
