"""The image files that a run reads: their records, and whether they are still the same.

A file is identified by its size and time. With `hash_inputs` it is also identified by the SHA-256 of its content, so that a copy is
accepted.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from cryolike_dask.errors import InputError
from cryolike_dask.filesystem.reading import open_regular_file
from cryolike_dask.formatting import format_bytes, format_file_state, plural
from cryolike_dask.mrc.header import IMAGE_FILE, ImageFile
from cryolike_dask.planning.plan import Plan

logger = logging.getLogger(__name__)

InputRecord = dict[str, Any]
"""The record of a file in the manifest: path, size, mtime_ns and, if it was hashed, sha256."""

_CHUNK_BYTES = 4 << 20
_LOG_SECONDS = 60.0
_MAX_ERRORS_SHOWN = 5


def list_inputs(plan: Plan, recorded: Mapping[str, InputRecord]) -> list[InputRecord]:
    """The image files of a run, with the hashes that are known already.

    Args:
        plan: of the run.
        recorded: earlier records of the same files, by path; `changed_inputs` found no difference.
    """
    inputs: list[InputRecord] = [
        {"path": file.path, "size": file.size, "mtime_ns": file.mtime_ns} for file in plan.files if file is not None
    ]
    for file in inputs:
        known = recorded.get(file["path"], {})
        if "sha256" in known:
            file["sha256"] = known["sha256"]
    return inputs


def hash_inputs(inputs: Sequence[InputRecord]) -> None:
    """Add the hashes that are not known yet.

    Raises:
        InputError: a file cannot be read.
    """
    unknown = [file for file in inputs if "sha256" not in file]
    for file, sha256 in zip(unknown, sha256_of_files([file["path"] for file in unknown]), strict=True):
        if isinstance(sha256, InputError):
            raise sha256
        file["sha256"] = sha256


def changed_inputs(recorded: Mapping[str, InputRecord], plan: Plan) -> list[str]:
    """One line for each image file of the plan that differs from its record.

    Raises:
        InputError: a file whose content must be compared cannot be read.
    """
    pairs = [(recorded[now["path"]], now) for now in list_inputs(plan, {}) if now["path"] in recorded]
    changed = [(then, now) for then, now in pairs if (then["size"], then["mtime_ns"]) != (now["size"], now["mtime_ns"])]
    copies = [now for then, now in changed if then["size"] == now["size"] and "sha256" in then]
    hash_inputs(copies)
    return [
        f"{now['path']} has changed: {format_file_state(then['size'], then['mtime_ns'])} then, "
        f"{format_file_state(now['size'], now['mtime_ns'])} now{', with other content' * ('sha256' in now)}"
        for then, now in changed
        if "sha256" not in now or now["sha256"] != then["sha256"]
    ]


def check_inputs_unchanged(plan: Plan) -> None:
    """Check that no image file has changed since its header was read. Workers do so again for each file that they open.

    Raises:
        InputError: files have changed, or are gone.
    """
    with ThreadPoolExecutor(thread_name_prefix="cryolike-stat") as pool:
        changes = list(filter(None, pool.map(_describe_change, (file for file in plan.files if file is not None))))
    if changes:
        more = f" And {len(changes) - _MAX_ERRORS_SHOWN} more." if len(changes) > _MAX_ERRORS_SHOWN else ""
        raise InputError(
            f"{plural(len(changes), 'image file')} changed after the conversion was planned: "
            f"{'; '.join(changes[:_MAX_ERRORS_SHOWN])}.{more} "
            "Nothing was written. When the files are as they should be, plan again with a new Conversion."
        )


def sha256_of_files(paths: Sequence[str]) -> list[str | InputError]:
    """SHA-256 of each file as `sha256sum` prints it, or the error if it cannot be read. Several files are read at a time."""
    if not paths:
        return []
    logger.info("Hashing %s (%s).", plural(len(paths), "image file"), format_bytes(sum(map(_size, paths))))
    stopped = threading.Event()
    hashes: list[str | InputError] = []
    with ThreadPoolExecutor(thread_name_prefix="cryolike-hash") as pool:
        try:
            logged_at = time.monotonic()
            for result in pool.map(lambda path: _sha256(path, stopped), paths):
                hashes.append(result)
                if time.monotonic() - logged_at > _LOG_SECONDS:
                    logged_at = time.monotonic()
                    logger.info("%s of %s image files hashed.", f"{len(hashes):,}", f"{len(paths):,}")
        finally:
            # The pool waits for its threads, which must not read their files to the end after Ctrl-C.
            stopped.set()
    return hashes


def _sha256(path: str, stopped: threading.Event) -> str | InputError:
    try:
        with open(open_regular_file(path, IMAGE_FILE), "rb", buffering=0) as file:
            digest = hashlib.sha256()
            while not stopped.is_set() and (chunk := file.read(_CHUNK_BYTES)):
                digest.update(chunk)
            return digest.hexdigest()
    except InputError as error:
        return error
    except OSError as error:
        return InputError(f"{path} cannot be read for its SHA-256: {error.strerror or error}. Correct that, then start again.")


def _size(path: str) -> int:
    with suppress(OSError):
        return os.path.getsize(path)
    return 0


def _describe_change(file: ImageFile) -> str:
    try:
        change = file.change(os.stat(file.path))
    except OSError as error:
        change = error.strerror or str(error)
    return f"{file.path} ({change})" if change else ""
