"""A stored plan is read on several threads of a worker at once."""

from __future__ import annotations

import gc
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from cryolike_dask.planning.store import _STACK_DTYPE, _Column, _write


def test_columns_are_opened_on_several_threads_at_once(tmp_path: Path) -> None:
    _write(tmp_path, "stacks", np.zeros(3, dtype=_STACK_DTYPE))

    def open_often(_: int) -> set[int]:
        garbage: list[Any] = []
        found = set()
        for number in range(1000):
            found.add(_Column(tmp_path / "stacks.npy", _STACK_DTYPE).n)
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
