"""Checks whether the CTF that a table states fits the images, and if not, what may be wrong."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from cryolike_dask.ctf_check.jackknife import Blocks, Jackknife
from cryolike_dask.ctf_check.model import FloatArray, Optics, phases, shell_quadrupoles
from cryolike_dask.ctf_check.rings import gather_rings
from cryolike_dask.ctf_check.score import Images, Sample, phase_scores, score, scores_without, shell_scores, shuffled_scores
from cryolike_dask.ctf_check.verdict import CtfCheck, misfit, unknown
from cryolike_dask.formatting import is_or_are, plural

ALLOWANCE = 0.018
"""Relative error of the best pixel size that is allowed: pixel sizes are calibrated, and defocus is fitted, to about 1%."""
LEAST_ACCURACY = 0.05
"""A check with a larger relative uncertainty has no verdict."""
MIN_PARTICLES = 8
_SCALES = np.exp(np.linspace(np.log(0.4), np.log(2.5), 184))
"""Pixel sizes to try, relative to the recorded one. A halved box is a factor of 2."""
_NEARBY = np.linspace(-0.024, 0.024, 13)
"""Relative distances from the best scale, for a finer search around it."""
_AROUND = np.linspace(-0.12, 0.12, 31)
"""Relative distances from the best scale within which another background can move it."""
_PHASES = np.radians(np.arange(10, 175, 5))
"""Additional phase shifts to try. Less than 10° in either direction hardly moves a ring."""
_ABERRATIONS = (0.0, 1.4, 2.0, 2.7)
"""Spherical aberrations to try, mm: those of corrected microscopes, and of lenses in use."""
_UNITS = ((10.0, "the table gave nm instead of Å"), (0.1, "the values were 10 times too large"))
_TOLERATED_PHASE = np.pi / 4
"""Changes of the phase up to this, in radians, hardly move a ring."""
_LEAST_SIGNIFICANCE = 7.0
"""In standard deviations. More than the usual 3, because it is the best of many scales."""
_SHUFFLES = 24
_LEAST_VARIATION = 1e-5
"""Relative standard deviation of the power of a shell; less is rounding error in images that are all the same."""
_MIN_SPREAD = 1e-4
"""If the variance of CTF² between particles, at most 1/8, is below this, they count as having the same CTF."""
_BAND = 0.95
"""Fraction of the score; the images show their CTF in the first shells that add up to it."""
_AXES: tuple[tuple[str, Callable[[FloatArray], FloatArray]], ...] = (
    ("it fits at 90° minus the stated angle", lambda angle: np.pi / 2 - angle),
    ("it fits at minus the stated angle", lambda angle: -angle),
    ("it fits at 90° plus the stated angle, as if U and V were exchanged", lambda angle: angle + np.pi / 2),
)


def check_ctf(
    power: Images,
    optics: Optics,
    frequencies: FloatArray,
    box_length: float,
    pixel_size: float,
    quadrupoles: npt.NDArray[np.complexfloating[Any, Any]] | None = None,
) -> CtfCheck:
    """Compare the power of particles with the CTF that a table states.

    Args:
        power: (n, k) the mean of |F|² over each of k shells; particles without power are left out.
        optics: optics of the n particles.
        frequencies: (k,) 1/Å of the shells, ascending, computed with the recorded pixel size.
        box_length: edge of the images, Å, computed with the recorded pixel size.
        pixel_size: as recorded, Å.
        quadrupoles: (n, k) the mean of |F|² exp(2iθ) over each shell, with θ measured as the defocus angle; needed to check the axis of
            astigmatism.
    """
    power = power.astype(np.float64)  # squares of bright images would overflow in single precision
    kept = np.flatnonzero(power.sum(axis=1) > 0)
    optics, n = optics.take(kept), len(kept)
    n_micrographs = int(optics.micrograph.max()) + 1 if n else 0
    nothing = CtfCheck("cannot tell", "", n, n_micrographs, pixel_size)
    if n < MIN_PARTICLES:
        return unknown(nothing, f"{plural(n, 'particle')} {is_or_are(n)} too few")
    shells = np.flatnonzero(power[kept].std(axis=0) > _LEAST_VARIATION * power[kept].mean(axis=0))
    if not len(shells) or frequencies[shells[-1]] <= 0:
        return unknown(nothing, "the images are all the same")
    power = power[np.ix_(kept, shells)]
    sample = Sample.from_power(power, frequencies[shells], optics, box_length)
    if sample.recorded[0].var(axis=1).max() < _MIN_SPREAD:
        return unknown(nothing, "the particles have nearly the same CTF, so their differences do not depend on it")
    relative = None if quadrupoles is None else quadrupoles[np.ix_(kept, shells)] / power.mean(axis=0)
    return _Comparison(sample, pixel_size).verdict(nothing, relative)


@dataclass(frozen=True, eq=False)
class _Model:
    """A CTF that might be the right one.

    Args:
        predicted: (k, n) CTF², up to a constant.
        score: how well the images follow it.
        suspect: what is wrong in the table if this CTF is right.
    """

    predicted: FloatArray
    score: float
    suspect: str


class _Comparison:
    """Compares the recorded CTF and others with the same particles."""

    def __init__(self, sample: Sample, pixel_size: float) -> None:
        self.sample, self.pixel_size = sample, pixel_size
        self.jackknife = Jackknife.of(sample.optics)
        self.scores = sample.scan(_SCALES)
        self.best_scale, self.uncertainty = self._best_scale(float(_SCALES[np.argmax(self.scores)]) * (1 + _NEARBY))

    def verdict(self, nothing: CtfCheck, quadrupoles: npt.NDArray[Any] | None) -> CtfCheck:
        """The check `nothing`, filled in."""
        accuracy = math.hypot(ALLOWANCE, max(3 * self.uncertainty, 2 * self._effect_of_background()))
        best, recorded_size, percent = (
            f"{self.best_scale * self.pixel_size:.4g} Å",
            f"{self.pixel_size:.4g} Å",
            f"±{100 * accuracy:.1f}%",
        )
        fitted = f"{best} per pixel (recorded {recorded_size}, {percent})"
        as_if = f"the pixel size, defocus or voltage (as if at {best} per pixel instead of {recorded_size}, {percent})"
        scale = self._model(self.sample.predicted(self.best_scale), as_if)
        phase = self._best_phase()
        units = self._units()
        significance = max(self._significance(model) for model in (scale, phase, *units))
        check = replace(nothing, pixel_sizes=_SCALES * self.pixel_size, scores=self.scores, significance=significance)
        if significance < _LEAST_SIGNIFICANCE:
            return unknown(check, "the images show too little of it. More particles may show more")
        check = replace(check, best_pixel_size=self.best_scale * self.pixel_size, uncertainty=self.uncertainty, accuracy=accuracy)
        is_near = abs(self.best_scale - 1) <= accuracy
        recorded = self._model(self.sample.recorded[0], "")
        allowed = scale if is_near else recorded
        models = [scale, phase, *units, *self._aberrations(scale)]
        top = max(models, key=lambda model: model.score)
        check = replace(check, rings=gather_rings(self.sample, top.predicted))
        better = [model for model in models if self._is_better(model, allowed)]
        if better:
            top = max(better, key=lambda model: model.score)
            suspects = [model for model in models if model is top or not self._is_better(top, model)]
            check = check if scale in suspects else replace(check, best_pixel_size=None, uncertainty=None, accuracy=None)
            return misfit(check, [model.suspect for model in suspects])
        if quadrupoles is not None and (axis := self._better_axis(quadrupoles)):
            return misfit(check, [axis])
        if accuracy > LEAST_ACCURACY:
            return unknown(check, f"it fits best at {fitted}, which is too uncertain")
        if not is_near:
            return unknown(check, f"it fits best at {fitted}, but hardly better than as recorded")
        return replace(check, verdict="fits", reason=f"The CTF fits at {fitted}.")

    def _best_scale(self, near: FloatArray) -> tuple[float, float]:
        """The best scale, interpolated between these neighbouring ones, and its standard deviation."""
        deviations, partitions = self.sample.deviations, self.jackknife.partitions
        scores, without = [], []
        # The prediction for a scale is as large as the sample, so only one is kept in memory.
        for scale in near.tolist():
            predicted = self.sample.predicted(scale)
            scores.append([score(deviations, predicted)])
            without.append([scores_without(deviations, predicted, blocks) for blocks in partitions])
        best_without = [_maxima(near, np.stack(scores)) for scores in zip(*without, strict=True)]
        return float(_maxima(near, np.array(scores))[0]), self.jackknife.deviation(best_without)

    def _effect_of_background(self) -> float:
        """How far the best scale moves, relative to itself, if only a constant is subtracted from each particle.

        A parabola over the shells also removes part of the rings, which matters where the images show only one or two.
        """
        near = self.best_scale * (1 + _AROUND)
        scores = [sample.scan(near) for sample in (self.sample, replace(self.sample, n_terms=1))]
        return abs(float(np.diff(_maxima(near, np.stack(scores, axis=1)))[0])) / self.best_scale

    def _model(self, predicted: FloatArray, suspect: str) -> _Model:
        return _Model(predicted, score(self.sample.deviations, predicted), suspect)

    def _without(self, model: _Model, blocks: Blocks) -> FloatArray:
        return scores_without(self.sample.deviations, model.predicted, blocks)

    def _is_better(self, model: _Model, other: _Model) -> bool:
        """Whether a model fits better than another one by more than chance explains."""
        gain = model.score - other.score
        return gain > 0 and self.jackknife.is_certain(
            gain, lambda blocks: self._without(model, blocks) - self._without(other, blocks)
        )

    def _best_phase(self) -> _Model:
        """The model with the best additional phase shift, of those that move rings."""
        cosine, sine = self.sample.recorded
        phase = float(_PHASES[np.argmax(phase_scores(self.sample.deviations, cosine, sine, _PHASES))])
        # CTF² has a period of 180°: 170° more is the same as 10° less.
        shift = np.degrees(phase if phase <= np.pi / 2 else phase - np.pi)
        return self._model(
            cosine * np.cos(2 * phase) + sine * np.sin(2 * phase),
            f"the phase shift (as if it were {abs(shift):.0f}° {'more' if shift > 0 else 'less'} than recorded)",
        )

    def _units(self) -> list[_Model]:
        """Models with defocus values that were stated in another unit: Å and nm differ by a factor of 10."""
        optics = self.sample.optics
        return [
            self._model(
                self.sample.predicted(
                    optics=replace(optics, defocus_u=optics.defocus_u * factor, defocus_v=optics.defocus_v * factor)
                ),
                f"the unit of the defocus (as if {what})",
            )
            for factor, what in _UNITS
        ]

    def _aberrations(self, best: _Model) -> Iterator[_Model]:
        """Models with other spherical aberrations, if these move rings that the images show."""
        sample = self.sample
        band = np.cumsum(np.clip(shell_scores(sample.deviations, best.predicted), 0, None))
        edge = sample.frequencies[[int(np.searchsorted(band, _BAND * band[-1]))]]
        recorded = phases(sample.optics, edge)
        for aberration in _ABERRATIONS:
            optics = replace(sample.optics, spherical_aberration=np.full(len(sample.optics), aberration))
            if np.abs(phases(optics, edge) - recorded).max() > _TOLERATED_PHASE:
                yield self._model(sample.predicted(optics=optics), f"the spherical aberration (as if it were {aberration:g} mm)")

    def _better_axis(self, quadrupoles: npt.NDArray[np.complexfloating[Any, Any]]) -> str:
        """A suspect that names another axis of astigmatism, if it fits better than the stated one; else ''."""
        deviations = _as_shells(quadrupoles.T)
        deviations -= deviations.mean(axis=1, keepdims=True)

        angle, expected = self.sample.optics.defocus_angle, shell_quadrupoles(self.sample.optics, self.sample.frequencies)

        def model(turned: FloatArray, suspect: str) -> _Model:
            predicted = _as_shells(expected * np.exp(2j * (turned - angle)))
            return _Model(predicted, score(deviations, predicted), suspect)

        stated = model(angle, "")
        others = [model(turned(angle), suspect) for suspect, turned in _AXES]
        best = max(others, key=lambda other: other.score)

        def gains_without(blocks: Blocks) -> FloatArray:
            return scores_without(deviations, best.predicted, blocks) - scores_without(deviations, stated.predicted, blocks)

        certain = self.jackknife.is_certain(best.score - stated.score, gains_without)
        return f"the axis of astigmatism ({best.suspect})" if certain else ""

    def _significance(self, model: _Model) -> float:
        """The score minus the mean score of shuffled CTFs, in standard deviations of these; 0 if they all have the same score."""
        rng = np.random.default_rng(0)
        orders = [rng.permutation(len(self.sample.optics)) for _ in range(_SHUFFLES)]
        shuffled = shuffled_scores(self.sample.deviations, model.predicted, orders)
        deviation = float(np.std(shuffled))
        return float(model.score - np.mean(shuffled)) / deviation if deviation > 0 else 0.0


def _as_shells(values: npt.NDArray[np.complexfloating[Any, Any]]) -> FloatArray:
    """Real and imaginary parts of (k, n) values as twice as many shells: (2 k, n)."""
    return np.concatenate([values.real, values.imag]).astype(np.float64)


def _maxima(x: FloatArray, scores: FloatArray) -> FloatArray:
    """(n_curves,) maxima of (m, n_curves) scores, each interpolated with a parabola through the largest score and its neighbours."""
    curves = np.arange(scores.shape[1])
    top = np.clip(np.argmax(scores, axis=0), 1, len(x) - 2)
    before, at, after = (scores[top + step, curves] for step in (-1, 0, 1))
    curvature = before - 2 * at + after
    offset = np.divide(before - after, 2 * curvature, out=np.zeros(len(curves)), where=curvature < 0)
    return np.asarray(x[top] + np.clip(offset, -1, 1) * (x[1] - x[0]))
