"""A summary of a plan in a few lines."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cryolike_dask.config import available_cores
from cryolike_dask.formatting import format_bytes, format_time, plural, printable
from cryolike_dask.html import render
from cryolike_dask.planning.plan import Plan
from cryolike_dask.planning.preflight import memory_per_thread


@dataclass(frozen=True)
class PlanSummary:
    """A plan in numbers.

    Args:
        folder: where stacks will go.
        n_images, n_stacks: that will be written.
        largest_stack: images of the largest stack.
        n_files: image files that will be read.
        bytes_read, bytes_written: of images, without metadata and pictures.
        memory_per_thread: bytes that each thread needs at most, without libraries.
        n_shells, n_inplanes: polar grid.
        finest_resolution: Å, at the outermost shell of the polar grid.
        pixel_size: Å, of the images as written.
        pixel_size_from: the place where it was found, such as 'table'.
        seconds: estimated time of the conversion on this machine; None before a calibration.
        skipped: one line for each particle that is left out.
        warnings: what the user should know.
    """

    folder: str
    n_images: int
    n_stacks: int
    largest_stack: int
    n_files: int
    bytes_read: int
    bytes_written: int
    memory_per_thread: int
    n_shells: int
    n_inplanes: int
    finest_resolution: float
    pixel_size: float
    pixel_size_from: str
    seconds: float | None
    skipped: tuple[str, ...]
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Everything as numbers and text, for JSON."""
        return asdict(self)

    @property
    def duration(self) -> str:
        """The result of the calibration in words."""
        if self.seconds is None:
            return "not calibrated"
        cores = available_cores()
        return f"about {format_time(self.seconds)} on {plural(cores, 'core')} of this machine"

    def __str__(self) -> str:
        left_out = f"; {plural(len(self.skipped), 'particle')} left out" if self.skipped else ""
        return (
            f"{plural(self.n_images, 'image')} ({format_bytes(self.bytes_read)}) of {plural(self.n_files, 'file')}{left_out}\n"
            f"to {plural(self.n_stacks, 'stack')} of at most {plural(self.largest_stack, 'image')} "
            f"({format_bytes(self.bytes_written)}) in {printable(str(self.folder))}\n"
            f"on {self.n_shells} shells × {self.n_inplanes} in-plane angles up to {self.finest_resolution:.3g} Å; "
            f"pixels of {self.pixel_size:g} Å, from the {self.pixel_size_from}"
            + (f"\n{self.duration}" if self.seconds is not None else "")
        )

    def _repr_html_(self) -> str:
        rows = {
            "images": f"{self.n_images:,}" + (f" ({len(self.skipped):,} left out)" if self.skipped else ""),
            "stacks": f"{self.n_stacks:,} of up to {plural(self.largest_stack, 'image')} each",
            "read": f"{format_bytes(self.bytes_read)} of {plural(self.n_files, 'file')}",
            "written": f"{format_bytes(self.bytes_written)} in {self.folder}",
            "memory": f"{format_bytes(self.memory_per_thread)} per thread",
            "time": self.duration,
            "polar grid": f"{self.n_shells} shells × {self.n_inplanes} in-plane angles up to {self.finest_resolution:.3g} Å",
            "pixel size": f"{self.pixel_size:g} Å, from the {self.pixel_size_from}",
        }
        return render("table", caption="Planned conversion", rows=rows, warnings=self.warnings)


def summarize_plan(plan: Plan, folder: Path, seconds: float | None = None) -> PlanSummary:
    """The plan in numbers. Nothing is read or written.

    Args:
        plan: of the conversion.
        folder: where stacks will go.
        seconds: estimated time, from a calibration.
    """
    position, count = np.unique(plan.table["file"], return_counts=True)
    files = [file for i in position if (file := plan.files[i]) is not None]
    descriptor, grid = plan.descriptor, plan.descriptor.polar_grid
    return PlanSummary(
        folder=str(folder),
        n_images=plan.n_images,
        n_stacks=plan.n_stacks,
        largest_stack=int(plan.stack_sizes().max()),
        n_files=len(files),
        bytes_read=sum(_bytes_read(plan, file.image_bytes, file.dtype, int(n)) for file, n in zip(files, count, strict=True)),
        bytes_written=plan.n_images * plan.image_bytes,
        memory_per_thread=memory_per_thread(plan),
        n_shells=grid.n_shells,
        n_inplanes=grid.n_inplanes,
        finest_resolution=min(descriptor.n_pixels) * descriptor.pixel_size[0] / (2 * descriptor.radius_max),
        pixel_size=descriptor.pixel_size[0],
        pixel_size_from=plan.pixel_size_from,
        seconds=seconds,
        skipped=plan.table.skipped,
        warnings=plan.warnings,
    )


def _bytes_read(plan: Plan, image_bytes: int, dtype: str, n: int) -> int:
    boxes = [source.boxes for source in plan.table.sources if source.boxes is not None]
    if not boxes:
        return n * image_bytes
    return n * boxes[0].size ** 2 * np.dtype(dtype).itemsize
