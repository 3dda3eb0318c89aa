"""A conversion on CPUs does not load torch, which takes a second and 160 MB in every process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cryolike_dask.demo.particles import DemoData
from cryolike_dask.stacks.loading import load_stack
from cryolike_dask.transform import device
from tests.support.chaos import COMMAND_LINE, ROOT
from tests.support.clusters import make_particles

CONVERT = """
import json, sys
from distributed import Client
from cryolike_dask import Conversion, particles_from_star
from cryolike_dask.execution.cluster import local_cluster

def loaded():
    return "torch" in sys.modules

if __name__ == "__main__":
    star, mrc, params, out, form = sys.argv[1:]
    particles = particles_from_star(star, mrc)
    made = [Conversion(particles, params, folder_output=f"{out}{n}", batch_size=8, output_format=form, device="cpu") for n in (1, 2)]
    made[0].run()
    in_process = loaded()
    with local_cluster("cpu", n_workers=1, threads_per_worker=1) as cluster, Client(cluster) as client:
        made[1].run(client)
        print(json.dumps([in_process, *client.run(loaded).values(), client.run_on_scheduler(loaded)]))
"""


FORKED = """
import os, sys
import dask
from distributed import Client
from cryolike_dask.execution.cluster import local_cluster
from cryolike_dask.execution.fork_server import start_fork_server

def state():
    variables = [os.environ.get(name) for name in ("OMP_NUM_THREADS", "OF_THE_PARENT", "OF_WORKERS", "PYTHONPATH")]
    return os.getppid(), "numba" in sys.modules, *variables

if __name__ == "__main__":
    start_fork_server()
    assert "OMP_NUM_THREADS" not in os.environ
    for attempt in "12":
        os.environ["OF_THE_PARENT"] = attempt
        with local_cluster("cpu", n_workers=2, env={"OF_WORKERS": "set"}) as cluster, Client(cluster) as client:
            states = set(client.run(state).values())
            ((server, warm, *variables),) = states
            assert warm and variables == ["1", attempt, "set", os.environ["PYTHONPATH"]], states
            assert server != os.getpid()
        assert dask.config.get("distributed.worker.multiprocessing-method") == "spawn"
    with dask.config.set({"distributed.worker.multiprocessing-method": "fork"}):
        with local_cluster("cpu", n_workers=1) as cluster, Client(cluster) as client:
            assert client.run(os.getppid) == {next(iter(client.scheduler_info()["workers"])): os.getpid()}
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="workers are forked from a server on Linux only")
def test_workers_of_a_local_cluster_are_forked_from_one_warm_process(tmp_path: Path) -> None:
    script = tmp_path / "forked.py"
    script.write_text(FORKED)
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"} | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


UNUSED = """
import sys
from cryolike_dask import Conversion, particles_from_star

star, mrc, params, out, _ = sys.argv[1:]
conversion = Conversion(particles_from_star(star, mrc), params, folder_output=out, batch_size=8, flag_plots=False, device="cpu")
print(sorted({"numba", "scipy", "torch", "dask", "distributed", "matplotlib"} & set(sys.modules)))
conversion.run()
print(sorted({"torch", "dask", "distributed", "matplotlib", "zarr"} & set(sys.modules)))
"""


def test_planning_loads_no_compiler_and_a_run_in_process_loads_no_dask(tmp_path: Path) -> None:
    script = tmp_path / "plan.py"
    script.write_text(UNUSED)
    done = _run(script, make_particles(tmp_path / "particles", n_images=4), tmp_path / "out", "pt")
    assert done.stdout.splitlines() == ["[]", "[]"], done.stderr


@pytest.mark.parametrize("form", ["pt", "zarr"])
def test_no_process_of_a_conversion_on_cpus_loads_torch(tmp_path: Path, form: str) -> None:
    data = make_particles(tmp_path / "particles", n_images=20)
    script = tmp_path / "convert.py"
    script.write_text(CONVERT)
    done = _run(script, data, tmp_path / "out", form)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [False, False, False]
    for folder in ("out1", "out2"):
        assert len(list((tmp_path / folder / "plots").glob("*.png"))) == 9
        assert load_stack(tmp_path / folder, 2).fourier.shape[0] == 4


def _run(script: Path, data: DemoData, out: Path, form: str) -> subprocess.CompletedProcess[str]:
    files = [str(data.star_file), str(data.folder_mrc), str(data.params_file), str(out), form]
    return subprocess.run(
        [sys.executable, str(script), *files],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(("drivers", "asks"), [((), False), (("/proc",), True)])
def test_torch_is_asked_for_gpus_only_if_there_is_a_driver(
    monkeypatch: pytest.MonkeyPatch, drivers: tuple[str, ...], asks: bool
) -> None:
    asked = []
    monkeypatch.setattr(device, "_DRIVERS", drivers)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(asked.append(1)))
    device.may_have_gpu.cache_clear()
    try:
        assert device.resolve_device("auto") == "cpu"
        assert bool(asked) == asks
    finally:
        device.may_have_gpu.cache_clear()


@pytest.mark.parametrize("workers", [[], ["--workers", "1"]], ids=["in process", "on a cluster"])
def test_the_first_run_says_that_it_compiles_and_the_next_one_need_not(tmp_path: Path, workers: list[str]) -> None:
    data = make_particles(tmp_path / "particles", n_images=4)
    arguments = ["convert", "star", str(data.star_file), "--mrc-folder", str(data.folder_mrc), "--params", str(data.params_file)]

    def told(out: str) -> str:
        command = [*COMMAND_LINE, *arguments, "--out", str(tmp_path / out), "--no-plots", "--device", "cpu", *workers]
        environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "compiled")}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    assert "Compiling for about 10 s, in the first run on this machine only" in told("first")
    assert "ompiling" not in told("second")
