"""The output folder of a run: who may write there, what is there already, and the hidden folder that holds the run's plan.

`OUT/.conversion` exists while a run is on. Tasks look for the run's token in it now and then: when it is gone they stop, so a worker
that the run has lost sight of cannot write into a later one.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import socket
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from cryolike_dask.errors import OutputError
from cryolike_dask.human import human_bytes
from cryolike_dask.manifest import MANIFEST, read_manifest
from cryolike_dask.plan import Plan
from cryolike_dask.stack_files import StackPaths, published_counters
from cryolike_dask.stack_writer import remove_leftovers

logger = logging.getLogger(__name__)

CONVERSION = ".conversion"
_SUBFOLDERS = ("fft", "phys", "plots")
_SINGLE_FILES = (MANIFEST, "params.npz", "particles.star", "report.html")
_HEARTBEAT_SECONDS = 20.0
_STALE_SECONDS = 900.0
"""A lock of another host is stale when it was not touched for so long."""


@dataclass
class RunFolder:
    """The output folder while one run owns it.

    Args:
        folder: absolute path.
        token: of this run.
    """

    folder: Path
    token: str

    @property
    def hidden(self) -> Path:
        return self.folder / CONVERSION

    def __post_init__(self) -> None:
        self._touched = time.monotonic()

    def heartbeat(self) -> None:
        """Show other hosts that this run is alive."""
        if time.monotonic() - self._touched > _HEARTBEAT_SECONDS:
            self._touched = time.monotonic()
            os.utime(self.hidden / "lock")

    def release(self) -> None:
        """Give the folder up. Tasks still running notice and stop."""
        shutil.rmtree(self.hidden, ignore_errors=True)


def is_current(folder: Path, token: str) -> bool:
    """Whether the run of this token still owns the folder."""
    return (folder / CONVERSION / token).exists()


def acquire(folder: Path) -> RunFolder:
    """Make the folder and own it.

    Raises:
        OutputError: another run owns it, or it cannot be written.
    """
    run = RunFolder(folder, uuid.uuid4().hex[:12])
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in (CONVERSION, *_SUBFOLDERS):
            if (folder / name).is_symlink():
                raise OutputError(
                    f"{folder / name} is a link. Output never leaves its folder: remove the link, or choose another folder."
                )
        run.hidden.mkdir(exist_ok=True)
        _lock(run.hidden / "lock")
        (run.hidden / run.token).touch()
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(
            f"The output folder {folder} cannot be written: {error.strerror or error}. Choose another one."
        ) from error
    return run


def _lock(path: Path) -> None:
    process = psutil.Process()
    owner = {"host": socket.gethostname(), "pid": process.pid, "process_started": process.create_time(), "time": time.ctime()}
    for _ in range(2):
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        except FileExistsError:
            _remove_if_stale(path)
            continue
        with os.fdopen(descriptor, "w") as file:
            json.dump(owner, file)
        return
    raise OutputError(f"{path.parent.parent}: another conversion has just started there. Wait for it, or choose another folder.")


def _remove_if_stale(path: Path) -> None:
    try:
        owner: dict[str, Any] = json.loads(path.read_text())
        age = time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return
    except ValueError:
        owner, age = {}, time.time() - path.stat().st_mtime
        if age < _HEARTBEAT_SECONDS:  # being written at this moment
            raise OutputError(f"{path.parent.parent}: another conversion has just started there.") from None
    if owner and owner.get("host") == socket.gethostname():
        alive = _is_running(int(owner["pid"]), float(owner["process_started"]))
    else:
        alive = age < _STALE_SECONDS
    if alive:
        raise OutputError(
            f"Another conversion is writing to {path.parent.parent}: process {owner.get('pid')} on {owner.get('host')}, since "
            f"{owner.get('time')}. Wait for it, choose another folder, or, if that process is surely gone, remove {path}."
        )
    logger.warning(
        "Taking over %s from a run that is gone (process %s on %s).", path.parent.parent, owner.get("pid"), owner.get("host")
    )
    path.unlink(missing_ok=True)


def _is_running(pid: int, started: float) -> bool:
    try:
        return abs(float(psutil.Process(pid).create_time()) - started) < 1.0
    except psutil.NoSuchProcess:
        return False


def prepare(run: RunFolder, plan: Plan) -> None:
    """Make the folder ready for this plan: refuse, resume or replace what is there, as the settings say; check space.

    Raises:
        OutputError: there is output already, or of another run, or too little space.
    """
    folder, settings = run.folder, plan.settings
    if settings.overwrite:
        remove_output(folder)
    elif has_output(folder):
        if not settings.skip_exist:
            raise OutputError(
                f"{folder} already holds a conversion. Choose another folder, go on with it (skip_exist=True, --skip-exist), or replace "
                "it (overwrite=True, --overwrite)."
            )
        _refuse_another_run(folder, plan)
    for name in ("fft", *(["phys"] if settings.save_phys else []), *(["plots"] if settings.flag_plots else [])):
        (folder / name).mkdir(exist_ok=True)
    # Partial files of a run that was killed; what it staged is complete and is kept if it is of this run.
    remove_leftovers(folder, keep=lambda path: settings.skip_exist and path.name.endswith(".staged"))
    _refuse_small_disk(folder, plan)


def has_output(folder: Path) -> bool:
    """Whether a conversion, complete or not, is in the folder."""
    patterns = ("fft/particles_fourier_stack_*", "phys/particles_phys_stack_*", "plots/*_stack_*.png", MANIFEST)
    return any(next(folder.glob(pattern), None) is not None for pattern in patterns)


def remove_output(folder: Path) -> None:
    """Remove the stacks of earlier runs, the highest first and each one's metadata first, so that what is visible stays true."""
    (folder / MANIFEST).unlink(missing_ok=True)
    for counter in reversed(published_counters(folder)):
        StackPaths(folder, counter).metadata.unlink(missing_ok=True)
    for pattern in ("fft/particles_fourier_stack_*.pt", "phys/particles_phys_stack_*.pt", "plots/*_stack_*.png"):
        for path in folder.glob(pattern):
            path.unlink(missing_ok=True)
    for name in _SINGLE_FILES:
        (folder / name).unlink(missing_ok=True)
    remove_leftovers(folder)


