"""Edits manifests and makes their checksum fit, so that only their content can reveal the change."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any


def edit_manifest(out: Path, edit: Callable[[dict[str, Any]], Any], *, with_checksum: bool = True) -> None:
    """Change the content of an output folder's manifest."""
    path = out / "manifest.json"
    content = json.loads(path.read_text())
    edit(content)
    if with_checksum:
        content.pop("checksum")
        content["checksum"] = sha256_of(content)
    path.write_text(json.dumps(content))


def sha256_of(content: Any) -> str:
    """SHA-256 of canonical JSON."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def record_size(out: Path, counter: int) -> None:
    """Record the present sizes of a stack's files in the manifest."""
    n_bytes = sum(path.stat().st_size for path in out.glob(f"*/*_stack_{counter:06d}.*") if path.suffix in (".pt", ".npz"))
    edit_manifest(out, lambda content: content["stacks"][counter].update(n_bytes=n_bytes))
