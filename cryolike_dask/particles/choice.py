"""Applies `where`, `ind` and `sample`, which choose the particles of a run, to every kind of input."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from cryolike_dask.errors import InputError
from cryolike_dask.formatting import first_few, plural
from cryolike_dask.particles.query import meets_condition
from cryolike_dask.particles.row_file import check_rows, read_row_file
from cryolike_dask.particles.table import ParticleTable, check_particles
from cryolike_dask.settings import ConversionSettings

logger = logging.getLogger(__name__)


def choose_particles(table: ParticleTable, settings: ConversionSettings) -> tuple[ParticleTable, ConversionSettings]:
    """The particles that the settings choose, in the order of the table; see `choose_rows`.

    Raises:
        InputError: `table` is not a ParticleTable, or `choose_rows` refuses the settings.
    """
    table = check_particles(table)
    if not settings.chooses:
        return table, settings
    left, settings = choose_rows(table, settings)
    return table.take(left), settings


def choose_rows(table: ParticleTable, settings: ConversionSettings) -> tuple[npt.NDArray[np.int64], ConversionSettings]:
    """The rows of the table that the settings choose.

    Rows must satisfy both `where` and `ind`; `sample` draws from these rows.

    Args:
        table: all particles, in the order in which they were read.
        settings: settings of the run.

    Returns:
        (k,) positions in the table, ascending; and the settings as they are recorded, where the number and the checksum of the rows
        replace `ind`.

    Raises:
        InputError: the condition or the rows do not fit the table, or no particle is left.
    """
    chosen = np.ones(len(table), dtype=bool)
    by = []
    if settings.where:
        chosen &= meets_condition(table, settings.where)
        by.append(f"where {settings.where}")
    if settings.ind is not None:
        rows = _rows(settings.ind, len(table))
        given = settings.ind if isinstance(settings.ind, str) else "an array"
        digest = hashlib.sha256(rows.astype("<i8").tobytes()).hexdigest()
        settings = replace(settings, ind=f"{given} ({plural(len(rows), 'row')}, SHA-256 {digest})")
        chosen &= np.isin(np.arange(len(table)), rows)
        by.append(f"the {plural(len(rows), 'row')} of {given}")
    left = np.flatnonzero(chosen)
    if not len(left):
        names = first_few(list(dict.fromkeys(source.table for source in table.sources)), 3)
        raise InputError(f"No particle is left of the {len(table):,} in {names} after choosing {' and '.join(by)}.")
    if settings.sample is not None:
        left = left[draw(len(left), settings.sample, settings.seed)]
        by.append(f"a sample of {settings.sample:,} with the seed {settings.seed}")
    if by:
        logger.info("%s of %s chosen: %s.", f"{len(left):,}", plural(len(table), "particle"), ", ".join(by))
    return left, settings


def check_seed_is_used(settings: ConversionSettings) -> None:
    """Refuse a seed without a sample, which would choose nothing.

    Raises:
        InputError: there is one.
    """
    if settings.seed and settings.sample is None:
        raise InputError(
            f"seed (--seed) is {settings.seed}, but no sample is drawn: give the number of particles to draw as sample (--sample), or "
            "leave out the seed."
        )


def draw(n: int, k: int, seed: int) -> npt.NDArray[np.int64]:
    """Draw k of n positions at random: (k,), ascending. The same arguments give the same positions in every version.

    Each position gets 64 bits from the stream of PCG64, and the positions with the smallest numbers are drawn. NumPy guarantees that this
    stream never changes, but does not guarantee that for `Generator.choice`. A larger sample contains every smaller one.

    Raises:
        InputError: k is larger than n.
    """
    if k > n:
        raise InputError(
            f"sample (--sample) is {k:,}, but there {'is' if n == 1 else 'are'} {plural(n, 'particle')} to choose from: give at most {n:,}."
        )
    keys = np.random.PCG64(seed).random_raw(n)
    return np.sort(np.argsort(keys, kind="stable")[:k])


def _rows(ind: str | tuple[int, ...], n: int) -> npt.NDArray[np.int64]:
    if isinstance(ind, str):
        return read_row_file(ind, n)
    fits = all(-(2**63) <= row < 2**63 for row in ind)
    return check_rows(np.array(ind, dtype=bool if isinstance(ind[0], bool) else np.int64 if fits else object), n)
