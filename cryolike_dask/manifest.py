"""`manifest.json`: what a run was, for people and for resuming and verifying."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Iterable
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from cryolike_dask import __version__
from cryolike_dask.durable import write_whole
from cryolike_dask.errors import OutputError
from cryolike_dask.execution.receipts import StackReceipt
from cryolike_dask.human import size_and_time
from cryolike_dask.input_hashes import sha256_of_files
from cryolike_dask.plan import Plan

MANIFEST = "manifest.json"
_DEPENDENCIES = ("dask", "distributed", "isal", "mrcfile", "numba", "numpy", "pandas", "scipy", "starfile", "torch", "zarr")


def begin_manifest(folder: Path, plan: Plan) -> None:
    """Record a run that is about to start: from here on the folder is its own."""
    before = _recorded_inputs(folder) if plan.settings.skip_exist else {}
    _write(folder, _content(plan, "running", [], [], _inputs(plan, before)))


def complete_manifest(folder: Path, plan: Plan, receipts: Iterable[StackReceipt], complete: bool) -> None:
    """Record what was made. A run that could not finish is 'incomplete'."""
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
    _write(
        folder, _content(plan, "complete" if complete else "incomplete", stacks, warnings, list(_recorded_inputs(folder).values()))
    )


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of an output folder, or None if there is none.

    Raises:
        OutputError: it is damaged.
    """
    path = folder / MANIFEST
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise OutputError(f"{path} is damaged ({error}): the folder's stacks may be whole, but cannot be continued.") from error
    if not isinstance(content, dict):
        raise OutputError(f"{path} is not the manifest of a conversion.")
    return content


def changed_inputs(manifest: dict[str, Any], plan: Plan) -> list[str]:
    """One line for each image file of the plan that is not what the run of this manifest read.

    Where the manifest has a file's hash, a copy of the file will do.
    """
    before = _by_path(manifest)
    pairs = [(before[now["path"]], now) for now in _files(plan) if now["path"] in before]
    changed = [(then, now) for then, now in pairs if (then["size"], then["mtime_ns"]) != (now["size"], now["mtime_ns"])]
    copies = [now["path"] for then, now in changed if then["size"] == now["size"] and "sha256" in then]
    content = dict(zip(copies, sha256_of_files(copies), strict=True))
    return [
        f"{now['path']} has changed: {_state(then)} then, {_state(now)} now{', with other content' * (now['path'] in content)}"
        for then, now in changed
        if content.get(now["path"]) != then.get("sha256", "")
    ]


def _files(plan: Plan) -> list[dict[str, Any]]:
    return [{"path": file.path, "size": file.size, "mtime_ns": file.mtime_ns} for file in plan.files if file is not None]


def _inputs(plan: Plan, before: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """The image files of a run, with their hashes where they are wanted or known.

    Args:
        plan: of the run.
        before: by path, the files of a run that this one continues; `changed_inputs` found none that differs.
    """
    inputs = _files(plan)
    to_hash = []
    for file in inputs:
        if "sha256" in before.get(file["path"], {}):
            file["sha256"] = before[file["path"]]["sha256"]
        elif plan.settings.hash_inputs:
            to_hash.append(file)
    for file, sha256 in zip(to_hash, sha256_of_files([file["path"] for file in to_hash]), strict=True):
        file["sha256"] = sha256
    return inputs


def _recorded_inputs(folder: Path) -> dict[str, dict[str, Any]]:
    return _by_path(read_manifest(folder) or {})


def _by_path(manifest: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {file["path"]: file for file in manifest.get("inputs", [])}


def _state(file: dict[str, Any]) -> str:
    return size_and_time(file["size"], file["mtime_ns"])


def _content(
    plan: Plan, status: str, stacks: list[dict[str, Any]], warnings: list[str], inputs: list[dict[str, Any]]
) -> dict[str, Any]:
    return {
        "software": "cryolike_dask",
        "version": __version__,
        "versions": _versions(),
        "status": status,
        "written": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "n_stacks": plan.n_stacks,
        "n_images": plan.n_images,
        "pixel_size_from": plan.pixel_size_from,
        "settings": asdict(plan.settings),
        "identity": plan.identity,
        "fingerprint": plan.fingerprint,
        "warnings": [*plan.warnings, *warnings],
        "skipped": list(plan.table.skipped),
        "stacks": stacks,
        "inputs": inputs,
    }


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for name in _DEPENDENCIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def _write(folder: Path, content: dict[str, Any]) -> None:
    write_whole(folder / MANIFEST, _text(content).encode())


def _text(content: dict[str, Any]) -> str:
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
