"""The lock of a Zarr store outside the output folder, to which runs with different output folders could write.

It lies beside the store, as NAME.lock, and records which run owns the store, and when the run last touched the lock. A run takes the lock
when it begins, touches it together with the lock of its output folder, and checks it before each change of the store. Locks of earlier runs
with the same output folder are ignored: the present run holds the lock of that folder, so these runs have ended.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from cryolike_dask.errors import OutputError
from cryolike_dask.runs.lock import HEARTBEAT_SECONDS, describe_owner, is_alive, this_process
from cryolike_dask.settings import is_url
from cryolike_dask.stacks.object_store import ObjectStore, open_object_store


def acquire_store_lock(location: str, folder: Path, run_id: str, tied_to_process: bool) -> None:
    """Take over a store.

    Args:
        location: path or URL of the store.
        folder: output folder, whose lock is held.
        run_id: of the run.
        tied_to_process: whether the run ends with this process.

    Raises:
        OutputError: a run with another output folder is writing to the store.
        OSError: the store cannot be reached.
    """
    owner = _read(location)
    this = this_process()
    if owner.get("token") != run_id and (owner.get("folder"), owner.get("host")) != (str(folder), this["host"]):
        touched = owner.get("touched")
        seconds = time.time() - touched if isinstance(touched, int | float) else float("inf")
        if owner and is_alive(owner, lambda: seconds):
            raise OutputError(
                f"{location} is being written by another conversion, in {owner.get('folder')}: {describe_owner(owner)}. Wait for it, or "
                "choose another place for this store (zarr_store, --zarr-store)."
            )
    content = {"token": run_id, "folder": str(folder), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
    _write(location, this | ({} if tied_to_process else {"machine": None}) | content)
    # If two runs take the store at the same moment, the one that wrote its lock first finds the lock of the other.
    check_store_lock(location, run_id)


def check_store_lock(location: str, run_id: str) -> None:
    """Check that a store is still this run's.

    Raises:
        OutputError: it is not.
    """
    if not _has_lock(location):
        return
    if _read(location).get("token") != run_id:
        raise OutputError(
            f"{location} was taken over by another conversion while this one was running, so it stopped. Give each conversion a "
            "store of its own (zarr_store, --zarr-store)."
        )


def touch_store_lock(location: str, run_id: str) -> None:
    """Record that this run is alive, unless it did so a moment ago or has lost the store."""
    owner = _read(location)
    if owner.get("token") == run_id and not 0 <= time.time() - owner["touched"] < HEARTBEAT_SECONDS / 2:
        _write(location, owner)


def release_store_lock(location: str, run_id: str) -> None:
    """Release a store, if it belongs to this run."""
    if _read(location).get("token") == run_id:
        store, name = _place(location)
        store.remove(name)


def _has_lock(location: str) -> bool:
    """Whether a lock can be put beside the store, which is not possible if the store is an entire bucket."""
    return not is_url(location) or "/" in location.partition("://")[2].strip("/")


def _place(location: str) -> tuple[ObjectStore, str]:
    parent, _, name = location.rstrip("/").rpartition("/")
    return open_object_store(parent or "/"), f"{name}.lock"


def _read(location: str) -> dict[str, Any]:
    """The content of the lock; {} if there is none, or it cannot be read."""
    if not _has_lock(location):
        return {}
    store, name = _place(location)
    try:
        content = json.loads(store.read(name))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _write(location: str, owner: dict[str, Any]) -> None:
    if _has_lock(location):
        store, name = _place(location)
        store.write(name, json.dumps(owner | {"touched": time.time()}).encode())
