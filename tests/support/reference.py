"""Reference values, and the folder of particle sets that cannot be distributed. tests/reference/README.md describes both."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.support.independent_reader import read_arrays

REFERENCE = Path(__file__).resolve().parents[1] / "reference"
PARTICLES48 = REFERENCE / "particles48"
INPUT = PARTICLES48 / "input"

_VARIABLE = "CRYOLIKE_DASK_TEST_DATA"
_folder = os.environ.get(_VARIABLE, "")
DATA = Path(_folder).resolve()
"""Only for tests that are marked with `needs_data`. If the folder lacks a file, the test fails."""
needs_data = pytest.mark.skipif(
    not _folder, reason=f"{_VARIABLE} names no folder with the real particle sets (tests/reference/README.md)"
)


def params_file(case: str) -> Path:
    """The parameter file of a case, written by CryoLike."""
    return PARTICLES48 / case / "params.npz"


def published(case: str, name: str) -> dict[str, npt.NDArray[Any]]:
    """CryoLike's results for `particles48`, stack after stack.

    CryoLike's images were the same bytes for all kinds of input, and its real-space images were the same for all cases without
    downsampling. They are stored once, with the case 'single'.
    """
    arrays = read_arrays(PARTICLES48 / case / f"{name}.npz")
    same = read_arrays(PARTICLES48 / "single" / "indexed_star.npz")
    if case == "single":
        arrays.setdefault("fourier", same["fourier"][: arrays["stack_sizes"].sum()])
    if name == "indexed_star":
        arrays.setdefault("phys", same["phys"])
    return arrays


def exact(case: str) -> npt.NDArray[np.complex128]:
    """(n, n_shells, n_inplanes) direct sum in double precision."""
    arrays = read_arrays(PARTICLES48 / case / "exact.npz")
    stored = arrays["fourier"].astype(np.complex128)
    # Images are real, so with an even number of angles the second half is the conjugate of the first.
    return np.concatenate((stored, stored.conj()), axis=2) if arrays["is_half"] else stored


def write_job(folder: Path) -> Path:
    """Make a cryoSPARC folder with job J2, whose batches are the images of A, B and C."""
    job = folder / "J2"
    (job / "restack").mkdir(parents=True)
    shutil.copy(INPUT / "J2_passthrough_particles.cs", job)
    for number, name in enumerate("ABC"):
        shutil.copy(INPUT / "mrc" / f"{name}.mrcs", job / "restack" / f"batch_{number:06d}_restacked.mrc")
    return folder
