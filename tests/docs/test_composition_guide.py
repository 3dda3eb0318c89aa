"""The code on the page about composition does what the page says."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cryolike_dask.demo.particles import write_demo_particles
from cryolike_dask.stacks.loading import load_stack

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "composition.md"


def test_the_code_of_the_guide_runs_and_is_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_demo_particles(tmp_path, n_images=230, box=16, pixel_size=3.0, seed=3)
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), flags=re.DOTALL)
    assert len(blocks) == 5
    names: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, str(GUIDE), "exec"), names)

    every = [load_stack("stacks", counter) for counter in range(3)]
    defocus = np.concatenate([stack.metadata["defocusU"] for stack in every])
    power = np.concatenate([(np.abs(stack.fourier.numpy()) ** 2).mean(axis=2) for stack in every])
    edges = [0, 8_000, 10_000, 12_000, 14_000, 16_000, np.inf]
    filled = 0
    for group, (low, high) in enumerate(itertools.pairwise(edges)):
        members = power[(defocus >= low) & (defocus < high)]
        assert names["counts"][group] == len(members)
        if len(members):
            filled += 1
            np.testing.assert_allclose(names["radial_power"][group], members.mean(axis=0), rtol=1e-5)
    assert filled >= 2
    assert names["images"].shape == (230, *every[0].fourier.shape[1:])
    np.testing.assert_allclose(names["shells"], power.mean(axis=0), rtol=1e-4)
    images = np.concatenate([stack.fourier.numpy() for stack in every])
    scores = np.einsum("nsw,tsw->nt", images, names["templates"].numpy().conj()).real
    assert names["best"] == scores.argmax(axis=1).tolist()
    assert len(names["store"]) == 230
