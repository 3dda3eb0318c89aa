"""The plan of a conversion: the stacks to be made, and everything that a worker needs to make one of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from cryolike_dask.metadata.image_descriptor import ImageDescriptor
from cryolike_dask.mrc.boxes import BoxCut
from cryolike_dask.mrc.header import ImageFile
from cryolike_dask.particles.table import ParticleTable, Source, particle_label
from cryolike_dask.settings import ConversionSettings, fingerprint

_FORMAT = 4  # of the output; with another number, older output counts as another run


@dataclass(frozen=True)
class StackPlan:
    """Everything that a worker needs to make one stack.

    Args:
        counter: number of the stack.
        rows: (n,) particles in the order of the stack, PARTICLE_DTYPE.
        files: headers, by the numbers in `rows['file']`.
        sources: tables, by the numbers in `rows['source']`.
        descriptor: of this stack's images as written.
        settings: of the run.
        fingerprint: of the run.
        file_offset: position of the first image among those of its file if files are never combined; else None.
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

    def shifts(self) -> npt.NDArray[np.float64] | None:
        """(n, 2) shifts in x and y, in pixels as written, that centre the particles; None if images are not moved."""
        if not self.settings.apply_origins:
            return None
        in_column_index, in_row_index = self.rows["origin_x"], self.rows["origin_y"]
        x, y = (in_column_index, in_row_index) if self.settings.axes == "relion" else (in_row_index, in_column_index)
        return np.stack([x, y], axis=1) / self.descriptor.pixel_size

    def where(self, position: int) -> str:
        """The name of the particle at this position of the stack, for messages."""
        row = self.rows[position]
        return particle_label(row, self.sources[row["source"]], self.files[int(row["file"])].path)


@dataclass(frozen=True)
class Plan:
    """Stacks to be made from particles.

    Args:
        table: the particles that will be converted, in output order.
        files: headers, aligned with `table.files`; None where no particle is left.
        descriptor: in force, of the images as written.
        pixel_size_from: the place where the pixel size in force was found, such as 'table'.
        settings: of the run.
        bounds: (n_stacks, 2) first row of each stack and the row after its last.
        pixel_size: (n_stacks,) Å of each stack's images as written.
        file_offsets: (n_stacks,) see StackPlan.file_offset, -1 for None; empty if all are None.
        warnings: what the user should know.
        particles: SHA-256 of all particles and the paths of their files, including those that n_stacks_max leaves out.
        command: shell command that repeats the run; '' if it was started in Python.
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
    command: str = ""

    @property
    def n_stacks(self) -> int:
        return len(self.bounds)

    @property
    def n_images(self) -> int:
        return len(self.table)

    @property
    def image_bytes(self) -> int:
        """Bytes written for one image, without metadata."""
        grid, (n_x, n_y) = self.descriptor.polar_grid, self.descriptor.n_pixels
        physical = 4 * n_x * n_y if self.settings.save_phys else 0
        return grid.n_points * self.descriptor.complex_dtype.itemsize + physical

    @property
    def source_box(self) -> tuple[int, int]:
        """Numbers of rows and columns of a source image."""
        row = self.table.rows[0]
        cut, file = self.table.sources[row["source"]].boxes, self._file(int(row["file"]))
        return (cut.size, cut.size) if cut else (file.n_rows, file.n_columns)

    def recorded_settings(self) -> dict[str, Any]:
        """All settings by their names in Python: those of the run, and for boxes of micrographs those with which they are cut.

        If tables differ in a setting of boxes, its value is the list of their values.
        """
        of_boxes = [
            {"box_size": source.boxes.size, "edge": source.boxes.edge, "invert": source.boxes.invert} | source.options
            for source in self.table.sources
            if source.boxes is not None
        ]
        values = {name: [settings.get(name) for settings in of_boxes] for settings in of_boxes for name in settings}
        return asdict(self.settings) | {
            name: several[0] if several.count(several[0]) == len(several) else several for name, several in values.items()
        }

    def stack_sizes(self) -> npt.NDArray[np.int64]:
        """(n_stacks,) images of each stack."""
        return self.bounds[:, 1] - self.bounds[:, 0]

    def stack(self, counter: int) -> StackPlan:
        """The plan of one stack."""
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
            file_offset=offset_in_file(self.file_offsets, counter),
        )

    def _file(self, position: int) -> ImageFile:
        file = self.files[position]
        assert file is not None  # a planned particle's file was found
        return file

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Everything that the content of the stacks depends on, in parts that can be compared: settings, descriptor, particles.

        The manifest records sizes and times of the image files separately, so that a message can name a file that has changed.
        """
        return {
            "format": _FORMAT,
            "settings": self.settings.describing_output(),
            "descriptor": asdict(self.descriptor),
            "particles": self.particles,
            "sources": [_identity_of_source(source) for source in self.table.sources],
            "source_box": list(self.source_box),
        }

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of `identity`."""
        return fingerprint(self.identity)


def _identity_of_source(source: Source) -> dict[str, Any]:
    """The part of the identity about a table. Options with which it was read are left out, because the rows contain their effect."""
    values = asdict(source)
    del values["options"]
    return values


def offset_in_file(offsets: Sequence[int] | npt.NDArray[np.int64], counter: int) -> int | None:
    """The `file_offset` of a stack, from the `file_offsets` of a plan."""
    offset = int(offsets[counter]) if len(offsets) else -1
    return offset if offset >= 0 else None


def box_of_image(file: ImageFile, cut: BoxCut | None, settings: ConversionSettings) -> tuple[int, int]:
    """(n_x, n_y) of an image before downsampling, with x as the axes of the settings define it.

    Args:
        file: header of the image file.
        cut: how boxes are cut from it; None for a whole image.
        settings: with the axes.
    """
    rows, columns = (cut.size, cut.size) if cut else (file.n_rows, file.n_columns)
    return (columns, rows) if settings.axes == "relion" else (rows, columns)


def dark_images(sign: npt.NDArray[np.int8], settings: ConversionSettings) -> npt.NDArray[np.bool_]:
    """(n,) whether the pixels of an image are multiplied by -1, before anything else.

    Args:
        sign: (n,) of the images, as the table states it.
        settings: with the contrast.
    """
    return np.asarray(sign < 0) if settings.contrast == "auto" else np.full(len(sign), settings.contrast == "invert")


def stack_descriptor(descriptor: ImageDescriptor, pixel_size: float) -> ImageDescriptor:
    """The descriptor of one stack: the run's own, verbatim, unless its optics group has another pixel size."""
    if pixel_size == descriptor.pixel_size[0]:
        return descriptor
    return replace(descriptor, pixel_size=(pixel_size, pixel_size))
