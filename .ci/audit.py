"""Lists published vulnerabilities of the packages in constraints.txt, and licences of the packages that are needed at run time.

Exit code 0: no problem. 1: a vulnerability, or a licence that would bind this package's users (GPL, AGPL). 3: nothing was found, but the
index gave no answer for some packages. pip-audit itself says "No known vulnerabilities found" even about such packages.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "cryolike-dask"
FOUND, NOT_ASKED = 1, 3
# LGPL is another licence: it does not bind who imports.
_BINDING = re.compile(r"\bA?GPL|(?<!Lesser )(?<!Library or Lesser )General Public Licen[sc]e", re.IGNORECASE)


@dataclass
class Findings:
    """What an audit found.

    Args:
        bad: vulnerabilities, or licences that bind.
        unknown: what could not be found out.
    """

    bad: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)


def vulnerabilities(answer: str, error: str) -> Findings:
    """The findings in an answer of pip-audit.

    Args:
        answer: its output as JSON; '' if it failed.
        error: its output on standard error.
    """
    try:
        packages: list[dict[str, Any]] = json.loads(answer)["dependencies"]
    except (ValueError, LookupError, TypeError):
        reason = error.strip().rpartition("\n")[2] or "it said nothing"
        return Findings(unknown=[f"The index of vulnerabilities cannot be asked: {reason}"])
    findings = Findings()
    skipped = [package for package in packages if "skip_reason" in package]
    if skipped:
        findings.unknown.append(
            f"The index was not asked, or knows nothing, about {len(skipped)} of {len(packages)} packages, so nothing is known about their "
            f"vulnerabilities (the first: {skipped[0]['skip_reason']})"
        )
    for package in packages:
        for known in package.get("vulns", []):
            fixed = f", fixed in {', '.join(known['fix_versions'])}" if known.get("fix_versions") else ""
            findings.bad.append(f"{package['name']} {package['version']}: {known['id']}{fixed}")
    return findings


def needed_at_run_time(package: str) -> list[metadata.Distribution]:
    """The package and everything that it requires, without extras, sorted by name."""
    found: dict[str, metadata.Distribution] = {}
    waiting = [package]
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name in found:
            continue
        found[name] = metadata.distribution(name)
        for text in found[name].requires or []:
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                waiting.append(requirement.name)
    return [found[name] for name in sorted(found)]


_STATED_ELSEWHERE = {"cuda-toolkit": "NVIDIA Proprietary Software"}  # it contains no files, but requires packages that state this


def licence(package: metadata.Distribution) -> str:
    """The licence that the package states, in a few words; '' if it states none."""
    stated = package.metadata.get("License-Expression")
    if stated:
        return str(stated)
    classifiers = [name for name in package.metadata.get_all("Classifier") or [] if name.startswith("License ::")]
    if classifiers:
        return "; ".join(name.rpartition(" :: ")[2] for name in classifiers)
    text = str(package.metadata.get("License") or "").strip()
    return text.partition("\n")[0].strip() or _STATED_ELSEWHERE.get(package.metadata["Name"], "")


def binds(stated: str) -> bool:
    """Whether all alternatives of a licence are GPL or AGPL, apart from those with exceptions for libraries."""
    without_exceptions = re.sub(r"GPL[\w.-]* WITH [\w.-]+", "", stated)
    choices = re.split(r"\bOR\b|;", without_exceptions)
    return all(_BINDING.search(choice) for choice in choices if choice.strip(" ()")) and bool(without_exceptions.strip())


def licences(packages: list[metadata.Distribution]) -> tuple[list[str], Findings]:
    """One line for each package, and the findings."""
    lines, findings = [], Findings()
    for package in packages:
        name, stated = f"{package.metadata['Name']} {package.version}", licence(package)
        lines.append(f"{name}: {stated or 'states none'}")
        if not stated:
            findings.unknown.append(f"{name} states no licence")
        elif binds(stated):
            findings.bad.append(f"{name}: {stated}")
    return lines, findings


def ask_pip_audit(command: str, constraints: Path) -> Findings:
    """Ask the index about all packages in a file of constraints."""
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "requirements.txt"
        # The index has no entries for builds such as 2.13.0+cpu.
        plain.write_text(re.sub(r"\+\w+$", "", constraints.read_text(encoding="utf-8"), flags=re.MULTILINE), encoding="utf-8")
        asked = subprocess.run(
            [command, "-r", str(plain), "--no-deps", "--disable-pip", "--progress-spinner", "off", "-f", "json"],
            capture_output=True,
            text=True,
            check=False,
        )
    return vulnerabilities(asked.stdout, asked.stderr)


def report(pip_audit: str) -> Iterator[str]:
    """The lines to print; returns the exit code."""
    known = ask_pip_audit(pip_audit, ROOT / "constraints.txt")
    lines, stated = licences(needed_at_run_time(PACKAGE))
    yield "Licences of what is needed at run time:"
    yield from (f"  {line}" for line in lines)
    yield "Vulnerabilities of constraints.txt:"
    yield from (f"  {line}" for line in known.bad or ["none that the index knows" if not known.unknown else "none found"])
    for line in stated.bad:
        yield f"BINDING LICENCE  {line}"
    for line in (*known.unknown, *stated.unknown):
        yield f"NOT KNOWN  {line}"
    return FOUND if known.bad or stated.bad else NOT_ASKED if known.unknown or stated.unknown else 0


def main() -> int:
    lines = report(sys.argv[1])
    while True:
        try:
            sys.stdout.write(f"{next(lines)}\n")
        except StopIteration as end:
            return int(end.value)


if __name__ == "__main__":
    sys.exit(main())
