"""How certain a score is: what it becomes without some of the particles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cryolike_dask.ctf_check.model import FloatArray, Optics

_MAX_BLOCKS = 16
_CERTAIN = 3.5
"""Standard deviations."""

Blocks = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Jackknife:
    """Ways to leave particles out: micrograph by micrograph, and evenly.

    What particles of a micrograph have in common, such as the thickness of the ice, must not be taken for more evidence than it is. A few
    micrographs, in turn, tell little about the noise within them.

    Args:
        partitions: (n,) blocks of particles, numbered from 0.
    """

    partitions: tuple[Blocks, ...]

    @classmethod
    def of(cls, optics: Optics) -> Jackknife:
        """For particles with these CTFs."""
        micrograph = optics.micrograph
        evenly = np.arange(len(optics)) % min(_MAX_BLOCKS, len(optics))
        n_micrographs = int(micrograph.max()) + 1
        if n_micrographs >= _MAX_BLOCKS:
            return cls((micrograph % _MAX_BLOCKS,))
        return cls((evenly,) if n_micrographs == 1 else (evenly, micrograph))

    def deviation(self, without: Sequence[FloatArray]) -> float:
        """The standard deviation of a value, the larger of all ways.

        Args:
            without: for each partition, what the value is without each of its blocks, (n_blocks,).
        """
        return max(float(np.sqrt((len(values) - 1) * values.var())) for values in without)

    def is_certain(self, value: float, values_without: Callable[[Blocks], FloatArray]) -> bool:
        """Whether a value is above 0 by more than chance explains, whichever way particles are left out.

        Args:
            values_without: what the value is without each block of a partition, (n_blocks,).
        """
        return value > _CERTAIN * self.deviation([values_without(blocks) for blocks in self.partitions])
