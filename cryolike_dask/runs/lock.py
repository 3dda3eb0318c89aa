"""The lock on an output folder: one run at a time, and no dead one for ever.

The lock is a file that names its owner. Where the owner can be looked up (same machine, same boot, same process namespace) it is dead
when its process is gone. Elsewhere it is alive as long as it touches the file.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from cryolike_dask.errors import OutputError

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 15.0
"""A living run touches its lock this often."""
STALE_SECONDS = 180.0
"""A lock of another host is stale when it was not touched for so long."""


def take_lock(path: Path, token: str, of_process: bool = True) -> None:
    """Create the lock file of the run of this token, taking over a stale one.

    Args:
        path: of the lock; its folder exists.
        token: of the run.
        of_process: the run lives as long as this process. Otherwise as long as anyone touches the lock.

    Raises:
        OutputError: a run that may be alive holds it.
        OSError: the file cannot be written.
    """
    with _one_at_a_time(path.parent):
        _remove_if_stale(path)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        except FileExistsError:
            raise OutputError(
                f"Another conversion has just started in {path.parent.parent}. Wait for it, or choose another folder."
            ) from None
        try:
            with os.fdopen(descriptor, "w") as file:
                owner = _this_process() if of_process else _this_process() | {"machine": None}
                json.dump(owner | {"token": token, "since": time.strftime("%Y-%m-%d %H:%M:%S")}, file)
        except BaseException:
            path.unlink(missing_ok=True)
            raise


@contextmanager
def heartbeat(path: Path, token: str) -> Iterator[None]:
    """Meanwhile shows other hosts that the run of this token is alive, whatever else this process is busy with."""
    over = threading.Event()

    def touch() -> None:
        while not over.wait(HEARTBEAT_SECONDS):
            with suppress(OSError):
                if not holds_lock(path, token):
                    return
                os.utime(path)

    thread = threading.Thread(target=touch, name="cryolike-heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def refuse_lost_lock(path: Path, token: str) -> None:
    """Make sure that the lock is still that of the run of this token.

    Raises:
        OutputError: it is not.
    """
    if not holds_lock(path, token):
        raise OutputError(
            f"The lock {path} was removed or taken over while this conversion was running, so it stopped. If no other conversion "
            "writes there, run again with skip_exist=True (--skip-exist) to go on from here."
        )


def holds_lock(path: Path, token: str) -> bool:
    """Whether the lock is that of the run of this token."""
    return (_owner(path) or {}).get("token") == token


def _this_process() -> dict[str, Any]:
    process = psutil.Process()
    return {
        "host": socket.gethostname(),
        "machine": _machine(),
        "pid": process.pid,
        "process_started": process.create_time(),
    }


def _machine() -> str:
    """Equal for two processes only if they can see each other: containers may share a host's name, and pids start again at boot."""
    parts = [str(psutil.boot_time())]
    with suppress(OSError):
        parts = [Path("/proc/sys/kernel/random/boot_id").read_text().strip(), os.readlink("/proc/self/ns/pid")]
    return " ".join([socket.gethostname(), *parts])


@contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Keeps two runs from taking over the same stale lock, where the file system has locks; elsewhere it is merely unlikely."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if fcntl is not None:
            with suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _owner(path: Path) -> dict[str, Any] | None:
    """What the lock says; {} if it is cut off; None if there is none."""
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _remove_if_stale(path: Path) -> None:
    owner = _owner(path)
    if owner is None:
        return
    if _is_alive(owner, path):
        raise OutputError(
            f"Another conversion is writing to {path.parent.parent}: process {owner.get('pid')} on {owner.get('host')}, since "
            f"{owner.get('since')}. Wait for it, choose another folder, or, if that process is surely gone, remove {path}."
        )
    logger.warning(
        "Taking over %s from a conversion that is gone (process %s on %s).", path.parent.parent, owner.get("pid"), owner.get("host")
    )
    path.unlink(missing_ok=True)


def _is_alive(owner: dict[str, Any], path: Path) -> bool:
    if owner.get("machine") == _machine():
        try:
            return abs(float(psutil.Process(int(owner["pid"])).create_time()) - float(owner["process_started"])) < 1.0
        except psutil.NoSuchProcess:
            return False
    return _seconds_since_touched(path) < STALE_SECONDS


def _seconds_since_touched(path: Path) -> float:
    """By the file system's own clock, which may differ from this host's."""
    probe = path.with_name(f"now-{os.getpid()}-{time.monotonic_ns()}")
    probe.touch()
    try:
        return probe.stat().st_mtime - path.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)
