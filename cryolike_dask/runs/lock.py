"""The lock on an output folder: it admits one run at a time, and the lock of a dead run is taken over.

The lock is a file that names its owner. If the owner can be looked up (same machine, same boot, same process namespace), it is dead when
its process is gone. Otherwise, or if the file lacks information, it is alive as long as it touches the file.

Every change of the folder is made inside `exclusive_changes`: meanwhile the folder cannot be taken over, and a run that has lost its lock,
for example while its machine slept, changes nothing any more.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from cryolike_dask.errors import OutputError
from cryolike_dask.filesystem.pinned import create_file, pinned, pinned_place
from cryolike_dask.filesystem.reading import read_input

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 15.0
"""How often a living run touches its lock."""
STALE_SECONDS = 180.0
"""A lock of another host is stale if it was not touched for so long."""
_WAIT_SECONDS = 60.0
"""How long a run waits while another one is changing the folder."""
_POLL_SECONDS = 0.02
_MOST_BYTES = 1 << 16
_ended_runs: set[str] = set()
"""Runs of this process that have ended. Their locks may still exist if the disk became read-only."""


def acquire_lock(path: Path, run_id: str, tied_to_process: bool = True) -> None:
    """Create the lock file of this run, taking over a stale one.

    Args:
        path: of the lock; its folder exists.
        run_id: of the run.
        tied_to_process: the run lives as long as this process. Otherwise as long as anyone touches the lock.

    Raises:
        OutputError: a run that may be alive holds it.
        OSError: the file cannot be written.
    """
    _check_no_living_owner(path)
    owner = this_process() if tied_to_process else this_process() | {"machine": None}
    content = json.dumps(owner | {"token": run_id, "since": time.strftime("%Y-%m-%d %H:%M:%S")})
    with exclusive_access(path.parent):
        _remove_if_stale(path)
        try:
            with pinned_place(path, path.parent.parent) as place:
                _create_complete(place, content)
        except FileExistsError:
            raise OutputError(
                f"Another conversion has just started in {path.parent.parent}. Wait for it, or choose another folder."
            ) from None


def _create_complete(path: Path, content: str) -> None:
    """Create a file together with its content, so that no other process ever sees a lock without an owner.

    Raises:
        FileExistsError: it already exists.
    """
    written = path.with_name(f"new-lock-{os.getpid()}-{threading.get_ident()}")
    with os.fdopen(create_file(written), "w") as file:
        file.write(content)
    try:
        os.link(written, path)
    except FileExistsError:
        raise
    except OSError:
        # Some network and container file systems have no hard links.
        with open(path, "x") as file:
            file.write(content)
    finally:
        written.unlink(missing_ok=True)


@contextmanager
def exclusive_changes(path: Path, run_id: str) -> Iterator[None]:
    """A context for changes of the folder, in which no other run can take it over.

    Raises:
        OutputError: the lock is no longer that of this run.
    """
    try:
        with exclusive_access(path.parent):
            check_lock(path, run_id)
            yield
    except FileNotFoundError:
        # Another run has taken over, and has removed the hidden folder when it ended.
        check_lock(path, run_id)
        raise


@contextmanager
def heartbeat(path: Path, run_id: str, also: Callable[[], None]) -> Iterator[None]:
    """A context in which a thread touches the lock regularly, so that other hosts see that this run is alive. It also calls `also`."""
    stopped = threading.Event()

    def touch() -> None:
        while not stopped.wait(HEARTBEAT_SECONDS):
            with suppress(OSError):
                if not holds_lock(path, run_id):
                    return
                os.utime(path, follow_symlinks=False)
                also()

    thread = threading.Thread(target=touch, name="cryolike-heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


def check_lock(path: Path, run_id: str) -> None:
    """Check that the lock is still that of this run.

    Raises:
        OutputError: it is not.
    """
    if not holds_lock(path, run_id):
        raise OutputError(
            f"The lock {path} was removed or taken over while this conversion was running, so it stopped. If no other conversion "
            "writes there, run again with skip_exist=True (--skip-exist) to continue."
        )


def end_run(run_id: str) -> None:
    """Note that the run has ended. If its lock cannot be removed, because the disk is read-only, this process ignores it from now on."""
    _ended_runs.add(run_id)


def holds_lock(path: Path, run_id: str) -> bool:
    """Whether the lock is that of this run."""
    return (_read_owner(path) or {}).get("token") == run_id


def this_process() -> dict[str, Any]:
    """The description of this process in a lock."""
    process = psutil.Process()
    return {
        "host": socket.gethostname(),
        "machine": _machine_id(),
        "pid": process.pid,
        "process_started": process.create_time(),
        "process_started_ticks": _started_ticks(process.pid),
    }


def _started_ticks(pid: int) -> int | None:
    """When a process started, in clock ticks since boot, independent of changes to the clock; None if the system does not say."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The program's name, in parentheses, may contain anything, even parentheses. The start time is field 22, the 20th after the name.
    return int(stat.rpartition(")")[2].split()[19])


