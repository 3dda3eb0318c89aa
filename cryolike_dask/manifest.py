"""`manifest.json`: what a run was, for people and for resuming and verifying."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cryolike_dask import __version__
from cryolike_dask.errors import OutputError
from cryolike_dask.execution.receipts import StackReceipt
from cryolike_dask.plan import Plan

MANIFEST = "manifest.json"


def begin_manifest(folder: Path, plan: Plan) -> None:
    """Record a run that is about to start: from here on the folder is its own."""
    _write(folder, _content(plan, "running", []))


def complete_manifest(folder: Path, plan: Plan, receipts: Iterable[StackReceipt], complete: bool) -> None:
    """Record what was made. A run that could not finish is 'incomplete'."""
    stacks = [
        {
            "counter": receipt.counter,
            "n_images": receipt.n_images,
            "n_bytes": receipt.n_bytes,
            "fourier_crc32": receipt.fourier_crc32,
            "phys_crc32": receipt.phys_crc32,
            "rows": plan.bounds[receipt.counter].tolist(),
        }
        for receipt in sorted(receipts, key=lambda receipt: receipt.counter)
    ]
    _write(folder, _content(plan, "complete" if complete else "incomplete", stacks))


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


def _content(plan: Plan, status: str, stacks: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "software": "cryolike_dask",
        "version": __version__,
        "status": status,
        "written": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "n_stacks": plan.n_stacks,
        "n_images": plan.n_images,
        "pixel_size_from": plan.pixel_size_from,
        "identity": plan.identity,
        "fingerprint": plan.fingerprint,
        "warnings": list(plan.warnings),
        "skipped": list(plan.table.skipped),
        "stacks": stacks,
    }


def _write(folder: Path, content: dict[str, Any]) -> None:
    partial = folder / f".{MANIFEST}.partial"
    with partial.open("w", encoding="utf-8") as file:
        json.dump(content, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, folder / MANIFEST)
