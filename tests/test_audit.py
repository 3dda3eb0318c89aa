"""`make audit`: with an index that knows vulnerabilities, knows none, or cannot be reached; and licences."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / ".ci" / "audit.py"
KNOWN = {"name": "jinja2", "version": "3.1.0", "vulns": [{"id": "GHSA-1", "fix_versions": ["3.1.3"]}]}
CLEAN: dict[str, Any] = {"name": "numpy", "version": "2.0", "vulns": []}
SKIPPED = {"name": "torch", "skip_reason": "Dependency not found on PyPI and could not be audited: torch (2.6)"}


@pytest.fixture(scope="module")
def audit() -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["audit"] = module  # its dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


def run(tmp_path: Path, *packages: dict[str, Any], error: str = "") -> subprocess.CompletedProcess[str]:
    """Run the audit with a pip-audit that gives this answer, or fails with this error."""
    answer = json.dumps({"dependencies": packages})
    fake = tmp_path / "pip-audit"
    fake.write_text(f"#!{sys.executable}\nimport sys\nsys.stdout.write({'' if error else answer!r})\nsys.exit({error!r} or 0)\n")
    fake.chmod(0o755)
    return subprocess.run([sys.executable, SCRIPT, fake], capture_output=True, text=True, check=False)


def test_a_vulnerability_is_reported_with_the_version_that_fixes_it(tmp_path: Path) -> None:
    result = run(tmp_path, CLEAN, KNOWN)
    assert result.returncode == 1
    assert "jinja2 3.1.0: GHSA-1, fixed in 3.1.3" in result.stdout


def test_nothing_known_and_all_asked_is_well(tmp_path: Path) -> None:
    result = run(tmp_path, CLEAN)
    assert result.returncode == 0, result.stdout
    assert "none that the index knows" in result.stdout
    assert "NOT KNOWN" not in result.stdout


def test_packages_that_were_not_compared_are_not_called_safe(tmp_path: Path) -> None:
    result = run(tmp_path, CLEAN, SKIPPED)
    assert result.returncode == 3
    assert "NOT KNOWN  The index was not asked, or knows nothing, about 1 of 2 packages" in result.stdout


def test_an_index_that_cannot_be_reached_is_reported(tmp_path: Path) -> None:
    result = run(tmp_path, error="Traceback ...\nConnectionError: Failed to resolve 'pypi.org'")
    assert result.returncode == 3
    assert "NOT KNOWN  The index of vulnerabilities cannot be asked: ConnectionError: Failed to resolve 'pypi.org'" in result.stdout


@pytest.mark.parametrize(
    ("stated", "binds"),
    [
        ("MIT", False),
        ("BSD-3-Clause AND Apache-2.0 WITH LLVM-exception", False),
        ("GPL-3.0-or-later", True),
        ("AGPL-3.0-only", True),
        ("MIT AND GPL-2.0-only", True),
        ("GNU General Public License v3 (GPLv3)", True),
        ("GNU Affero General Public License v3", True),
        ("GNU Lesser General Public License v3 (LGPLv3)", False),
        ("LGPL-2.1-or-later", False),
        ("Apache-2.0 OR GPL-2.0-only", False),
        ("BSD License; GNU General Public License v2 (GPLv2)", False),
        ("BSD-3-Clause AND GPL-3.0-or-later WITH GCC-exception-3.1", False),
    ],
)
def test_licences_that_bind_are_distinguished_from_others(audit: ModuleType, stated: str, binds: bool) -> None:
    assert audit.binds(stated) is binds


def test_no_package_needed_at_run_time_has_a_binding_licence(audit: ModuleType) -> None:
    packages = audit.needed_at_run_time("cryolike-dask")
    names = {package.metadata["Name"].lower() for package in packages}
    assert {"numpy", "torch", "dask", "markupsafe"} <= names  # the last one is an indirect requirement
    assert not {"finufft", "pytest", "moto"} & names
    _, findings = audit.licences(packages)
    assert (findings.bad, findings.unknown) == ([], [])
