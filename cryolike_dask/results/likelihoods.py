"""Chooses the structure of each particle by its likelihoods."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cryolike_dask.errors import InputError
from cryolike_dask.results.files import LIKELIHOODS, Results

FloatArray = npt.NDArray[np.float64]
NO_STRUCTURE = -1
"""Position that means that no structure can be chosen."""


@dataclass(frozen=True)
class StructureChoice:
    """The best structure of each particle.

    Args:
        by: the likelihood that was compared.
        best: (n,) position of the structure in `Results.structures`; NO_STRUCTURE if a likelihood is not a number.
        posterior: (n, n_structures) probabilities with equal priors; NaN if there is no best structure.
    """

    by: str
    best: npt.NDArray[np.int64]
    posterior: FloatArray


def constant_likelihoods(results: Results) -> dict[str, float]:
    """Likelihoods that have the same value for all particles and structures, which means that they were not computed."""
    found = {}
    for name in LIKELIHOODS:
        values = np.concatenate([*results.scores.get(name, {}).values(), np.empty(0)])
        if len(values) > 1 and (values == values[0]).all():
            found[name] = float(values[0])
    return found


def choose_structure(results: Results) -> StructureChoice:
    """Compare the structures by the first likelihood that was computed for all of them.

    Raises:
        InputError: no likelihood was computed for all structures.
    """
    not_computed = constant_likelihoods(results)
    for name in LIKELIHOODS:
        of_structure = results.scores.get(name, {})
        if len(of_structure) == len(results.structures) and name not in not_computed:
            values = np.stack([of_structure[number] for number in results.structures], axis=1)  # (n, n_structures)
            return StructureChoice(name, *posterior_of_structures(values))
    there = "; ".join(
        f"template{number}: {', '.join(name for name in LIKELIHOODS if number in results.scores.get(name, {})) or 'none'}"
        for number in results.structures
    )
    equal = "".join(f" The {name} ones are all {value:g}, so they were not computed." for name, value in not_computed.items())
    raise InputError(
        f"{results.folder}: there is no log-likelihood that all structures have, so they cannot be compared ({there}).{equal} Run "
        "CryoLike's likelihood for each of them with return_likelihood_optimal_pose_fourier=True."
    )


def posterior_of_structures(log_likelihood: FloatArray) -> tuple[npt.NDArray[np.int64], FloatArray]:
    """The most probable structure, and the probabilities of all of them, with equal priors.

    Args:
        log_likelihood: (n, n_structures).

    Returns:
        (n,) position of the best structure and (n, n_structures) probabilities. If a log-likelihood is NaN or plus infinity, they are
        NO_STRUCTURE and NaN; minus infinity means probability 0.
    """
    largest = log_likelihood.max(axis=1)  # NaN if any is NaN
    known = np.isfinite(largest)
    # The largest is subtracted before the exponential, because log-likelihoods are in the thousands.
    ratio = np.exp(np.where(known[:, None], log_likelihood, 0.0) - np.where(known, largest, 0.0)[:, None])
    posterior = np.where(known[:, None], ratio / ratio.sum(axis=1, keepdims=True), np.nan)
    return np.where(known, ratio.argmax(axis=1), NO_STRUCTURE), posterior
