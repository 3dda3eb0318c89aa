"""From particles and settings to stacks: everything that can be decided, or found wrong, before the first pixel is read.

Planning reads image headers and nothing else, and writes nothing.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from cryolike_dask.errors import InputError
from cryolike_dask.metadata.image_descriptor import ImageDescriptor
from cryolike_dask.mrc.header import ImageFile, scan_headers
from cryolike_dask.particles.table import ParticleTable, Source, describe_particle
from cryolike_dask.planning.checks import refuse_missing, refuse_wrong_boxes, refuse_wrong_indexes, tables_of, without_missing
from cryolike_dask.planning.pixel_sizes import decide_grids, same_pixel_sizes, stack_descriptor
from cryolike_dask.settings import ConversionSettings, fingerprint

logger = logging.getLogger(__name__)

_LISTED = 200
_FORMAT = 2  # of the output; a change makes older output another run


@dataclass(frozen=True)
class StackPlan:
    """All that a worker needs to make one stack.

    Args:
        counter: number of the stack.
        rows: (n,) particles in the order of the stack, PARTICLE_DTYPE.
        files: headers by `rows['file']`.
        sources: by `rows['source']`.
        descriptor: of this stack's images as written.
        settings: of the run.
        fingerprint: of the run.
        file_offset: in never-combine mode, the position of the first image among those of its file; else None.
    """

    counter: int
    rows: npt.NDArray[np.void]
    files: dict[int, ImageFile]
    sources: tuple[Source, ...]
    descriptor: ImageDescriptor
    settings: ConversionSettings
    fingerprint: str
    file_offset: int | None

    def __len__(self) -> int:
        return len(self.rows)

    def where(self, position: int) -> str:
        """How to name the particle at this position of the stack in a message."""
        row = self.rows[position]
        return describe_particle(row, self.sources[row["source"]], self.files[int(row["file"])].path)


@dataclass(frozen=True)
class Plan:
    """Stacks to be made from particles.

    Args:
        table: the particles that will be converted, in output order.
        files: headers, aligned with `table.files`; None where no particle is left.
        descriptor: in force, of the images as written.
        pixel_size_from: where the pixel size in force was found.
        settings: of the run.
        bounds: (n_stacks, 2) first row of each stack and the row after its last.
        pixel_size: (n_stacks,) Angstrom of each stack's images as written.
        file_offsets: (n_stacks,) see StackPlan.file_offset; empty unless files are never combined.
        warnings: what the user should know.
        particles: SHA-256 of all particles and the paths of their files, also of those that n_stacks_max leaves out.
    """

    table: ParticleTable
    files: tuple[ImageFile | None, ...]
    descriptor: ImageDescriptor
    pixel_size_from: str
    settings: ConversionSettings
    bounds: npt.NDArray[np.int64]
    pixel_size: npt.NDArray[np.float64]
    file_offsets: npt.NDArray[np.int64]
    warnings: tuple[str, ...]
    particles: str

    @property
    def n_stacks(self) -> int:
        return len(self.bounds)

    @property
    def n_images(self) -> int:
        return len(self.table)

    @property
    def image_bytes(self) -> int:
        """Bytes written for one image, metadata apart."""
        grid, (n_x, n_y) = self.descriptor.polar_grid, self.descriptor.n_pixels
        physical = 4 * n_x * n_y if self.settings.save_phys else 0
        return grid.n_points * self.descriptor.complex_dtype.itemsize + physical

    def stack_sizes(self) -> npt.NDArray[np.int64]:
        """(n_stacks,) images of each stack."""
        return self.bounds[:, 1] - self.bounds[:, 0]

    def stack(self, counter: int) -> StackPlan:
        """What a worker needs for this stack."""
        first, last = self.bounds[counter]
        rows = self.table.rows[first:last]
        files = {int(position): self._file(int(position)) for position in np.unique(rows["file"])}
        return StackPlan(
            counter=counter,
            rows=rows,
            files=files,
            sources=self.table.sources,
            descriptor=stack_descriptor(self.descriptor, float(self.pixel_size[counter])),
            settings=self.settings,
            fingerprint=self.fingerprint,
            file_offset=int(self.file_offsets[counter]) if len(self.file_offsets) else None,
        )

    def _file(self, position: int) -> ImageFile:
        file = self.files[position]
        assert file is not None  # a planned particle's file was found
        return file

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What makes this run this run, in parts that a person can compare: settings, descriptor, particles.

        Sizes and times of the image files are recorded beside it, in the manifest, so that a changed one can be named.
        """
        return {
            "format": _FORMAT,
            "settings": self.settings.describing_output(),
            "descriptor": self.descriptor.to_dict(),
            "particles": self.particles,
            "sources": [asdict(source) for source in self.table.sources],
        }

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of `identity`."""
        return fingerprint(self.identity)


def make_plan(table: ParticleTable, descriptor: ImageDescriptor, settings: ConversionSettings) -> Plan:
    """Decide which image goes where, and check everything that tables and headers tell.

    Args:
        table: particles in the order of the metadata.
        descriptor: as the user gave it.
        settings: of the run.

    Raises:
        InputError: the inputs contradict each other or the settings, or files are missing.
    """
    if not len(table):
        raise InputError(f"{tables_of(table)}: there are no particles to convert.")
    table = _in_output_order(table, settings)
    if settings.on_missing == "skip":
        headers = dict(enumerate(scan_headers(table.files)))
        table = without_missing(table, headers)
        particles = _digest(table)
    else:
        particles = _digest(table)
        table = table.take(slice(0, _rows_within_limit(table, settings)))
        used = np.unique(table["file"])
        headers = dict(zip(used.tolist(), scan_headers([table.files[i] for i in used]), strict=True))
        refuse_missing(table, headers)
    files = tuple(headers.get(position) for position in range(len(table.files)))
    refuse_wrong_indexes(table, files)
    refuse_wrong_boxes(table, files)
    if settings.pixel_size is None:
        _breaks(table, settings, same_pixel_sizes(table["pixel_size"]))  # names the optics groups before grids are compared
    grids = decide_grids(table, files, descriptor, settings, one_box=not _never_combines(table, settings))
    bounds = _bounds(table, settings, grids.pixel_size)
    if settings.n_stacks_max > 0:
        bounds = bounds[: settings.n_stacks_max]
    n_rows = int(bounds[-1, 1])
    warnings = (*table.warnings, *grids.warnings)
    for line in warnings:
        logger.warning(line)
    logger.info("Pixel size %g A, taken from the %s.", grids.descriptor.pixel_size[0], grids.pixel_size_from)
    return Plan(
        table=table.take(slice(0, n_rows)),
        files=files,
        descriptor=grids.descriptor,
        pixel_size_from=grids.pixel_size_from,
        settings=settings,
        bounds=bounds,
        pixel_size=grids.pixel_size[bounds[:, 0]],
        file_offsets=_file_offsets(table, bounds) if _never_combines(table, settings) else np.empty(0, dtype=np.int64),
        warnings=warnings,
        particles=particles,
    )


def plan_restacking(
    table: ParticleTable,
    files: Sequence[ImageFile | None],
    descriptor: ImageDescriptor,
    settings: ConversionSettings,
    pixel_size: npt.NDArray[np.float64],
    particles: str,
) -> Plan:
    """Other stacks of particles that were converted before.

    Args:
        table: the particles, in output order.
        files: of the particles, aligned with `table.files`.
        descriptor: of the images as they were written.
        settings: of the new stacks.
        pixel_size: (n,) Angstrom of each image as it was written.
        particles: see `Plan`; as it was.

    Raises:
        InputError: the settings do not fit the particles.
    """
    bounds = _bounds(table, settings, pixel_size)
    return Plan(
        table=table,
        files=tuple(files),
        descriptor=descriptor,
        pixel_size_from="stacks",
        settings=settings,
        bounds=bounds,
        pixel_size=pixel_size[bounds[:, 0]],
        file_offsets=_file_offsets(table, bounds) if _never_combines(table, settings) else np.empty(0, dtype=np.int64),
        warnings=table.warnings,
        particles=particles,
    )


def _digest(table: ParticleTable) -> str:
    digest = hashlib.sha256(np.ascontiguousarray(table.rows).view(np.uint8).data)
    digest.update("\0".join(table.files).encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _never_combines(table: ParticleTable, settings: ConversionSettings) -> bool:
    chosen = settings.never_combine_input_files
    return any(source.kind == "paired" for source in table.sources) if chosen is None else chosen


def _in_output_order(table: ParticleTable, settings: ConversionSettings) -> ParticleTable:
    if settings.order == "file":
        rank = np.argsort(np.argsort(np.array(table.files)))
        return table.take(np.argsort(rank[table["file"]], kind="stable"))
    if _never_combines(table, settings):
        _, first_row, position = np.unique(_input_of_row(table), return_index=True, return_inverse=True)
        return table.take(np.argsort(first_row[position], kind="stable"))
    return table


def _input_of_row(table: ParticleTable) -> npt.NDArray[np.int64]:
    """(n,) equal where two particles come from one image file by way of one table."""
    return np.asarray(table["source"].astype(np.int64) * len(table.files) + table["file"])


def _breaks(
    table: ParticleTable, settings: ConversionSettings, pixel_size: npt.NDArray[np.float64] | None
) -> npt.NDArray[np.int64]:
    """Rows where a new stack must begin, 0 first.

    Raises:
        InputError: optics differ where a stack need not end.
    """
    rows = table.rows
    columns = [rows[name] for name in ("voltage", "spherical_aberration", "amplitude_contrast")]
    if pixel_size is not None:
        columns.append(pixel_size)
    optics = np.zeros(len(rows) - 1, dtype=bool)
    for column in columns:
        optics |= column[1:] != column[:-1]
    source = rows["source"][1:] != rows["source"][:-1]
    natural = np.diff(_input_of_row(table)) != 0 if _never_combines(table, settings) else np.zeros_like(source)
    if settings.mixed_optics == "raise" and (optics & ~natural & ~source).any():
        raise InputError(_mixed_optics_message(table, columns))
    return np.concatenate([[0], 1 + np.flatnonzero(natural | optics)])


def _bounds(
    table: ParticleTable, settings: ConversionSettings, pixel_size: npt.NDArray[np.float64] | None
) -> npt.NDArray[np.int64]:
    """(n_stacks, 2): each stretch between breaks cut into stacks of batch_size, its last one smaller."""
    begins = _breaks(table, settings, pixel_size)
    ends = np.append(begins[1:], len(table))
    counts = -(-(ends - begins) // settings.batch_size)
    stretch = np.repeat(np.arange(len(begins)), counts)
    number = np.arange(len(stretch)) - np.repeat(np.cumsum(counts) - counts, counts)
    first = begins[stretch] + number * settings.batch_size
    return np.stack([first, np.minimum(first + settings.batch_size, ends[stretch])], axis=1).astype(np.int64)


def _rows_within_limit(table: ParticleTable, settings: ConversionSettings) -> int:
    """How many rows n_stacks_max can need at most: the rest of the inputs need not even exist yet."""
    if settings.n_stacks_max < 0:
        return len(table)
    return min(len(table), settings.n_stacks_max * settings.batch_size)


def _file_offsets(table: ParticleTable, bounds: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    begins = np.concatenate([[0], 1 + np.flatnonzero(np.diff(_input_of_row(table)))])
    first = bounds[:, 0]
    return np.asarray(first - begins[np.searchsorted(begins, first, side="right") - 1], dtype=np.int64)


def _mixed_optics_message(table: ParticleTable, columns: Sequence[npt.NDArray[np.float64]]) -> str:
    values = np.stack(columns, axis=1)
    _, first, combination, counts = np.unique(values, axis=0, return_index=True, return_inverse=True, return_counts=True)
    names: list[dict[str, None]] = [{} for _ in first]
    for number, group in dict.fromkeys(zip(combination.ravel().tolist(), table["optics_group"].tolist(), strict=True)):
        names[number][table.optics_groups[group] or "unnamed"] = None
    lines = []
    for row, number in sorted(zip(first.tolist(), range(len(first)), strict=True)):
        voltage, aberration, contrast, *size = values[row]
        pixel = f", {size[0]:g} A a pixel" if size else ""
        lines.append(
            f"{', '.join(names[number])}: {voltage:g} kV, Cs {aberration:g} mm, contrast {contrast:g}{pixel} ({counts[number]:,} images)"
        )
    return (
        f"{tables_of(table)}: a stack holds one voltage, spherical aberration, amplitude contrast and pixel size, but the particles "
        f"have {len(lines)} combinations: {'; '.join(lines[:_LISTED])}. Convert the groups separately, or let a stack end where the "
        "group changes with mixed_optics='split' (--mixed-optics split)."
    )
