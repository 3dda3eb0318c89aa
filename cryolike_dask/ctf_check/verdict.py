"""What a check of the CTF says: a verdict, the reason, and the curves behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from cryolike_dask.ctf_check.model import FloatArray
from cryolike_dask.ctf_check.rings import Rings

Verdict = Literal["fits", "does not fit", "cannot tell"]


@dataclass(frozen=True)
class CtfCheck:
    """Whether the CTF of a set fits its images.

    Args:
        verdict: 'fits', 'does not fit' or 'cannot tell'.
        reason: the same in a sentence, with the numbers.
        n_particles, n_micrographs: that were compared.
        recorded_pixel_size: Å.
        best_pixel_size: Å, at which the CTF fits best if all else is right; None if it cannot be told, or another explains nothing.
        uncertainty: of it as a fraction, one standard deviation of the noise; None likewise.
        accuracy: of it as a fraction: a smaller difference from the recorded one counts as a fit; None likewise.
        significance: by how many standard deviations of what shuffled CTFs score the best score is above their mean; None likewise.
        suspects: what can be wrong, if the CTF does not fit.
        pixel_sizes, scores: (m,) the score for pixel sizes from 0.4 to 2.5 times the recorded one.
        rings: power against the phase of the CTF, for a picture; None if the images do not show any.
    """

    verdict: Verdict
    reason: str
    n_particles: int
    n_micrographs: int
    recorded_pixel_size: float
    best_pixel_size: float | None = None
    uncertainty: float | None = None
    accuracy: float | None = None
    significance: float | None = None
    suspects: tuple[str, ...] = ()
    pixel_sizes: FloatArray = field(default_factory=lambda: np.empty(0), repr=False)
    scores: FloatArray = field(default_factory=lambda: np.empty(0), repr=False)
    rings: Rings | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return self.reason

    def to_dict(self) -> dict[str, Any]:
        """Everything but the curves, as numbers and text, for JSON."""
        curves = ("pixel_sizes", "scores", "rings")
        return {name: value for name, value in self.__dict__.items() if name not in curves} | {"suspects": list(self.suspects)}


def unknown(check: CtfCheck, why: str) -> CtfCheck:
    """The check, which cannot tell, and why not."""
    return replace(check, verdict="cannot tell", reason=f"Cannot tell whether the CTF fits: {why}.")


def misfit(check: CtfCheck, suspects: Sequence[str]) -> CtfCheck:
    """The check of a CTF that does not fit, and what can be wrong: each a name, a colon and what the images say of it."""
    either = "; or ".join(suspects)
    return replace(
        check, verdict="does not fit", reason=f"The CTF does not fit the images. Suspects: {either}.", suspects=tuple(suspects)
    )
