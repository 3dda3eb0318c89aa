"""Reads the headers of the image files; particles whose file is missing are refused or left out."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import replace

import numpy as np

from cryolike_dask.errors import MissingFileError
from cryolike_dask.formatting import first_few, is_or_are, plural
from cryolike_dask.mrc.header import ImageFile, scan_headers
from cryolike_dask.particles.image_paths import give_folder
from cryolike_dask.particles.table import ParticleTable
from cryolike_dask.planning.checks import table_names
from cryolike_dask.settings import ConversionSettings

FILE_IS_MISSING = "the image file is missing"
"""End of the lines in `ParticleTable.skipped`."""

_MAX_LISTED = 10

logger = logging.getLogger(__name__)


def read_headers(table: ParticleTable, settings: ConversionSettings) -> tuple[ParticleTable, tuple[ImageFile | None, ...], str]:
    """Read the headers of the files that are needed.

    Returns:
        the particles that will be converted, possibly more than `n_stacks_max` allows;
        headers, aligned with `table.files`, None where no particle is left;
        SHA-256 of all particles that have an image file and of the paths of their files, including those beyond `n_stacks_max`.

    Raises:
        InputError: a file is not an MRC file.
        MissingFileError: files are missing, and the settings do not allow that or no particle is left.
    """
    if settings.on_missing == "skip":
        headers = dict(enumerate(scan_headers(table.files)))
        table = _without_missing(table, headers)
        particles = _digest(table)
    else:
        particles = _digest(table)
        table = table.take(slice(0, _rows_within_limit(table, settings)))
        used = np.unique(table["file"])
        headers = dict(zip(used.tolist(), scan_headers([table.files[i] for i in used]), strict=True))
        _check_none_missing(table, headers)
    return table, tuple(headers.get(position) for position in range(len(table.files))), particles


def _digest(table: ParticleTable) -> str:
    digest = hashlib.sha256(np.ascontiguousarray(table.rows).view(np.uint8).data)
    digest.update("\0".join(table.files).encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _rows_within_limit(table: ParticleTable, settings: ConversionSettings) -> int:
    """The largest number of rows that `n_stacks_max` stacks can need. The inputs of further rows need not exist yet."""
    if settings.n_stacks_max < 0:
        return len(table)
    return min(len(table), settings.n_stacks_max * settings.batch_size)


def _missing(table: ParticleTable, headers: dict[int, ImageFile | None]) -> list[int]:
    return [position for position in np.unique(table["file"]).tolist() if headers[position] is None]


def _check_none_missing(table: ParticleTable, headers: dict[int, ImageFile | None]) -> None:
    """Refuse particles whose image file cannot be found.

    Args:
        headers: by position in `table.files`; None where there is no such file.
    """
    missing = _missing(table, headers)
    if not missing:
        return
    paths = _log_missing(table, missing)
    first = int(np.flatnonzero(table["file"] == missing[0])[0])
    kinds = {table.sources[position].kind for position in np.unique(table["source"][np.isin(table["file"], missing)]).tolist()}
    if kinds == {"paired"}:
        what = f"{plural(len(missing), 'image file')} of the pairs cannot be found. Check the paths in particle_file_list (--mrc)"
    else:
        what = (
            f"{table_names(table)}: {plural(len(missing), 'image file')} named there cannot be found (first for particle "
            f"{int(table['row'][first]) + 1}). {give_folder(kinds)}"
        )
    names = "".join(f"\n  {path}" for path in paths[:_MAX_LISTED])
    more = f"\n  and {len(paths) - _MAX_LISTED:,} more: --debug lists all" if len(paths) > _MAX_LISTED else ""
    raise MissingFileError(f"{what}, or leave out such particles with on_missing='skip' (--on-missing skip).{names}{more}", paths)


def _without_missing(table: ParticleTable, headers: dict[int, ImageFile | None]) -> ParticleTable:
    """The particles whose image file can be found; the others are noted as skipped, one line each."""
    missing = _missing(table, headers)
    if not missing:
        return table
    paths = _log_missing(table, missing)
    without_file = np.isin(table["file"], missing)
    if without_file.all():
        what = "the image file" if len(missing) == 1 else f"none of the {len(missing):,} image files"
        found = "cannot be found" if len(missing) == 1 else "can be found"
        raise MissingFileError(
            f"{table_names(table)}: {what} named there {found}: {first_few(paths, _MAX_LISTED)}. Check their paths or folder.",
            paths,
        )
    skipped = tuple(f"{table.where(int(row))}: {FILE_IS_MISSING}" for row in np.flatnonzero(without_file))
    line = (
        f"{int(without_file.sum()):,} of {len(table):,} particles are left out: {plural(len(missing), 'image file')} "
        f"{is_or_are(len(missing))} missing ({first_few(paths, _MAX_LISTED)})."
    )
    return replace(table, rows=table.rows[~without_file], skipped=(*table.skipped, *skipped), warnings=(*table.warnings, line))


def _log_missing(table: ParticleTable, missing: list[int]) -> list[str]:
    """Log the paths of these files, and return them."""
    paths = [table.files[position] for position in missing]
    for path in paths:
        logger.debug("Missing: %s", path)
    return paths
