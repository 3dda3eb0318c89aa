"""CryoLike itself, which is not in any package index, for tests that make the same calls to both programs."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Any

import pytest

_VARIABLE = "CRYOLIKE_DASK_TEST_CRYOLIKE"


def import_cryolike() -> Any:
    """Import the package from the clone that the environment names; without one, the tests of the calling module are skipped."""
    clone = os.environ.get(_VARIABLE, "")
    if not clone:
        pytest.skip(f"{_VARIABLE} names no clone of CryoLike (tests/reference/README.md)", allow_module_level=True)
    source = str(Path(clone).resolve() / "src")
    if source not in sys.path:
        sys.path.append(source)
    return importlib.import_module("cryolike")
