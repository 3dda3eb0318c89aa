"""Particles, clusters of processes, a watcher of the output folder, and faults, for tests of fault tolerance."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dask
import numpy as np
import psutil
from distributed import Client, LocalCluster
from distributed.core import Status
from distributed.utils import get_mp_context

from cryolike_dask.conversion import Conversion
from cryolike_dask.demo.particles import DemoData, write_demo_particles
from cryolike_dask.filesystem.reading import open_regular_file
from cryolike_dask.metadata.image_descriptor import ImageDescriptor
from cryolike_dask.mrc import reader
from cryolike_dask.particles.star.particles import particles_from_star
from cryolike_dask.progress import NoProgress, StackProgress
from cryolike_dask.report import ConversionReport
from cryolike_dask.runs.verify import verify_output
from cryolike_dask.settings import ConversionSettings
from cryolike_dask.transform.device import make_transform
from cryolike_dask.transform.interface import TransformedImages

BOX = 16
DEADLINE = 60.0  # seconds to wait for something before the test fails
COMMAND_LINE = (sys.executable, "-c", "from cryolike_dask.cli.main import main; main()")
ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def small_disk(folder: Path, n_bytes: int) -> Iterator[None]:
    """Mount a file system in memory, of this size, at a new folder.

    Raises:
        PermissionError: this process may not mount file systems.
    """
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={n_bytes}", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        raise PermissionError("mounting a small file system is not permitted here")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def make_particles(folder: Path, n_images: int, n_files: int = 5) -> DemoData:
    return write_demo_particles(folder, n_images=n_images, box=BOX, pixel_size=3.0, n_files=n_files, seed=5)


def conversion(data: DemoData, out: Path, batch_size: int, **options: Any) -> Conversion:
    particles = particles_from_star(str(data.star_file), str(data.folder_mrc))
    return Conversion(particles, data.params_file, folder_output=out, **({"batch_size": batch_size, "flag_plots": False} | options))


def until(condition: Callable[[], Any], what: str, seconds: float = DEADLINE) -> Any:
    """Evaluate the condition repeatedly until it is true, and return its value."""
    end = time.monotonic() + seconds
    pause = threading.Event()
    while not (value := condition()):
        assert time.monotonic() < end, f"{what} did not happen within {seconds:g} s"
        pause.wait(0.005)
    return value


# What is compared


def contents(out: Path) -> dict[str, Any]:
    """The content of every file of an output folder: stacks and tables as a hash, archives as arrays. Hidden files are not allowed."""
    found: dict[str, Any] = {}
    for path in sorted(path for path in out.rglob("*") if path.is_file()):
        name = str(path.relative_to(out))
        assert "/." not in f"/{name}", f"{name} was left over"
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as archive:
                # The name of an attempt is random.
                keys = [key for key in archive.files if key != "attempt"]
                found[name] = {key: (a.dtype.str, a.shape, a.tobytes()) for key in keys for a in [archive[key]]}
        elif path.suffix == ".star":
            found[name] = [line for line in path.read_text().splitlines() if not line.startswith("#")]  # the date is a comment
        elif name != "manifest.json":
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


@dataclass(frozen=True)
class Case:
    """Particles, and the output of an undisturbed conversion."""

    data: DemoData
    batch_size: int
    n_stacks: int
    undisturbed: dict[str, Any]
    options: dict[str, Any]

    def conversion(self, out: Path, **options: Any) -> Conversion:
        return conversion(self.data, out, self.batch_size, **(self.options | options))

    def command(self, out: Path, *more: str) -> list[str]:
        """The command line of the same conversion."""
        options = [f"--{name.replace('_', '-')}={value}" for name, value in self.options.items()]
        return [
            *COMMAND_LINE,
            *("convert", "star", str(self.data.star_file), "--mrc-folder", str(self.data.folder_mrc)),
            *("--params", str(self.data.params_file), "--out", str(out), "--no-plots"),
            *("--batch-size", str(self.batch_size), *options, *more),
        ]

    def check(self, out: Path) -> None:
        """Assert that the output is complete, and equal to that of the undisturbed conversion."""
        assert verify_output(out) == []
        found = contents(out)
        assert sorted(found) == sorted(self.undisturbed)
        different = [name for name, content in found.items() if content != self.undisturbed[name]]
        assert different == []

    def resume_and_check(self, out: Path, **options: Any) -> ConversionReport:
        with watching(out):
            report = self.conversion(out, skip_exist=True, **options).run()
        self.check(out)
        return report


def make_case(folder: Path, n_images: int, batch_size: int, **options: Any) -> Case:
    data = make_particles(folder / "particles", n_images)
    made = conversion(data, folder / "undisturbed", batch_size, **options)
    made.run_serially()
    assert verify_output(folder / "undisturbed", deep=True) == []
    return Case(data, batch_size, made.plan.n_stacks, contents(folder / "undisturbed"), options)


# Watching


class Watcher(threading.Thread):
    """Watches an output folder: every visible stack must be complete, and all stacks with lower counters must be there.

    Completeness is tested only with `zipfile`: the archives are intact, and their checksums are those in the metadata.
    """

    def __init__(self, out: Path) -> None:
        super().__init__(daemon=True)
        self.out = out
        self.problems: list[str] = []
        self.n_looks = 0
        self.most_seen = 0
        self._sound: set[tuple[int, int, int]] = set()
        self._enough = threading.Event()

    def run(self) -> None:
        while not self._enough.is_set():
            self.look()
            self._enough.wait(0.002)
        self.look()

    def stop(self) -> None:
        self._enough.set()
        self.join()

    def look(self) -> None:
        self.n_looks += 1
        try:
            counters = [int(name[24:30]) for name in os.listdir(self.out / "fft") if name[0] != "." and name.endswith(".npz")]
        except FileNotFoundError:
            return
        self.most_seen = max(self.most_seen, len(counters))
        for counter in range(max(counters, default=-1) + 1):
            fault = self._fault(counter)
            # It is not a fault if this stack and all later ones were removed in the meantime.
            if fault and self._metadata(max(counters)).exists():
                self.problems.append(fault)

    def _metadata(self, counter: int) -> Path:
        return self.out / "fft" / f"particles_fourier_stack_{counter:06d}.npz"

    def _fault(self, counter: int) -> str:
        metadata = self._metadata(counter)
        try:
            now = metadata.stat()
            if (counter, now.st_ino, now.st_mtime_ns) in self._sound:
                return ""
            with np.load(metadata, allow_pickle=False) as archive:
                wanted = {"fft/particles_fourier": int(archive["fourier_crc32"]), "phys/particles_phys": int(archive["phys_crc32"])}
            for name, crc in wanted.items():
                with zipfile.ZipFile(self.out / f"{name}_stack_{counter:06d}.pt") as tensor:
                    if tensor.testzip() is not None or crc != tensor.getinfo("archive/data/0").CRC:
                        return f"stack {counter} is visible and damaged"
        except FileNotFoundError as error:
            return f"stack {counter} or one of its files is missing, although a later stack exists: {error}"
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            return f"stack {counter} is visible and damaged: {error}"
        self._sound.add((counter, now.st_ino, now.st_mtime_ns))
        return ""


@contextmanager
def watching(out: Path) -> Iterator[Watcher]:
    watcher = Watcher(out)
    watcher.start()
    try:
        yield watcher
    finally:
        watcher.stop()
    assert watcher.problems == []
    assert watcher.n_looks > 0


# Faults at a chosen time


@dataclass
class At(NoProgress):
    """Progress that does something as soon as this many stacks are done, while the conversion continues; `every` repeats it."""

    n_done: int
    what: Callable[[], Any]
    every: bool = False
    done: list[int] = field(default_factory=list)
    times: int = 0

    def start(self, n_stacks: int, n_images: int) -> None:
        """See `Progress`."""

    def stack_done(self, stack: StackProgress) -> None:
        self.done.append(stack.counter)
        if len(self.done) == self.n_done or (self.every and len(self.done) % self.n_done == 0):
            self.times += 1
            self.what()

    def finish(self, error: BaseException | None) -> None:
        """See `Progress`."""


@contextmanager
def process_cluster(n_workers: int = 2) -> Iterator[tuple[LocalCluster, Client]]:
    """Worker processes with nannies. They are forked from a server that has imported everything, so that they start quickly."""
    with dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"}):
        get_mp_context().set_forkserver_preload(["distributed", "cryolike_dask.execution.tasks", "tests.support.chaos"])
        # The server keeps the environment that it was started with.
        environment = dict(os.environ)
        with (
            LocalCluster(
                n_workers=n_workers, threads_per_worker=1, processes=True, dashboard_address="127.0.0.1:0", env=environment
            ) as cluster,
            Client(cluster, set_as_default=False) as client,
        ):
            client.run(warm_up)
            keeper = Keeper(cluster)
            keeper.start()
            try:
                yield cluster, client
            finally:
                keeper.stop()


class Keeper(threading.Thread):
    """Acts as a batch system: it replaces a worker whose nanny gave up, and kills a worker that does not start.

    Both can happen if a worker is killed while it starts.
    """

    def __init__(self, cluster: LocalCluster) -> None:
        super().__init__(daemon=True)
        self.cluster = cluster
        self._starting: dict[int, float] = {}
        self._enough = threading.Event()

    def run(self) -> None:
        while not self._enough.wait(0.5):
            # Starts the workers that are wanted and do not exist.
            self.cluster.scale(len(self.cluster.worker_spec))
            starting = {nanny.pid for nanny in list(self.cluster.workers.values()) if nanny.process and nanny.pid} - {
                *living_workers(self.cluster)
            }
            now = time.monotonic()
            self._starting = {pid: self._starting.get(pid, now) for pid in starting}
            for pid, since in self._starting.items():
                if now - since > 10 and _is_worker(pid):
                    kill(pid)

    def stop(self) -> None:
        self._enough.set()
        self.join()


def warm_up() -> None:
    """Load what the first stack of a process needs, so that no worker makes all stacks while another one is still starting."""
    descriptor = ImageDescriptor.from_individual_values(n_pixels=BOX, pixel_size=3.0)
    images = np.random.default_rng(0).normal(size=(2, BOX, BOX)).astype(np.float32)
    make_transform(descriptor, ConversionSettings(device="cpu"))(images, TransformedImages.allocate(2, descriptor))


def living_workers(cluster: LocalCluster) -> list[int]:
    """Process ids of the workers that have started. (A nanny may give up on a worker that dies before that.)"""
    known = cluster.scheduler.workers
    up = [
        nanny.pid
        for nanny in list(cluster.workers.values())
        if nanny.process is not None and nanny.process.status == Status.running and nanny.process.worker_address in known
    ]
    return [pid for pid in up if pid and _is_worker(pid)]


def _is_worker(pid: int) -> bool:
    """Whether this is a worker, and not another process that has reused the id of a dead one."""
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and "multiprocessing" in " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return False


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def kill_some_worker(cluster: LocalCluster, random: np.random.Generator) -> None:
    kill(int(random.choice(until(lambda: living_workers(cluster), "a living worker"))))


# Faults of reading, put into a process


class FaultyReads:
    """Makes reads of some files fail. The module keeps it, so that a worker can find it again.

    Args:
        name: part of the path of the files.
        times: how often; -1 for always.
    """

    original = staticmethod(os.preadv)

    def __init__(self, name: str, times: int) -> None:
        self.name, self.times = name, times

    def preadv(self, descriptor: int, buffers: Any, offset: int) -> int:
        if self.times and self.name in os.readlink(f"/proc/self/fd/{descriptor}"):
            self.times -= 1
            raise OSError(errno.EIO, "Input/output error")
        return self.original(descriptor, buffers, offset)


def break_reads(name: str, times: int) -> None:
    os.preadv = FaultyReads(name, times).preadv  # type: ignore[assignment]


def mend_reads() -> None:
    os.preadv = FaultyReads.original


def hold_file(name: str, until: Path) -> None:
    """Delay opening files of this name until another file exists, so that a fault happens before they are read."""
    original = reader.open_regular_file

    def open_later(path: str, what: str) -> int:
        deadline = time.monotonic() + 60
        while name in path and not until.exists() and time.monotonic() < deadline:
            threading.Event().wait(0.01)
        return original(path, what)

    reader.open_regular_file = open_later


def open_at_once() -> None:
    """Undo `hold_file`."""
    reader.open_regular_file = open_regular_file


def real_path(path: Any) -> str:
    """A path, which may be relative to an open folder, with all links resolved except in its last component."""
    parent, name = os.path.split(os.fspath(path))
    return os.path.join(os.path.realpath(parent), name)


_deadly: dict[str, Callable[..., Any]] = {}


def die_at(function: str, name: str) -> None:
    """Make this process kill itself before it calls a function of `os` for a file of this name."""
    original = _deadly.setdefault(function, getattr(os, function))

    def or_die(*arguments: Any, **keywords: Any) -> Any:
        target = arguments[1] if function == "replace" else arguments[0]
        path = os.readlink(f"/proc/self/fd/{target}") if isinstance(target, int) else real_path(target)
        if re.search(name, path):
            kill(os.getpid())
        return original(*arguments, **keywords)

    setattr(os, function, or_die)


def live() -> None:
    """Undo `die_at`."""
    while _deadly:
        setattr(os, *_deadly.popitem())


# Other processes


@contextmanager
def process(command: list[str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A process in a separate session, which is killed with all its children at the end."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT} | options
    # In the background of a script, Ctrl-C is ignored, and children would inherit that.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        started = subprocess.Popen(command, cwd=ROOT, text=True, start_new_session=True, **options)
    finally:
        signal.signal(signal.SIGINT, before)
    try:
        yield started
    finally:
        with suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGKILL)
        started.wait()
        if started.stdout is not None:
            started.stdout.close()


def n_visible(out: Path) -> int:
    return len(list((out / "fft").glob("particles_fourier_stack_*.npz")))
