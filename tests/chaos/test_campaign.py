"""A few faults of the campaign; `make faults` injects a thousand."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.chaos.campaign import KINDS

pytestmark = pytest.mark.chaos


def test_random_faults_lose_nothing_and_go_nowhere_unnoticed() -> None:
    command = [sys.executable, "-m", "tests.chaos.campaign", "--faults", "40", "--seed", "16", "--jobs", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^\d+ faults in \d+ s, seed 16: 0 failed$", done.stdout, re.MULTILINE)
    counts = {kind: int(n) for kind, n in re.findall(r"^(\w.*): (\d+)$", done.stdout, re.MULTILINE)}
    assert set(counts) == set(KINDS)
    assert all(n >= 4 for kind, n in counts.items() if kind != "full disk"), counts  # where none can be mounted
