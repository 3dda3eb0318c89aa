"""The lock on an output folder: one run at a time, and no dead one for ever.

The lock is a file that names its owner. Where the owner can be looked up (same machine, same boot, same process namespace) it is dead
when its process is gone. Elsewhere, and where the file does not say enough, it is alive as long as it touches the file.

Whoever changes the folder does so inside `changes`: meanwhile the folder cannot be taken over, and a run that has lost its lock, for
instance while its machine slept, changes nothing any more.
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
_WAIT_SECONDS = 60.0
"""How long a run waits for another one that is changing the folder at this moment."""
_POLL_SECONDS = 0.02


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
    _refuse_living_owner(path)
    owner = _this_process() if of_process else _this_process() | {"machine": None}
    content = json.dumps(owner | {"token": token, "since": time.strftime("%Y-%m-%d %H:%M:%S")})
    with one_at_a_time(path.parent):
        _remove_if_stale(path)
        try:
            _create(path, content)
        except FileExistsError:
            raise OutputError(
                f"Another conversion has just started in {path.parent.parent}. Wait for it, or choose another folder."
            ) from None


def _create(path: Path, content: str) -> None:
    """Create a file with this content at once, so that nobody ever sees a lock without its owner.

    Raises:
        FileExistsError: it is there already.
    """
    written = path.with_name(f"new-lock-{os.getpid()}-{threading.get_ident()}")
    written.write_text(content)
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
def changes(path: Path, token: str) -> Iterator[None]:
    """While the folder is changed: nobody else can take it over.

    Raises:
        OutputError: the lock is not that of the run of this token any more.
    """
    try:
        with one_at_a_time(path.parent):
            refuse_lost_lock(path, token)
            yield
    except FileNotFoundError:
        # The hidden folder goes with the run that took over, once that has ended.
        refuse_lost_lock(path, token)
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
        "process_started_ticks": _started_ticks(process.pid),
    }


def _started_ticks(pid: int) -> int | None:
    """When a process started, in clock ticks since boot, which no step of the clock changes; None where that is not to be had."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The name of the program, in parentheses, may hold anything; the start is the 22nd field of all.
    return int(stat.rpartition(")")[2].split()[19])


def _machine() -> str:
    """Equal for two processes only if they can see each other: containers may share a host's name, and pids start again at boot."""
    parts = [str(psutil.boot_time())]
    with suppress(OSError):
        parts = [Path("/proc/sys/kernel/random/boot_id").read_text().strip(), os.readlink("/proc/self/ns/pid")]
    return " ".join([socket.gethostname(), *parts])


@contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """Keeps two runs from changing a folder at once, where the file system has locks; elsewhere it is merely unlikely.

    Raises:
        OutputError: another run does so for a minute: it may have been stopped in the midst of it.
        FileNotFoundError: there is no such folder.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        deadline = time.monotonic() + _WAIT_SECONDS
        while fcntl is not None:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise OutputError(
                        f"Another process is in the midst of changing {folder.parent} and does not get on: it may have been "
                        "suspended. Let it go on or end it, then try again."
                    ) from None
                time.sleep(_POLL_SECONDS)
            except OSError:
                break  # a file system without locks
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


def _refuse_living_owner(path: Path) -> None:
    owner = _owner(path)
    if owner is not None and _is_alive(owner, path):
        raise OutputError(
            f"Another conversion is writing to {path.parent.parent}: {_name(owner)}. Wait for it, choose another folder, or, if that "
            f"process is surely gone, remove {path}."
        )


def _remove_if_stale(path: Path) -> None:
    _refuse_living_owner(path)
    owner = _owner(path)
    if owner is None:
        return
    logger.warning("Taking over %s from a conversion that is gone (%s).", path.parent.parent, _name(owner))
    path.unlink(missing_ok=True)


def _name(owner: dict[str, Any]) -> str:
    if "pid" not in owner or "host" not in owner:
        return "the lock does not say which process"
    return f"process {owner['pid']} on {owner['host']}, since {owner.get('since', 'an unknown time')}"


def _is_alive(owner: dict[str, Any], path: Path) -> bool:
    try:
        pid, started, ticks = int(owner["pid"]), float(owner["process_started"]), owner.get("process_started_ticks")
    except (KeyError, TypeError, ValueError):
        return _seconds_since_touched(path) < STALE_SECONDS
    if owner.get("machine") != _machine():
        return _seconds_since_touched(path) < STALE_SECONDS
    try:
        process = psutil.Process(pid)
        # A process that has ended stays in the list until its parent asks for it, which some containers' first process never does.
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        now = _started_ticks(pid)
        if ticks is not None and now is not None:
            return bool(now == ticks)
        return abs(float(process.create_time()) - started) < 1.0
    except psutil.NoSuchProcess:
        return False


def _seconds_since_touched(path: Path) -> float:
    """By the file system's own clock, which may differ from this host's."""
    probe = path.with_name(f"now-{os.getpid()}-{time.monotonic_ns()}")
    probe.touch()
    try:
        return probe.stat().st_mtime - path.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)