def _machine_id() -> str:
    """Equal for two processes only if they can see each other. Containers may share a host's name, and process IDs start again at boot."""
    parts = [str(psutil.boot_time())]
    with suppress(OSError):
        parts = [Path("/proc/sys/kernel/random/boot_id").read_text().strip(), os.readlink("/proc/self/ns/pid")]
    return " ".join([socket.gethostname(), *parts])


@contextmanager
def exclusive_access(folder: Path) -> Iterator[None]:
    """Keeps two runs from changing a folder at the same time, if the file system has locks.

    Raises:
        OutputError: another run has been changing the folder for a minute; it may be suspended.
        FileNotFoundError: there is no such folder.
    """
    with pinned(folder, folder.parent) as place:
        fd = os.open(place, os.O_RDONLY | os.O_CLOEXEC)
    try:
        deadline = time.monotonic() + _WAIT_SECONDS
        while fcntl is not None:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise OutputError(
                        f"Another process is changing {folder.parent} and makes no progress: it may be suspended. Resume or end it, "
                        "then try again."
                    ) from None
                time.sleep(_POLL_SECONDS)
            except OSError:
                break  # a file system without locks
        yield
    finally:
        os.close(fd)


def _read_owner(path: Path) -> dict[str, Any] | None:
    """The content of the lock; {} if it is truncated; None if there is no lock."""
    try:
        content = json.loads(read_input(path, "a lock", _MOST_BYTES))
    except FileNotFoundError:
        return None
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _check_no_living_owner(path: Path) -> None:
    owner = _read_owner(path)
    if owner is not None and is_alive(owner, lambda: _seconds_since_touched(path)):
        raise OutputError(
            f"Another conversion is writing to {path.parent.parent}: {describe_owner(owner)}. Wait for it, choose another folder, or, "
            f"if you are sure that this process has ended, remove {path}."
        )


def _remove_if_stale(path: Path) -> None:
    _check_no_living_owner(path)
    owner = _read_owner(path)
    if owner is None:
        return
    logger.warning("Taking over %s from a conversion that has died (%s).", path.parent.parent, describe_owner(owner))
    path.unlink(missing_ok=True)


def describe_owner(owner: dict[str, Any]) -> str:
    """The owner of a lock in words: which process, on which host, since when."""
    if "pid" not in owner or "host" not in owner:
        return "the lock does not name the process"
    return f"process {owner['pid']} on {owner['host']}, since {owner.get('since', 'an unknown time')}"


def is_alive(owner: dict[str, Any], seconds_since_touched: Callable[[], float]) -> bool:
    """Whether the run that a lock names is in progress.

    Args:
        owner: content of the lock.
        seconds_since_touched: returns how long ago the owner showed that it is alive; called if its process cannot be looked up.
    """
    try:
        pid, started, ticks = int(owner["pid"]), float(owner["process_started"]), owner.get("process_started_ticks")
    except (KeyError, TypeError, ValueError):
        return seconds_since_touched() < STALE_SECONDS
    if owner.get("machine") != _machine_id():
        return seconds_since_touched() < STALE_SECONDS
    if pid == os.getpid() and owner.get("token") in _ended_runs:
        return False
    try:
        process = psutil.Process(pid)
        # A zombie has ended, but its parent has not waited for it. The first process of some containers never does.
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        now = _started_ticks(pid)
        if ticks is not None and now is not None:
            return bool(now == ticks)
        return abs(float(process.create_time()) - started) < 1.0
    except psutil.NoSuchProcess:
        return False


def _seconds_since_touched(path: Path) -> float:
    """By the clock of the file system, which may differ from that of this host."""
    probe = path.with_name(f"now-{os.getpid()}-{time.monotonic_ns()}")
    probe.touch()
    try:
        return probe.stat().st_mtime - path.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)
