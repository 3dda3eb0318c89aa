"""Particles of a table, with images from the image files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cryolike_dask.browse.tiles import Browsed, TileForm, Tiles, shown_and_unseen
from cryolike_dask.conversion import Conversion
from cryolike_dask.execution.chunks import convert_chunks
from cryolike_dask.metadata.image_descriptor import ImageDescriptor
from cryolike_dask.particles.image_grid import find_image_grid
from cryolike_dask.particles.table import ParticleTable
from cryolike_dask.planning.plan import Plan
from cryolike_dask.progress import Progress
from cryolike_dask.settings import ConversionSettings
from cryolike_dask.transform.cpu import say_if_compiling
from cryolike_dask.transform.interface import TransformedImages

_AT_ONCE = 256  # images in memory, however many the page shows
_N_INPLANES = 16  # few, because the transforms are not used


def browse_table(
    particles: ParticleTable,
    params: ImageDescriptor | str | Path | None,
    settings: ConversionSettings,
    low_pass: float,
    size: int,
    progress: Progress,
) -> Browsed:
    """The chosen particles of a table.

    Args:
        particles: the table as it was read.
        params: image descriptor, or its path; None takes box and pixel size from the table or the image headers.
        settings: settings of the reading, and `where`, `ind`, `sample` and `seed`.
        low_pass, size: see `TileForm.of_images`.
        progress: informed of how many tiles are made.

    Raises:
        InputError: see `Conversion`.
    """
    shown, unseen = shown_and_unseen(particles, settings)
    if params is None:
        params = find_image_grid(particles.take(np.concatenate([shown, unseen])), settings).descriptor()
    stated = ImageDescriptor.ensure(params)
    if settings.axes == "cryolike":
        # Tiles look the same whichever axis is x. With axes='relion', planning does not warn about the axes of the astigmatism.
        stated = replace(stated, n_pixels=stated.n_pixels[::-1], pixel_size=stated.pixel_size[::-1])
        settings = replace(settings, axes="relion")
    plan = _plan(particles.take(shown), stated, settings, low_pass)
    form = TileForm.of_images(plan.descriptor, low_pass, size, settings.axes)
    return Browsed(
        table=plan.table,
        rows=shown[_places(particles.take(shown), plan.table)],
        unseen=unseen,
        rows_of="Rows are those of the table as it is read, counted from 0.",
        form=form,
        tiles=lambda: _tiles(plan, form, progress),
        warnings=tuple(plan.warnings),
    )


def _plan(particles: ParticleTable, stated: ImageDescriptor, settings: ConversionSettings, low_pass: float) -> Plan:
    """The plan for reading the images. Its polar grid is as small as possible, because the transforms are not used."""
    n_pixels = min(stated.n_pixels)
    factor = min(1.0, max(2.5 * stated.pixel_size[0] / low_pass, 4 / n_pixels))
    descriptor = ImageDescriptor.from_individual_values(
        stated.n_pixels, stated.pixel_size, resolution_factor=factor, n_inplanes=_N_INPLANES
    )
    here = replace(
        settings, where="", ind=None, sample=None, seed=0, batch_size=_AT_ONCE, n_stacks_max=-1, device="cpu", output_format="pt"
    )
    return Conversion(particles, descriptor, **vars(here)).plan


def _places(chosen: ParticleTable, planned: ParticleTable) -> npt.NDArray[np.int64]:
    """Position of each planned particle among the chosen ones. Planning may leave out particles, or change their order."""

    def key(table: ParticleTable) -> npt.NDArray[np.int64]:
        return np.asarray((table["source"].astype(np.int64) << 40) + table["row"])

    order = np.argsort(key(chosen), kind="stable")
    return np.asarray(order[np.searchsorted(key(chosen), key(planned), sorter=order)])


def _tiles(plan: Plan, form: TileForm, progress: Progress) -> Iterator[Tiles]:
    say_if_compiling(progress.step)
    for counter in range(plan.n_stacks):
        stack = plan.stack(counter)
        shape = form.shape[::-1] if form.transposed else form.shape
        grey, power = np.zeros((len(stack), *shape), dtype=np.uint8), np.zeros(len(stack))

        def keep(
            _: int,
            positions: npt.NDArray[np.int64],
            images: TransformedImages,
            grey: npt.NDArray[np.uint8] = grey,
            power: npt.NDArray[np.float64] = power,
            pixel_size: tuple[float, float] = stack.descriptor.pixel_size,
        ) -> None:
            tiles = form.of_physical(images.physical, pixel_size)
            grey[positions], power[positions] = tiles.grey, tiles.power

        progress.step("Reading images", int(plan.bounds[counter, 0]), plan.n_images)
        convert_chunks(stack, keep, None)
        yield Tiles(grey, power)
