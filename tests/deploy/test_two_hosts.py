"""Two hosts with TLS between them and a shared folder, made from network namespaces or two loopback addresses."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from cryolike_dask.runs.verify import verify_output
from tests.support.chaos import COMMAND_LINE, ROOT, until
from tests.support.clusters import conversion, make_particles, stacks

TLS = ROOT / "deploy" / "tls"


@dataclass(frozen=True)
class Hosts:
    """Two hosts: the prefixes of commands to run on each, and their addresses."""

    first: tuple[str, ...]
    second: tuple[str, ...]
    first_address: str
    second_address: str


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@pytest.fixture(scope="module")
def hosts() -> Iterator[Hosts]:
    names = tuple(f"cryolike-{os.getpid()}-{which}" for which in "ab")
    made = []
    try:
        try:
            for name in names:
                _ip("netns", "add", name)
                made.append(name)
            _ip("link", "add", "veth0", "netns", names[0], "type", "veth", "peer", "name", "veth0", "netns", names[1])
            for name, address in zip(names, ("10.77.0.1", "10.77.0.2"), strict=True):
                _ip("-n", name, "addr", "add", f"{address}/24", "dev", "veth0")
                for device in ("lo", "veth0"):
                    _ip("-n", name, "link", "set", device, "up")
        except (OSError, subprocess.CalledProcessError):
            yield Hosts((), (), "127.0.0.2", "127.0.0.3")  # without permission to make networks
        else:
            first, second = (("ip", "netns", "exec", name) for name in names)
            yield Hosts(first, second, "10.77.0.1", "10.77.0.2")
    finally:
        for name in made:
            _ip("netns", "del", name)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with certificates, and with Dask's configuration that names them."""
    folder = tmp_path_factory.mktemp("tls") / "keys"
    subprocess.run([str(TLS / "make_certificates.sh"), str(folder)], check=True, capture_output=True)
    (folder / "dask").mkdir()
    (folder / "dask" / "tls.yaml").write_text((TLS / "tls.yaml").read_text().replace("FOLDER", str(folder)))
    return folder


@pytest.fixture(scope="module")
def cluster(hosts: Hosts, certificates: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a scheduler on the first host, with a worker on each."""
    folder = tmp_path_factory.mktemp("cluster")
    environment = {**os.environ, "DASK_CONFIG": str(certificates / "dask"), "PYTHONPATH": str(ROOT)}
    file = folder / "scheduler.json"
    with (folder / "log").open("w") as log, ExitStack() as processes:

        def start(host: tuple[str, ...], address: str, *what: str) -> None:
            command = [*host, sys.executable, "-m", "dask", *what, "--host", address, "--scheduler-file", str(file)]
            processes.callback(_stop, subprocess.Popen([*command, "--no-dashboard"], env=environment, stderr=log))

        # Workers are stopped before the scheduler from which they sign off.
        start(hosts.first, hosts.first_address, "scheduler", "--port", "0")
        until(file.exists, "the scheduler's start")
        for host, address in ((hosts.first, hosts.first_address), (hosts.second, hosts.second_address)):
            start(host, address, "worker", "--nthreads", "1", "--no-nanny")
        until(lambda: (folder / "log").read_text().count("Register worker addr") == 2, "the workers' start")
        yield str(file)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise


def test_two_hosts_write_what_one_process_writes(hosts: Hosts, certificates: Path, cluster: str, tmp_path: Path) -> None:
    data = make_particles(tmp_path / "particles")
    conversion(data, tmp_path / "serial").run_serially()
    options = ["--params", data.params_file, "--mrc-folder", data.folder_mrc, "--batch-size", "4", "--no-plots"]
    command = ["convert", "star", data.star_file, *options, "--out", tmp_path / "out", "--scheduler-file", cluster, "--quiet"]
    environment = {**os.environ, "DASK_CONFIG": str(certificates / "dask"), "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [*hosts.first, *COMMAND_LINE, *map(str, command)], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert result.returncode == 0, result.stderr
    assert stacks(tmp_path / "out") == stacks(tmp_path / "serial")
    assert verify_output(tmp_path / "out") == []
    assert Path(cluster).read_text().count("tls://") >= 1


def test_clients_without_a_certificate_are_refused(hosts: Hosts, cluster: str, tmp_path: Path) -> None:
    data = make_particles(tmp_path / "particles", n_images=4)
    command = [
        "convert",
        "star",
        data.star_file,
        "--params",
        data.params_file,
        "--mrc-folder",
        data.folder_mrc,
        "--out",
        tmp_path / "out",
    ]
    result = subprocess.run(
        [*hosts.first, *COMMAND_LINE, *map(str, command), "--scheduler-file", cluster],
        env={**os.environ, "PYTHONPATH": str(ROOT), "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "5s"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 2
    assert "certificate" in result.stderr
    assert "Traceback" not in result.stderr, result.stderr
    assert not list((tmp_path / "out").rglob("*.pt"))


def test_keys_are_for_their_owner_alone(certificates: Path) -> None:
    for name in ("key.pem", "ca-key.pem"):
        assert (certificates / name).stat().st_mode & 0o077 == 0
    again = subprocess.run([str(TLS / "make_certificates.sh"), str(certificates)], capture_output=True, text=True, check=False)
    assert again.returncode == 2
    assert "already" in again.stderr
