"""Estimates the uncertainty of a score from its values without some of the particles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cryolike_dask.ctf_check.model import FloatArray, Optics

_MAX_BLOCKS = 16
_CERTAIN = 3.5
"""Standard deviations by which a certain value is above 0."""

Blocks = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Jackknife:
    """Ways to leave out blocks of particles: by micrograph, and evenly.

    Particles of a micrograph are not independent, because they have the same thickness of ice, for example; blocks of whole micrographs
    allow for that. If there are only a few micrographs, even blocks estimate the noise within them better.

    Args:
        partitions: for each way, the (n,) blocks of the particles, numbered from 0.
    """

    partitions: tuple[Blocks, ...]

    @classmethod
    def of(cls, optics: Optics) -> Jackknife:
        """The ways to leave out particles with these CTFs."""
        micrograph = optics.micrograph
        evenly = np.arange(len(optics)) % min(_MAX_BLOCKS, len(optics))
        n_micrographs = int(micrograph.max()) + 1
        if n_micrographs >= _MAX_BLOCKS:
            return cls((micrograph % _MAX_BLOCKS,))
        return cls((evenly,) if n_micrographs == 1 else (evenly, micrograph))

    def deviation(self, without: Sequence[FloatArray]) -> float:
        """The standard deviation of a value: the largest one of all partitions.

        Args:
            without: for each partition, the (n_blocks,) values without each of its blocks.
        """
        return max(float(np.sqrt((len(values) - 1) * values.var())) for values in without)

    def is_certain(self, value: float, values_without: Callable[[Blocks], FloatArray]) -> bool:
        """Whether a value is above 0 by more than chance explains, according to all partitions.

        Args:
            value: the value with all particles.
            values_without: returns the (n_blocks,) values without each block of a partition.
        """
        return value > _CERTAIN * self.deviation([values_without(blocks) for blocks in self.partitions])
