"""The Slurm files with a real Slurm. `tests/deploy/slurm.sh` starts one with a single node, and runs these tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.support.clusters import conversion, make_particles, stacks

ROOT = Path(__file__).resolve().parents[2]
SLURM = ROOT / "deploy" / "slurm"


def _missing() -> str:
    """Why these tests cannot run here; '' if they can."""
    if shutil.which("sbatch") is None:
        return "Slurm is not installed: tests/deploy/slurm.sh"
    if subprocess.run(["scontrol", "ping"], capture_output=True, check=False).returncode:
        return "no Slurm controller answers: tests/deploy/slurm.sh"
    return ""


_why = _missing()
pytestmark = [pytest.mark.slurm, pytest.mark.skipif(bool(_why), reason=_why), pytest.mark.timeout(240)]


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs find the `dask` and `cryolike-dask` of the Python that runs the tests, because Slurm passes on the environment."""
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.usefixtures("programs")
def test_the_batch_file_writes_what_a_serial_conversion_writes(tmp_path: Path) -> None:
    data = make_particles(tmp_path / "particles")
    options = ["--params", data.params_file, "--mrc-folder", data.folder_mrc, "--batch-size", "4", "--no-plots"]
    job = subprocess.run(
        ["sbatch", "--wait", SLURM / "cryolike.sbatch", "star", data.star_file, *options, "--out", tmp_path / "out"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    log = "".join(path.read_text() for path in tmp_path.glob("cryolike-*.log"))
    assert job.returncode == 0, job.stderr + log
    conversion(data, tmp_path / "serial").run_serially()
    assert stacks(tmp_path / "out") == stacks(tmp_path / "serial")
    assert not list(tmp_path.glob(".cryolike-*.json"))


@pytest.mark.usefixtures("programs")
def test_jobs_of_dask_jobqueue_write_what_a_serial_conversion_writes(tmp_path: Path) -> None:
    import dask
    import dask_jobqueue  # adds to the configuration of Dask

    options = yaml.safe_load((SLURM / "jobqueue.yaml").read_text())["jobqueue"]["slurm"]
    # As the file says for nodes without GPUs.
    del options["worker-command"]
    arguments = options["worker-extra-args"]
    at = arguments.index("--resources")
    options |= {
        "worker-extra-args": arguments[:at] + arguments[at + 2 :],
        "job-extra-directives": [],
        "cores": 2,
        "processes": 2,
        "memory": "1GiB",
        "interface": "lo",
        "local-directory": str(tmp_path / "scratch"),
        "log-directory": str(tmp_path / "logs"),
    }
    data = make_particles(tmp_path / "particles")
    with (
        dask.config.set({"jobqueue.slurm": dask.config.get("jobqueue.slurm") | options}),
        dask_jobqueue.SLURMCluster() as cluster,
    ):
        cluster.scale(jobs=1)
        report = conversion(data, tmp_path / "out").run(cluster)
    assert report.n_images == 40
    conversion(data, tmp_path / "serial").run_serially()
    assert stacks(tmp_path / "out") == stacks(tmp_path / "serial")