def _refuse_another_run(folder: Path, plan: Plan) -> None:
    manifest = read_manifest(folder)
    if manifest is None:
        raise OutputError(
            f"{folder} holds stacks without a manifest.json, so nothing tells how they were made, and they cannot be continued. Choose "
            "another folder, or replace them (overwrite=True, --overwrite)."
        )
    if manifest.get("fingerprint") == plan.fingerprint:
        return
    differences = "".join(f"\n  {line}" for line in _differences(manifest.get("identity", {}), plan.identity))
    raise OutputError(
        f"{folder} holds a conversion with other inputs or settings, which cannot be continued with these:{differences}\nUse the same "
        "ones, choose another folder, or replace it (overwrite=True, --overwrite)."
    )


def _differences(old: Any, new: Any, name: str = "") -> list[str]:
    # Through JSON, as the old one came: tuples are lists there.
    new = json.loads(json.dumps(new))
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted(set(old) | set(new))
        return [line for key in keys for line in _differences(old.get(key), new.get(key), f"{name}.{key}" if name else key)]
    if old == new:
        return []
    if name in ("image_files", "particles"):
        what = {"image_files": "the image files (their paths, sizes or times)", "particles": "the particles in the table"}[name]
        return [f"{what} have changed"]
    return [f"{name}: {old!r} there, {new!r} now"]


def _refuse_small_disk(folder: Path, plan: Plan) -> None:
    kept = sum(
        path.stat().st_size
        for pattern in ("fft/*.pt", "phys/*.pt", "fft/.*.staged", "phys/.*.staged")
        for path in folder.glob(pattern)
    )
    # Metadata, plots and file system overhead come on top of the images.
    needed = int(1.01 * plan.n_images * plan.image_bytes) + 65_536 * plan.n_stacks - kept
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OutputError(
            f"{folder} has {human_bytes(free)} free, but the stacks need {human_bytes(needed)}. Free some space, choose another folder, "
            "leave out the physical images (save_phys=False, --no-phys), or lower resolution_factor or n_inplanes."
        )
