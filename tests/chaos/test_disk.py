"""Output folders that fill up."""

from __future__ import annotations

import io
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cryolike_dask.errors import ConversionError, OutputError
from cryolike_dask.runs.verify import verify_output
from tests.support.chaos import At, Case, contents, make_case, n_visible, process, process_cluster, small_disk, until, watching

pytestmark = pytest.mark.chaos


@pytest.fixture(name="small_disk")
def _small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system in memory, of 32 MB."""
    folder = tmp_path / "disk"
    try:
        with small_disk(folder, 32 << 20):
            yield folder
    except PermissionError as error:
        pytest.skip(str(error))


def fill(folder: Path, leave: int) -> Path:
    """A file that leaves this many bytes free."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        with pytest.raises(OSError, match="No space left"):
            _write_for_ever(file)
        file.truncate(max(0, ballast.stat().st_size - leave))
    return ballast


def _write_for_ever(file: io.FileIO) -> None:
    while True:
        file.write(bytes(4096))


def assert_nothing_half_written(out: Path) -> None:
    for path in [path for path in out.rglob("*") if path.is_file() and "/." not in str(path.relative_to(out.parent))]:
        assert path.stat().st_size > 0
    # Every visible stack is correct; the only problem is that others are missing.
    assert [line for line in verify_output(out) if "missing" not in line and "the run is" not in line] == []


def test_a_disk_that_becomes_read_only_is_reported_and_the_run_continues(case: Case, small_disk: Path) -> None:
    out = small_disk / "out"

    def remount(mode: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{mode}", str(small_disk)], check=True)

    # In one thread, no file is open for writing between two stacks. Otherwise the system would refuse to make the disk read-only.
    with watching(out), pytest.raises(ConversionError, match="Read-only file system"):
        case.conversion(out).run_serially(At(5, lambda: remount("ro")))
    assert n_visible(out) == 5
    remount("rw")
    case.resume_and_check(out)


def test_a_demo_on_a_full_disk_says_so(small_disk: Path) -> None:
    fill(small_disk, leave=200_000)
    # In a process of its own, because writing to a mapped file on a full disk would end it.
    command = [sys.executable, "-m", "cryolike_dask", "demo", str(small_disk / "demo")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "demo/particles cannot be written: No space left on device. Make room" in ended.stderr


def test_lost_permission_is_reported_and_the_run_continues(case: Case, out: Path) -> None:
    command = case.command(out)
    if os.getuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("root may write everywhere, and setpriv, which would change that, is not installed")
        command = ["setpriv", "--bounding-set=-dac_override", *command]
    with watching(out), process(command) as run:
        until(lambda: n_visible(out) >= 5, "the fifth stack")
        (out / "fft").chmod(0o500)
        text = run.communicate(timeout=60)[0]
    assert run.returncode == 1, text
    assert "Permission denied" in text
    assert "Traceback" not in text
    assert 5 <= n_visible(out) < case.n_stacks
    (out / "fft").chmod(0o755)
    case.resume_and_check(out)


@pytest.mark.parametrize("leave", [0, 4096, 20_000])
def test_a_full_disk_is_reported_and_the_run_continues_when_there_is_space(case: Case, small_disk: Path, leave: int) -> None:
    out = small_disk / "out"
    with process_cluster() as (_, client):
        with watching(out), pytest.raises(ConversionError, match=r"No space left on device.*Free some space"):
            case.conversion(out).run(client, At(9, lambda: fill(small_disk, leave)))
        assert_nothing_half_written(out)
        assert 9 <= n_visible(out) < case.n_stacks
        (small_disk / "ballast").unlink()
        with watching(out):
            report = case.conversion(out, skip_exist=True).run(client)
    assert report.n_kept >= 9
    case.check(out)


def test_a_disk_that_is_too_small_is_refused_before_anything_is_written_or_removed(case: Case, small_disk: Path) -> None:
    out = small_disk / "out"
    case.conversion(out, n_stacks_max=2).run()
    before = contents(out)
    fill(small_disk, 65_536)
    for options in ({}, {"overwrite": True}, {"skip_exist": True}):
        folder = out if options else small_disk / "another"
        with pytest.raises(OutputError, match=r"free, but the stacks need"):
            case.conversion(folder, **options).run()
    assert contents(out) == before
    assert contents(small_disk / "another") == {}


def test_a_store_on_another_disk_that_is_too_small_is_refused(case: Case, small_disk: Path, out: Path) -> None:
    options = {"output_format": "zarr", "zarr_store": str(small_disk / "new" / "particles.zarr")}
    fill(small_disk, 65_536)
    with pytest.raises(OutputError, match=rf"{small_disk}/new/particles.zarr has .* free, but the stacks need"):
        case.conversion(out, **options).run()
    assert sorted(path.name for path in small_disk.iterdir()) == ["ballast"]
    (small_disk / "ballast").unlink()
    case.conversion(out, **options).run()
    assert verify_output(out, zarr_store=options["zarr_store"]) == []


def test_a_limit_on_file_sizes_is_reported_and_leaves_nothing_half_written(
    tmp_path_factory: pytest.TempPathFactory, out: Path
) -> None:
    case = make_case(tmp_path_factory.mktemp("large"), n_images=150, batch_size=75)
    # Smaller than a stack's Fourier images, larger than all other files.
    size = max(path.stat().st_size for path in case.data.star_file.parent.parent.glob("undisturbed/fft/*.pt"))

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size - 1000, resource.RLIM_INFINITY))

    with watching(out), process(case.command(out), preexec_fn=limit) as run:
        text = run.communicate()[0]
    assert run.returncode == 1, text
    assert "File too large" in text
    assert "Free some space" in text
    assert "Traceback" not in text
    assert not list(out.rglob("*.pt"))
    case.resume_and_check(out)
