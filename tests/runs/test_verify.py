"""`verify` finds all problems of an output folder, and none in a correct one."""

from __future__ import annotations

import os
import shutil
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from cryolike_dask.cli.main import main
from cryolike_dask.conversion import Conversion
from cryolike_dask.demo.particles import DemoData, write_demo_particles
from cryolike_dask.errors import InputError
from cryolike_dask.particles.star.particles import particles_from_star
from cryolike_dask.runs.verify import verify_output
from tests.support.manifests import edit_manifest, record_size

FOURIER, PHYSICAL = "fft/particles_fourier_stack_000001.pt", "phys/particles_phys_stack_000001.pt"
METADATA = "fft/particles_fourier_stack_000001.npz"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DemoData:
    return write_demo_particles(tmp_path_factory.mktemp("particles"), n_images=12, box=16, pixel_size=3.0, n_files=2, seed=1)


@pytest.fixture(scope="module")
def made(data: DemoData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "out"
    particles = particles_from_star(str(data.star_file), str(data.folder_mrc))
    Conversion(particles, data.params_file, folder_output=folder, batch_size=4, flag_plots=False).run()
    return folder


@pytest.fixture
def out(made: Path, tmp_path: Path) -> Path:
    """A copy of the output that a test may damage."""
    shutil.copytree(made, tmp_path / "out")
    return tmp_path / "out"


def rewrite_metadata(path: Path, **changes: object) -> None:
    with np.load(path) as archive:
        values = dict(archive) | changes
    np.savez(path, **{key: value for key, value in values.items() if value is not None})
    record_size(path.parents[1], int(path.stem[-6:]))


def replace_data(path: Path, change: bytes, at: int) -> None:
    """Change the bytes of a tensor, and adjust all checksums, so that only the values are wrong."""
    with zipfile.ZipFile(path) as archive:
        entry = archive.getinfo("archive/data/0")
    content = bytearray(path.read_bytes())
    name, extra = struct.unpack_from("<HH", content, entry.header_offset + 26)
    start = entry.header_offset + 30 + name + extra
    content[start + at : start + at + len(change)] = change
    crc = zlib.crc32(content[start : start + entry.file_size])
    old = struct.pack("<I", entry.CRC)
    for place in (content.index(old, start + entry.file_size), content.rindex(old)):
        content[place : place + 4] = struct.pack("<I", crc)
    path.write_bytes(content)
    kind = "fourier" if "fourier" in path.name else "phys"
    rewrite_metadata(path.parents[1] / METADATA, **{f"{kind}_crc32": np.int64(crc)})
    edit_manifest(path.parents[1], lambda manifest: manifest["stacks"][1].update({f"{kind}_crc32": crc}))


def test_nothing_is_wrong_with_a_fresh_conversion(out: Path) -> None:
    assert verify_output(out) == []
    assert verify_output(out, deep=True) == []


def test_a_folder_without_a_conversion_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no conversion"):
        verify_output(tmp_path)


def test_the_command_exits_with_1_and_a_list(out: Path) -> None:
    assert CliRunner().invoke(main, ["verify", str(out), "--deep"]).exit_code == 0
    (out / FOURIER).unlink()
    result = CliRunner().invoke(main, ["verify", str(out)])
    assert result.exit_code == 1
    assert f"{out / FOURIER} is missing" in result.stderr


@pytest.mark.parametrize("name", [FOURIER, PHYSICAL])
def test_one_wrong_bit_is_found(out: Path, name: str) -> None:
    with (out / name).open("r+b") as file:
        file.seek((out / name).stat().st_size // 2)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 4]))
    (problem,) = verify_output(out)
    assert str(out / name) in problem
    assert "checksum does not fit" in problem


@pytest.mark.parametrize("name", [FOURIER, PHYSICAL, METADATA])
def test_a_file_cut_off_is_found(out: Path, name: str) -> None:
    os.truncate(out / name, (out / name).stat().st_size - 100)
    assert any(name in problem and "damaged" in problem for problem in verify_output(out))


def test_a_missing_stack_and_one_too_many_are_found(out: Path) -> None:
    shutil.copy(out / METADATA, out / "fft" / "particles_fourier_stack_000007.npz")
    (out / METADATA).unlink()
    problems = "\n".join(verify_output(out))
    assert "1 stack is missing, the first is 000001" in problems
    assert "stack 000007 does not belong to this run" in problems
    assert f"{out / FOURIER} belongs to no complete stack" in problems


def test_an_incomplete_run_is_reported(out: Path) -> None:
    edit_manifest(out, lambda manifest: manifest.update(status="incomplete"))
    assert verify_output(out) == ["the run is incomplete: 3 of 3 stacks are there (--skip-exist continues it)"]


def test_a_missing_manifest_is_reported(out: Path) -> None:
    (out / "manifest.json").unlink()
    assert verify_output(out) == [f"{out / 'manifest.json'} is missing (--overwrite makes everything again)"]


def test_a_stack_of_another_run_is_found(out: Path) -> None:
    rewrite_metadata(out / METADATA, fingerprint=np.str_("other"))
    assert verify_output(out) == ["stack 000001 was made by another run (--skip-exist makes it again)"]


def test_columns_that_do_not_fit_are_found(out: Path) -> None:
    rewrite_metadata(out / METADATA, defocusU=np.zeros(3), defocusV=np.full(4, np.nan), idxs=None)
    problems = "\n".join(verify_output(out))
    assert "defocusU has shape (3,), not (4,)" in problems
    assert "defocusV has values that are not finite" in problems


def test_a_tensor_of_another_shape_is_found(out: Path) -> None:
    other = out / "fft" / "particles_fourier_stack_000000.pt"
    images = torch.load(other, weights_only=True)[:2].clone()
    with other.open("wb") as file:
        torch.save(images, file)
    assert any("stack_000000.pt" in problem for problem in verify_output(out))


def test_an_image_that_is_not_normalised_is_found(out: Path) -> None:
    replace_data(out / FOURIER, struct.pack("<f", 7.0), at=0)
    (problem,) = verify_output(out)
    assert "image 0 has norm" in problem


@pytest.mark.parametrize("name", [FOURIER, PHYSICAL])
def test_an_image_that_is_not_finite_is_found(out: Path, name: str) -> None:
    replace_data(out / name, struct.pack("<f", float("nan")), at=4 * 16 * 16)
    (problem,) = verify_output(out)
    assert "stack 000001" in problem


def test_an_image_of_zeros_is_a_fault_unless_it_was_asked_for(out: Path) -> None:
    images = torch.load(out / FOURIER, weights_only=True)
    replace_data(out / FOURIER, bytes(images[0].numel() * 8), at=0)
    (problem,) = verify_output(out)
    assert "image 0 is all zero" in problem
    times = (out / FOURIER).stat()
    rewrite_metadata(out / METADATA, zeroed=np.array([0]))
    os.utime(out / METADATA, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert verify_output(out) == []
    (problem,) = verify_output(out, deep=True)
    assert "is all zero, but its source image is not bad" in problem
    rewrite_metadata(out / METADATA, zeroed=np.array([0, 2]))
    (problem,) = verify_output(out)
    assert "image 2 has norm 1, but its metadata say that it is all zero" in problem


def test_deep_verification_notices_images_that_are_in_the_wrong_place(out: Path) -> None:
    images = torch.load(out / FOURIER, weights_only=True)
    replace_data(out / FOURIER, images.flip(0).numpy().tobytes(), at=0)
    assert verify_output(out) == []
    problems = verify_output(out, deep=True)
    assert len(problems) == 4
    assert all("differs from its source image" in problem for problem in problems)


def test_deep_verification_notices_sources_that_are_gone(out: Path, data: DemoData, tmp_path: Path) -> None:
    hidden = tmp_path / "mrc"
    data.folder_mrc.rename(hidden)
    try:
        assert any("source cannot be read" in problem for problem in verify_output(out, deep=True))
    finally:
        hidden.rename(data.folder_mrc)
