"""What of a stack is known only when all its images are made: its power spectrum, and which images were bad."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from cryolike_dask.planning.plan import StackPlan
from cryolike_dask.stacks.metadata import stack_metadata
from cryolike_dask.transform.centring import OK
from cryolike_dask.transform.cpu import TransformedImages


class StackSums:
    """Collects the parts of a stack, in any order and from several threads.

    Sums are made in the order of the parts' numbers, so that they are the same to the last bit however the parts came.
    """

    def __init__(self, stack: StackPlan) -> None:
        self.stack = stack
        self._power: dict[int, npt.NDArray[np.float64]] = {}
        self._zeroed: list[int] = []

    def add(self, number: int, positions: npt.NDArray[np.int64], images: TransformedImages) -> None:
        """Take note of the images at these positions, part `number` of the stack."""
        self._power[number] = images.power.sum(axis=0)
        self._zeroed += positions[images.status != OK].tolist()

    def metadata(self) -> dict[str, Any]:
        """The arrays of the stack's `.npz`, but for what describes its files; see `stack_metadata`."""
        power = np.zeros(self.stack.descriptor.polar_grid.n_shells)
        for _, part in sorted(self._power.items()):
            power += part
        return stack_metadata(self.stack, power / len(self.stack), self._zeroed)
