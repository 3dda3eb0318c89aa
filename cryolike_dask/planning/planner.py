"""From particles and settings to a plan: all decisions and checks that are possible before the first pixel is read.

`make_plan` calls the steps in their order; each is in a module of its own. Planning reads only image headers, and writes nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from cryolike_dask.errors import InputError
from cryolike_dask.metadata.image_descriptor import ImageDescriptor
from cryolike_dask.mrc.header import ImageFile
from cryolike_dask.particles.image_grid import find_image_grid
from cryolike_dask.particles.table import ParticleTable
from cryolike_dask.planning.checks import (
    check_boxes,
    check_contrast,
    check_image_sizes,
    check_indexes,
    check_origins,
    check_origins_inside,
    duplicate_particles,
    table_names,
)
from cryolike_dask.planning.grids_in_force import Grids, decide_grids
from cryolike_dask.planning.headers import read_headers
from cryolike_dask.planning.optics import astigmatism_warnings, check_mixed_optics
from cryolike_dask.planning.pixel_sizes import decide_pixel_sizes, with_origins_in_angstrom
from cryolike_dask.planning.plan import Plan
from cryolike_dask.planning.row_order import in_output_order
from cryolike_dask.planning.stack_bounds import cut_into_stacks, offsets_in_files
from cryolike_dask.settings import ConversionSettings

logger = logging.getLogger(__name__)


def make_plan(table: ParticleTable, descriptor: ImageDescriptor | None, settings: ConversionSettings) -> Plan:
    """Assign images to stacks, and check everything in tables and headers.

    Args:
        table: particles in the order of the input.
        descriptor: as the user gave it; None to take it from tables and headers.
        settings: of the run.

    Raises:
        InputError: the inputs contradict each other or the settings, or files are missing.
    """
    if not len(table):
        raise InputError(f"{table_names(table)}: there are no particles to convert.")
    check_contrast(table, settings)
    check_origins(table, settings)
    table = in_output_order(table, settings)
    table, files, particles = read_headers(table, settings)
    check_indexes(table, files)
    box_warnings = check_boxes(table, files)
    check_image_sizes(table, files)
    sizes = decide_pixel_sizes(table, files, settings)
    given = descriptor is not None
    if descriptor is None:
        descriptor = find_image_grid(table, settings, files).descriptor()
    check_mixed_optics(table, settings, sizes.stated)
    grids = decide_grids(table, files, descriptor, settings, sizes)
    table = with_origins_in_angstrom(table, grids.source_pixel_size, settings)
    check_origins_inside(table, files, grids.source_pixel_size, settings)
    bounds = cut_into_stacks(table, settings, grids.pixel_size)
    warnings = (
        *table.warnings,
        *box_warnings,
        *duplicate_particles(table.take(slice(0, int(bounds[-1, 1])))),
        *sizes.warnings,
        *grids.warnings,
        *astigmatism_warnings(table, settings),
    )
    for line in warnings:
        logger.warning(line)
    pixel_size_from = _pixel_size_from(sizes.taken_from, grids, descriptor)
    if given:
        logger.info("Pixel size %g Å, taken from the %s.", grids.descriptor.pixel_size[0], pixel_size_from)
    return Plan(
        table=table.take(slice(0, int(bounds[-1, 1]))),
        files=files,
        descriptor=grids.descriptor,
        pixel_size_from=pixel_size_from,
        settings=settings,
        bounds=bounds,
        pixel_size=grids.pixel_size[bounds[:, 0]],
        file_offsets=offsets_in_files(table, settings, bounds),
        warnings=warnings,
        particles=particles,
    )


def _pixel_size_from(place: str, grids: Grids, given: ImageDescriptor) -> str:
    """The place where the pixel size was found, as a phrase; with the value there if it was downsampled."""
    source, written = float(grids.source_pixel_size[0]), grids.descriptor.pixel_size[0]
    if source == written or (place == "descriptor" and given.pixel_size[0] == written):
        return place
    return f"{place} ({source:g} Å), downsampled by {written / source:.4g}"


def plan_restacking(
    table: ParticleTable,
    files: Sequence[ImageFile | None],
    descriptor: ImageDescriptor,
    settings: ConversionSettings,
    pixel_size: npt.NDArray[np.float64],
    particles: str,
) -> Plan:
    """The plan of new stacks from particles that were converted before.

    Args:
        table: the particles, in output order.
        files: of the particles, aligned with `table.files`.
        descriptor: of the images as they were written.
        settings: of the new stacks.
        pixel_size: (n,) Å of each image as it was written.
        particles: see `Plan`; that of the earlier conversion.

    Raises:
        InputError: the settings do not fit the particles.
    """
    check_mixed_optics(table, settings, pixel_size)
    bounds = cut_into_stacks(table, settings, pixel_size)
    return Plan(
        table=table,
        files=tuple(files),
        descriptor=descriptor,
        pixel_size_from="stacks",
        settings=settings,
        bounds=bounds,
        pixel_size=pixel_size[bounds[:, 0]],
        file_offsets=offsets_in_files(table, settings, bounds),
        warnings=table.warnings,
        particles=particles,
    )
