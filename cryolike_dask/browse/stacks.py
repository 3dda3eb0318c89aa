"""Particles of a finished conversion, with images from its stacks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cryolike_dask.browse.tiles import Browsed, TileForm, Tiles, shown_and_unseen
from cryolike_dask.errors import InputError
from cryolike_dask.formatting import in_both
from cryolike_dask.metadata.image_descriptor import ImageDescriptor
from cryolike_dask.particles.cryosparc.job import ORDER_NOT_VERIFIED
from cryolike_dask.particles.table import ParticleTable
from cryolike_dask.progress import Progress
from cryolike_dask.runs.stored_particles import StoredParticles, open_particles
from cryolike_dask.settings import ConversionSettings

_OF_IMAGES = (
    *("pixel_size", "override_pixel_size", "ignore_manual_pixel_size", "contrast", "apply_origins", "on_missing"),
    *("downsample_factor", "downsample_type", "downsample_to"),
)
"""Settings about how images are read, which have no effect on stacks."""
_SPECTRUM_BYTES = 32 << 20  # for the images that are filtered together


def browse_stacks(
    folder: str | Path,
    params: ImageDescriptor | str | Path | None,
    choice: ConversionSettings,
    low_pass: float,
    size: int,
    progress: Progress,
) -> Browsed:
    """The chosen particles of an output folder.

    Args:
        folder: output folder of a complete conversion.
        params: must be None, because the stacks have an image descriptor.
        choice: settings; only `where`, `sample` and `seed` are used.
        low_pass, size: see `TileForm.of_images`.
        progress: informed of how many tiles are made.

    Raises:
        InputError: stacks are missing, or the settings choose rows by `ind`, or they or `params` say how to read images.
    """
    if choice.ind is not None:
        raise InputError(
            f"ind (--ind) chooses rows of a table, and {folder} holds stacks: choose by where or sample (--where, --sample), or browse "
            "the table."
        )
    usual = ConversionSettings()
    given = [name for name in _OF_IMAGES if getattr(choice, name) != getattr(usual, name)]
    if params is not None:
        given.insert(0, "params")
    if given:
        named = ", ".join(map(in_both, given))
        raise InputError(f"{folder} holds stacks, whose images are shown as they were written: leave out {named}.")
    stored = open_particles(folder)
    shown, unseen = shown_and_unseen(stored.table, choice)
    form = TileForm.of_images(stored.descriptor, low_pass, size, stored.identity["settings"]["axes"])
    rows, rows_of = _rows(folder, stored.table)
    return Browsed(
        table=stored.table.take(shown),
        rows=rows[shown],
        unseen=np.sort(rows[unseen]),
        rows_of=rows_of,
        form=form,
        tiles=lambda: _tiles(stored, shown, form, progress),
        warnings=(),
    )


def _rows(folder: str | Path, table: ParticleTable) -> tuple[npt.NDArray[np.int64], str]:
    """(n,) row numbers for `--ind`, and a sentence that says which table they refer to."""
    (source, *others) = table.sources
    # The rows of the input are not known in two cases: of a job directory, only rows with an image were read, and of several tables,
    # the lengths are not recorded.
    if not others and (source.kind != "cryosparc-job" or ORDER_NOT_VERIFIED in source.notes):
        return table["row"], f"Rows are those of {source.table} as it was converted, counted from 0."
    return (
        np.arange(len(table)),
        f"Rows are those of {Path(folder) / 'particles.star'}, counted from 0: convert this file with the rows that you save, because the "
        "stacks do not record which rows of their input these are.",
    )


def _tiles(stored: StoredParticles, shown: npt.NDArray[np.int64], form: TileForm, progress: Progress) -> Iterator[Tiles]:
    done, first = 0, 0
    n_x, n_y = stored.descriptor.n_pixels
    at_once = max(1, _SPECTRUM_BYTES // (16 * n_x * n_y))
    for counter, end in enumerate(stored.stack_ends.tolist()):
        places = shown[(shown >= first) & (shown < end)] - first
        if len(places):
            fourier, physical = stored.read(counter)
            descriptor = stored.descriptor.update_pixel_size(float(stored.pixel_size[first]))
        for start in range(0, len(places), at_once):
            progress.step("Reading images", done, len(shown))
            some = places[start : start + at_once]
            if physical is not None:
                yield form.of_physical(physical[some], descriptor.pixel_size)
            else:
                yield form.of_fourier(fourier[some], descriptor)
            done += len(some)
        first = end
