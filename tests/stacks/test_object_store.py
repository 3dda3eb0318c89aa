"""Zarr stores in an object store: a server on loopback that speaks S3."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from cryolike_dask.cli.main import main
from cryolike_dask.errors import InputError, OutputError
from cryolike_dask.execution.restacking import restack
from cryolike_dask.progress import NoProgress
from cryolike_dask.runs.verify import verify_output
from cryolike_dask.stacks.loading import load_stack
from cryolike_dask.stacks.particle_store import open_store
from tests.support.chaos import COMMAND_LINE, ROOT, process_cluster
from tests.support.clusters import conversion, make_particles
from tests.support.s3 import LOOSE_CONNECTIONS

pytestmark = [*LOOSE_CONNECTIONS, pytest.mark.usefixtures("no_connection_is_left")]

N, BATCH = 32, 4


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return make_particles(tmp_path_factory.mktemp("particles"), n_images=N)


@pytest.fixture(scope="module")
def serial(data: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("serial") / "out"
    conversion(data, out, batch_size=BATCH).run_serially()
    return out


def _all(out: Path, what: str) -> Any:
    return np.concatenate([getattr(load_stack(out, counter), what).numpy() for counter in range(N // BATCH)])


def test_a_store_in_s3_holds_the_numbers_of_the_pt_files(data: Any, serial: Path, bucket: str, tmp_path: Path) -> None:
    location = f"{bucket}/one.zarr"
    report = conversion(data, tmp_path, batch_size=BATCH, output_format="zarr", zarr_store=location).run()
    assert report.store == location
    store = open_store(location)
    assert store.complete
    np.testing.assert_array_equal(store.fourier.compute(), _all(serial, "fourier"))
    np.testing.assert_array_equal(store.physical.compute(), _all(serial, "physical"))
    assert verify_output(tmp_path, zarr_store=location) == []
    with pytest.raises(OutputError, match="holds a conversion already"):
        conversion(data, tmp_path / "other", batch_size=BATCH, output_format="zarr", zarr_store=location).run()


def test_a_run_over_s3_survives_a_killed_worker(data: Any, serial: Path, bucket: str, tmp_path: Path) -> None:
    location = f"{bucket}/killed.zarr"
    killed: list[int] = []
    with process_cluster(2) as (_, client):

        class Kill(NoProgress):
            """Progress that kills a worker."""

            def start(self, n_stacks: int, n_images: int) -> None:
                """See `Progress`."""

            def stack_done(self, stack: Any) -> None:
                if stack.counter == 2:
                    killed.append(next(iter(client.run(os.getpid).values())))
                    os.kill(killed[0], signal.SIGKILL)

            def finish(self, error: BaseException | None) -> None:
                """See `Progress`."""

        report = conversion(data, tmp_path, batch_size=BATCH, output_format="zarr", zarr_store=location).run(client, Kill())
    assert killed
    assert report.n_images == N
    assert verify_output(tmp_path, zarr_store=location) == []
    store = open_store(location)
    assert store.complete
    np.testing.assert_array_equal(store.fourier.compute(), _all(serial, "fourier"))
    np.testing.assert_array_equal(store.physical.compute(), _all(serial, "physical"))


def test_s3_to_pt(data: Any, serial: Path, bucket: str, tmp_path: Path) -> None:
    location = f"{bucket}/back.zarr"
    conversion(data, tmp_path / "in", batch_size=20, output_format="zarr", zarr_store=location, flag_plots=True).run()
    assert len(list((tmp_path / "in" / "plots").glob("*.png"))) == 6
    restack(location, tmp_path / "out", batch_size=BATCH)
    np.testing.assert_array_equal(_all(tmp_path / "out", "fourier"), _all(serial, "fourier"))
    np.testing.assert_array_equal(_all(tmp_path / "out", "physical"), _all(serial, "physical"))


def test_an_interrupted_run_over_s3_continues(data: Any, serial: Path, bucket: str, tmp_path: Path) -> None:
    location = f"{bucket}/interrupted.zarr"
    options: dict[str, Any] = {"batch_size": BATCH, "output_format": "zarr", "zarr_store": location}
    conversion(data, tmp_path, n_stacks_max=3, **options).run()
    assert len(open_store(location)) == 3 * BATCH
    assert conversion(data, tmp_path, skip_exist=True, **options).run().n_kept == 3
    np.testing.assert_array_equal(open_store(location).fourier.compute(), _all(serial, "fourier"))


def test_an_address_that_nothing_knows_is_refused(data: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not an address at which a Zarr store can be"):
        conversion(data, tmp_path, output_format="zarr", zarr_store="nosuch://bucket/store").run()


@pytest.mark.parametrize("what_is_wrong", ["nobody answers", "no credentials"])
def test_an_unreachable_store_is_reported_and_the_folder_not_locked(data: Any, tmp_path: Path, what_is_wrong: str) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    environment |= {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_MAX_ATTEMPTS": "1", "AWS_EC2_METADATA_DISABLED": "true"}
    environment |= {"HOME": str(tmp_path)}
    if what_is_wrong == "nobody answers":
        environment |= {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
    options = ["--params", data.params_file, "--mrc-folder", data.folder_mrc, "--out", tmp_path / "out", "--no-plots", "--quiet"]
    command = ["convert", "star", data.star_file, *options, "--format", "zarr", "--zarr-store", "s3://bucket/particles.zarr"]
    result = subprocess.run(
        [*COMMAND_LINE, *map(str, command)], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert result.returncode == 2, result.stderr
    wanted = "EndpointConnectionError" if what_is_wrong == "nobody answers" else "NoCredentialsError"
    assert f"s3://bucket/particles.zarr cannot be reached ({wanted}: " in result.stderr
    assert "Traceback" not in result.stderr
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


def test_a_store_that_cannot_be_read_is_wrong_input(tmp_path: Path) -> None:
    location = "http://127.0.0.1:9/particles.zarr"
    result = CliRunner().invoke(main, ["restack", location, str(tmp_path / "out")])
    assert result.exit_code == 2
    assert re.search(rf"{location} cannot be read \(.*\)\. Check the address, and whether you may read it\.", result.stderr)
    assert not (tmp_path / "out").exists()
