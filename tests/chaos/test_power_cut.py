"""Power cuts: after each step of a conversion, by the weakest rules that file systems follow (tests/support/power_cut.py)."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.support.chaos import Case, Watcher, contents, conversion, make_case
from tests.support.power_cut import Recording, restore

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc to tell the path of an open file"),
]

N_CHOICES = 6
"""Random choices, for each step, of the names that survive."""


@pytest.fixture(scope="module")
def small_case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """4 stacks."""
    return make_case(tmp_path_factory.mktemp("small_case"), n_images=20, batch_size=5)


@pytest.fixture(scope="module")
def recording(small_case: Case, tmp_path_factory: pytest.TempPathFactory) -> Recording:
    """A conversion into an empty folder."""
    out = tmp_path_factory.mktemp("recorded") / "out"
    out.mkdir()
    recorded = Recording(out)
    with recorded.running():
        small_case.conversion(out).run_serially()
    small_case.check(out)
    return recorded


def states(recording: Recording, random: np.random.Generator) -> Iterator[tuple[int, dict[str, bytes]]]:
    """The number of steps done, and what is left, for each step and several choices of what survives."""
    seen = set()
    for n_steps in range(len(recording.steps) + 1):
        chances = (0.0, 1.0, *random.uniform(0.2, 0.8, N_CHOICES))
        for chance in chances:
            state = recording.after(n_steps, lambda chance=chance: bool(random.random() < chance))
            key = tuple(sorted((name, hash(content)) for name, content in state.items()))
            if key not in seen:
                seen.add(key)
                yield n_steps, state


def faults(folder: Path) -> list[str]:
    watcher = Watcher(folder)
    watcher.look()
    return watcher.problems


def test_whatever_a_power_cut_leaves_visible_is_complete(recording: Recording, random: np.random.Generator, tmp_path: Path) -> None:
    most = set()
    for number, (n_steps, state) in enumerate(states(recording, random)):
        folder = tmp_path / str(number)
        restore(state, folder)
        assert faults(folder) == [], f"after {n_steps} of {len(recording.steps)} steps"
        most.add(len(list((folder / "fft").glob("particles*.npz"))))
        shutil.rmtree(folder)
    assert most == {0, 1, 2, 3, 4}


def test_a_conversion_goes_on_after_a_power_cut(
    small_case: Case, recording: Recording, random: np.random.Generator, tmp_path: Path
) -> None:
    found = list(states(recording, random))
    kept = set()
    for number in random.choice(len(found), 25, replace=False).tolist():
        n_steps, state = found[number]
        folder = tmp_path / str(number)
        restore(state, folder)
        # Another boot: the lock, whatever is left of it, is that of a machine that is gone.
        shutil.rmtree(folder / ".conversion", ignore_errors=True)
        there = (folder / "manifest.json").exists()
        report = small_case.conversion(folder, skip_exist=True).run_serially()
        assert there or report.n_kept == 0
        assert contents(folder) == small_case.undisturbed, f"after {n_steps} of {len(recording.steps)} steps"
        kept.add(report.n_kept)
    assert len(kept) > 2


def test_a_power_cut_while_output_is_replaced_leaves_no_mixture(
    small_case: Case, random: np.random.Generator, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    conversion(small_case.data, out, batch_size=4).run_serially()  # 5 stacks, of other images each
    recorded = Recording(out)
    with recorded.running():
        small_case.conversion(out, overwrite=True).run_serially()
    small_case.check(out)
    for number, (n_steps, state) in enumerate(states(recorded, random)):
        folder = tmp_path / str(number)
        restore(state, folder)
        # Old stacks may go in any order, but those that are still visible are whole.
        assert [fault for fault in faults(folder) if not fault.endswith(".npz'")] == [], (
            f"after {n_steps} of {len(recorded.steps)} steps"
        )
        shutil.rmtree(folder)
