"""Restacking, compared with a new conversion."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from cryolike_dask.cli.main import main
from cryolike_dask.errors import InputError
from cryolike_dask.execution.restacking import restack
from cryolike_dask.progress import NoProgress
from cryolike_dask.runs.verify import verify_output
from cryolike_dask.stacks.particle_store import open_store
from tests.support.clusters import conversion, make_particles, stacks


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return make_particles(tmp_path_factory.mktemp("particles"), n_images=42)


@pytest.fixture(scope="module")
def made(data: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Conversions of the particles: `pt` and `zarr` of 8 images per stack, `pt5` of 5."""
    folder = tmp_path_factory.mktemp("made")
    conversion(data, folder / "pt", batch_size=8).run_serially()
    conversion(data, folder / "pt5", batch_size=5).run_serially()
    conversion(data, folder / "zarr", batch_size=8, output_format="zarr").run_serially()
    return folder


def assert_same_stacks(out: Path, wanted: Path) -> None:
    ours, theirs = stacks(out), stacks(wanted)
    assert set(ours) == set(theirs)
    for name, content in theirs.items():
        if not name.endswith(".npz") or "params" in name:
            assert ours[name] == content, name
            continue
        assert set(ours[name]) == set(content)
        for key, (dtype, shape, values) in content.items():
            if key in ("power", "power_spectrum"):  # added up in another order
                assert ours[name][key][:2] == (dtype, shape)
                ours_power, power = (np.frombuffer(values, dtype) for values in (ours[name][key][2], values))
                np.testing.assert_allclose(ours_power, power, rtol=1e-5)
            else:
                assert ours[name][key] == (dtype, shape, values), (name, key)


@pytest.mark.parametrize("source", ["pt", "zarr", "zarr/particles.zarr"])
def test_restacking_gives_the_result_of_a_new_conversion(made: Path, tmp_path: Path, source: str) -> None:
    report = restack(made / source, tmp_path / "out", batch_size=5)
    assert report.n_images == 42
    assert len(report.stacks) == 9
    assert_same_stacks(tmp_path / "out", made / "pt5")
    assert verify_output(tmp_path / "out", deep=True) == []
    ours, theirs = ((folder / "particles.star").read_text().splitlines() for folder in (tmp_path / "out", made / "pt5"))
    assert [line for line in ours if line[:1] != "#"] == [line for line in theirs if line[:1] != "#"]


def test_pt_to_zarr_and_back(made: Path, tmp_path: Path) -> None:
    restack(made / "pt", tmp_path / "store", output_format="zarr", batch_size=16)
    assert verify_output(tmp_path / "store") == []
    np.testing.assert_array_equal(open_store(tmp_path / "store").fourier.compute(), open_store(made / "zarr").fourier.compute())
    restack(tmp_path / "store", tmp_path / "back", batch_size=8)
    assert_same_stacks(tmp_path / "back", made / "pt")


def test_files_that_were_never_combined_stay_apart(data: Any, tmp_path: Path) -> None:
    conversion(data, tmp_path / "in", batch_size=8, never_combine_input_files=True).run_serially()
    conversion(data, tmp_path / "wanted", batch_size=5, never_combine_input_files=True).run_serially()
    restack(tmp_path / "in", tmp_path / "out", batch_size=5)
    assert_same_stacks(tmp_path / "out", tmp_path / "wanted")


def test_image_files_are_not_needed(tmp_path: Path) -> None:
    particles = make_particles(tmp_path / "particles", n_images=10)
    conversion(particles, tmp_path / "in").run_serially()
    for file in particles.folder_mrc.iterdir():
        file.unlink()
    assert restack(tmp_path / "in", tmp_path / "out", batch_size=7, save_phys=False).n_images == 10
    assert not (tmp_path / "out" / "phys").exists()


def test_an_interrupted_restack_continues(made: Path, tmp_path: Path) -> None:
    class StopError(Exception):
        pass

    class StopAfterThree(NoProgress):
        """Progress that fails."""

        def start(self, n_stacks: int, n_images: int) -> None:
            """See `Progress`."""

        def stack_done(self, stack: Any) -> None:
            if stack.counter == 2:
                raise StopError

        def finish(self, error: BaseException | None) -> None:
            """See `Progress`."""

    with pytest.raises(StopError):
        restack(made / "pt", tmp_path / "out", batch_size=5, progress=StopAfterThree())
    assert restack(made / "pt", tmp_path / "out", batch_size=5, skip_exist=True).n_kept == 3
    assert_same_stacks(tmp_path / "out", made / "pt5")


def test_impossible_restacking_is_refused(data: Any, made: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the source itself"):
        restack(made / "pt", made / "pt")
    with pytest.raises(InputError, match="holds no conversion"):
        restack(tmp_path, tmp_path / "out")
    conversion(data, tmp_path / "no-phys", save_phys=False).run_serially()
    with pytest.raises(InputError, match="no images in real space"):
        restack(tmp_path / "no-phys", tmp_path / "out", save_phys=True)
    manifest = tmp_path / "no-phys" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"status": "complete"', '"status": "incomplete"'))
    with pytest.raises(InputError, match="finish it first"):
        restack(tmp_path / "no-phys", tmp_path / "out")


def test_the_command(made: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["restack", str(made / "pt"), str(tmp_path / "out"), "--batch-size", "5", "--format", "zarr"])
    assert result.exit_code == 0, result.output
    assert "42 images in 9 stacks" in result.output
    assert len(open_store(tmp_path / "out")) == 42


def test_a_batch_size_of_0_is_refused(made: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"batch_size.* is 0"):
        restack(made / "pt", tmp_path / "out", batch_size=0)
    assert not (tmp_path / "out").exists()


def test_a_complete_run_whose_metadata_were_lost_is_to_be_continued(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "pt", tmp_path / "pt")
    lost = tmp_path / "pt" / "fft" / "particles_fourier_stack_000002.npz"
    lost.unlink()
    with pytest.raises(InputError, match=rf"{lost} does not exist, although its stack should be complete\. .*--skip-exist"):
        restack(tmp_path / "pt", tmp_path / "out", batch_size=5)
