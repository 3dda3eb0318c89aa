"""The result of a check of the CTF: a verdict, the reason, and the curves behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from cryolike_dask.ctf_check.model import FloatArray
from cryolike_dask.ctf_check.rings import Rings
from cryolike_dask.formatting import plural

Verdict = Literal["fits", "does not fit", "cannot tell"]


@dataclass(frozen=True, repr=False)
class CtfCheck:
    """Whether the CTF of a set fits its images.

    Args:
        verdict: 'fits', 'does not fit' or 'cannot tell'.
        reason: the verdict as a sentence, with numbers.
        n_particles, n_micrographs: how many were compared.
        recorded_pixel_size: Å.
        best_pixel_size: pixel size at which the CTF fits best if all other values are right, Å; None if it is unknown, or cannot explain
            a misfit.
        uncertainty: relative standard deviation of `best_pixel_size` from noise; None if that is None.
        accuracy: a relative difference of `best_pixel_size` from the recorded one up to this counts as a fit; None if that is None.
        significance: how far the best score is above the mean score of shuffled CTFs, in standard deviations of these; None if nothing
            was compared.
        suspects: what may be wrong if the CTF does not fit.
        pixel_sizes, scores: (m,) scores for pixel sizes from 0.4 to 2.5 times the recorded one.
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
    pixel_sizes: FloatArray = field(default_factory=lambda: np.empty(0))
    scores: FloatArray = field(default_factory=lambda: np.empty(0))
    rings: Rings | None = None

    def __str__(self) -> str:
        return self.reason

    def __repr__(self) -> str:
        return f"<CtfCheck of {plural(self.n_particles, 'particle')}: {self.reason}>"

    def to_dict(self) -> dict[str, Any]:
        """Everything except the curves, as numbers and text for JSON."""
        curves = ("pixel_sizes", "scores", "rings")
        return {name: value for name, value in self.__dict__.items() if name not in curves} | {"suspects": list(self.suspects)}


def unknown(check: CtfCheck, why: str) -> CtfCheck:
    """The check with the verdict 'cannot tell', and the reason."""
    return replace(check, verdict="cannot tell", reason=f"Cannot tell whether the CTF fits: {why}.")


def misfit(check: CtfCheck, suspects: Sequence[str]) -> CtfCheck:
    """The check with the verdict 'does not fit', and suspects of the form 'name (what the images show)'."""
    either = ", or ".join(suspects)
    return replace(
        check, verdict="does not fit", reason=f"The CTF does not fit the images. Suspects: {either}.", suspects=tuple(suspects)
    )
