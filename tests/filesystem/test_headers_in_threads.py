"""Plans and metadata are read on several threads of a worker at the same time."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cryolike_dask.planning.store import _STACK_DTYPE, _Column, _write
from cryolike_dask.stacks.files import read_metadata


def open_column(folder: Path) -> int:
    return _Column(folder / "stacks.npy", _STACK_DTYPE).n


def open_metadata(folder: Path) -> int:
    return len(read_metadata(folder / "stack.npz")["stacks"])


@pytest.mark.parametrize("opened", [open_column, open_metadata])
def test_arrays_are_opened_on_several_threads_at_the_same_time(tmp_path: Path, opened: Callable[[Path], int]) -> None:
    stacks = np.zeros(3, dtype=_STACK_DTYPE)
    _write(tmp_path, "stacks", stacks)
    np.savez(tmp_path / "stack.npz", stacks=stacks)

    def open_often(_: int) -> set[int]:
        garbage: list[Any] = []
        found = set()
        for number in range(1000):
            found.add(opened(tmp_path))
            garbage.append([[] for _ in range(50)])
            if number % 50 == 0:
                garbage.clear()
        return found

    def hand_over(phase: str, info: Any) -> None:
        """As `distributed` does, run Python code when garbage is collected, which may be in the middle of parsing."""
        time.sleep(0)

    gc.callbacks.append(hand_over)
    try:
        with ThreadPoolExecutor(3) as threads:
            assert list(threads.map(open_often, range(3))) == [{3}] * 3
    finally:
        gc.callbacks.remove(hand_over)
