"""`manifest.json`: the record of a run, for people and for resuming and verifying."""

from __future__ import annotations

import json
import logging
import platform
import time
from collections.abc import Iterable
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from cryolike_dask import __version__
from cryolike_dask.errors import OutputError
from cryolike_dask.filesystem.reading import read_input
from cryolike_dask.planning.input_files import InputRecord, list_inputs
from cryolike_dask.planning.plan import Plan
from cryolike_dask.runs.manifest_form import MANIFEST_FORM, misfits
from cryolike_dask.stacks.checksums import is_sealed, seal
from cryolike_dask.stacks.durable import write_atomic
from cryolike_dask.stacks.files import MANIFEST
from cryolike_dask.stacks.receipt import StackReceipt

logger = logging.getLogger(__name__)

_DEPENDENCIES = ("dask", "distributed", "isal", "mrcfile", "numba", "numpy", "pandas", "scipy", "starfile", "torch", "zarr")


def begin_manifest(folder: Path, plan: Plan, inputs: list[InputRecord]) -> None:
    """Record a run that is about to start. From now on the folder belongs to it."""
    _write(folder, _content(plan, "running", [], [], inputs, None))


def complete_manifest(
    folder: Path, plan: Plan, receipts: Iterable[StackReceipt], complete: bool, star_file: dict[str, int] | None
) -> None:
    """Record the stacks that were made. A run that could not finish is 'incomplete'.

    Args:
        folder: output folder.
        plan: of the run.
        receipts: of the stacks that are visible.
        complete: whether these are all stacks of the plan.
        star_file: size and CRC-32 of particles.star; None if it was not written.
    """
    receipts = sorted(receipts, key=lambda receipt: receipt.counter)
    stacks = [
        {
            "counter": receipt.counter,
            "n_images": receipt.n_images,
            "n_bytes": receipt.n_bytes,
            "fourier_crc32": receipt.fourier_crc32,
            "phys_crc32": receipt.phys_crc32,
            "rows": plan.bounds[receipt.counter].tolist(),
        }
        for receipt in receipts
    ]
    warnings = [line for receipt in receipts for line in receipt.warnings]
    status = "complete" if complete else "incomplete"
    _write(folder, _content(plan, status, stacks, warnings, _inputs_with_known_hashes(folder, plan), star_file))


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of an output folder, or None if there is none. Its values are of the expected kinds; `is_sealed` checks that they have
    not changed.

    Raises:
        OutputError: it is damaged.
    """
    path = folder / MANIFEST
    try:
        content = json.loads(read_input(path, "a manifest").decode())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(path, str(error)) from error
    misfit = next(misfits(content, MANIFEST_FORM), None)
    if misfit is not None:
        raise _damaged(path, misfit)
    return dict(content)


def _damaged(path: Path, what: str) -> OutputError:
    return OutputError(f"{path} is damaged ({what}): the folder's stacks may be undamaged, but the run cannot be continued.")


def recorded_inputs(manifest: dict[str, Any] | None) -> dict[str, InputRecord]:
    """The records of the image files in a manifest, by path; empty without a manifest. A damaged manifest yields no hashes."""
    if manifest is None:
        return {}
    files = {file["path"]: file for file in manifest["inputs"]}
    if is_sealed(manifest):
        return files
    return {path: {key: file[key] for key in ("path", "size", "mtime_ns")} for path, file in files.items()}


def _inputs_with_known_hashes(folder: Path, plan: Plan) -> list[InputRecord]:
    try:
        known = recorded_inputs(read_manifest(folder))
    except OutputError as error:
        # The manifest is written even so, to record the stacks that were made.
        logger.warning("%s It is written again, without hashes of the image files.", error)
        known = {}
    return list_inputs(plan, known)


def _content(
    plan: Plan,
    status: str,
    stacks: list[dict[str, Any]],
    warnings: list[str],
    inputs: list[InputRecord],
    star_file: dict[str, int] | None,
) -> dict[str, Any]:
    return {
        "software": "cryolike_dask",
        "version": __version__,
        "versions": _versions(),
        "status": status,
        "command": plan.command,
        "written": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "n_stacks": plan.n_stacks,
        "n_images": plan.n_images,
        "pixel_size_from": plan.pixel_size_from,
        "settings": plan.recorded_settings(),
        "identity": plan.identity,
        "fingerprint": plan.fingerprint,
        "warnings": [*plan.warnings, *warnings],
        "skipped": list(plan.table.skipped),
        "stacks": stacks,
        "inputs": inputs,
        "star_file": star_file,
    }


@cache
def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for name in _DEPENDENCIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def _write(folder: Path, content: dict[str, Any]) -> None:
    write_atomic(folder / MANIFEST, _to_json(seal(content)).encode(), folder)


def _to_json(content: dict[str, Any]) -> str:
    """JSON with one line for each stack and each input."""
    entries = []
    for key, value in content.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            items = ",\n".join(f"  {json.dumps(item)}" for item in value)
            text = f"[\n{items}\n ]"
        else:
            text = json.dumps(value, indent=1).replace("\n", "\n ")
        entries.append(f" {json.dumps(key)}: {text}")
    return "{\n" + ",\n".join(entries) + "\n}\n"
