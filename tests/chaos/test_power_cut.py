"""Power cuts after each step of a conversion, with the weakest rules of file systems (tests/support/power_cut.py)."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from cryolike_dask.progress import NoProgress, StackProgress
from cryolike_dask.runs.verify import verify_output
from tests.support.chaos import Case, Watcher, contents, conversion, make_case
from tests.support.power_cut import Recording, restore

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc to tell the path of an open file"),
]

N_CHOICES = 6
"""Number of random choices, for each step, of the names that survive."""


@pytest.fixture(scope="module")
def small_case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """4 stacks."""
    return make_case(tmp_path_factory.mktemp("small_case"), n_images=20, batch_size=5)


@dataclass
class Reported(NoProgress):
    """Records the number of steps at the time when each stack was reported complete."""

    recording: Recording
    n_steps: list[int] = field(default_factory=list)

    def start(self, n_stacks: int, n_images: int) -> None:
        """See `Progress`."""

    def stack_done(self, stack: StackProgress) -> None:
        self.n_steps.append(len(self.recording.steps))

    def finish(self, error: BaseException | None) -> None:
        """See `Progress`."""


def recorded_conversion(case: Case, folder: Path, **options: str) -> tuple[Recording, Reported]:
    """A conversion into an empty folder."""
    folder.mkdir()
    recorded = Recording(folder)
    reported = Reported(recorded)
    with recorded.running():
        case.conversion(folder, **options).run_serially(reported)
    assert verify_output(folder) == []
    return recorded, reported


@pytest.fixture(scope="module")
def recorded(small_case: Case, tmp_path_factory: pytest.TempPathFactory) -> tuple[Recording, Reported]:
    made = recorded_conversion(small_case, tmp_path_factory.mktemp("recorded") / "out")
    small_case.check(made[0].folder)
    return made


@pytest.fixture(scope="module")
def recording(recorded: tuple[Recording, Reported]) -> Recording:
    return recorded[0]


def states(recording: Recording, random: np.random.Generator) -> Iterator[tuple[int, dict[str, bytes]]]:
    """The number of steps done, and the folder after a power cut, for each step and several choices of what survives."""
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


def test_stacks_reported_complete_survive_a_power_cut(recorded: tuple[Recording, Reported], random: np.random.Generator) -> None:
    recording, reported = recorded
    for n_steps, state in states(recording, random):
        for counter in range(sum(then <= n_steps for then in reported.n_steps)):
            assert {f"fft/particles_fourier_stack_{counter:06d}.npz", f"phys/particles_phys_stack_{counter:06d}.pt"} <= state.keys()


def store_faults(folder: Path, whole: Path) -> list[str]:
    """Shards of visible or committed stacks that differ from those of a complete store."""
    n_stacks = len(list((folder / "fft").glob("particles*.npz")))
    if (folder / "particles.zarr" / "zarr.json").exists():
        content = json.loads((folder / "particles.zarr" / "zarr.json").read_text())
        n_stacks = max(n_stacks, content["attributes"]["cryolike_dask"]["committed_stacks"])
    shards = [f"particles.zarr/{array}/c/{counter}/0/0" for counter in range(n_stacks) for array in ("fourier", "phys")]
    return [name for name in shards if not (folder / name).exists() or (folder / name).read_bytes() != (whole / name).read_bytes()]


def test_committed_stacks_of_a_zarr_store_survive_a_power_cut(
    small_case: Case, random: np.random.Generator, tmp_path: Path
) -> None:
    recording, reported = recorded_conversion(small_case, tmp_path / "whole", output_format="zarr")
    found = list(states(recording, random))
    to_resume = set(random.choice(len(found), 8, replace=False).tolist())
    for number, (n_steps, state) in enumerate(found):
        folder = tmp_path / str(number)
        restore(state, folder)
        assert store_faults(folder, recording.folder) == [], f"after {n_steps} of {len(recording.steps)} steps"
        n_reported = sum(then <= n_steps for then in reported.n_steps)
        assert len(list((folder / "fft").glob("particles*.npz"))) >= n_reported
        if number in to_resume:
            shutil.rmtree(folder / ".conversion", ignore_errors=True)
            small_case.conversion(folder, output_format="zarr", skip_exist=True).run_serially()
            assert verify_output(folder) == []
            assert store_faults(folder, recording.folder) == []
        shutil.rmtree(folder)


def test_a_conversion_continues_after_a_power_cut(
    small_case: Case, recording: Recording, random: np.random.Generator, tmp_path: Path
) -> None:
    found = list(states(recording, random))
    kept = set()
    for number in random.choice(len(found), 25, replace=False).tolist():
        n_steps, state = found[number]
        folder = tmp_path / str(number)
        restore(state, folder)
        # After another boot, the rest of the lock is that of a dead process.
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
    check_no_mixtures(small_case, out, random, overwrite=True)


def test_a_power_cut_while_a_missing_stack_is_made_again_leaves_no_mixture(
    small_case: Case, random: np.random.Generator, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    small_case.conversion(out).run_serially()
    (out / "fft" / "particles_fourier_stack_000001.npz").unlink()  # those after it are withdrawn and published again
    check_no_mixtures(small_case, out, random, skip_exist=True)


def check_no_mixtures(case: Case, out: Path, random: np.random.Generator, **options: bool) -> None:
    """Convert into a folder that holds stacks. After a power cut at any time, all visible stacks must be complete."""
    recorded = Recording(out)
    with recorded.running():
        case.conversion(out, **options).run_serially()
    case.check(out)
    for number, (n_steps, state) in enumerate(states(recorded, random)):
        folder = out.parent / str(number)
        restore(state, folder)
        # Existing stacks may be missing between others.
        problems = [fault for fault in faults(folder) if not fault.endswith(".npz'")]
        assert problems == [], f"after {n_steps} of {len(recorded.steps)} steps"
        shutil.rmtree(folder)
