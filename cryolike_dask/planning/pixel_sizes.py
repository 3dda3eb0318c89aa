"""Which grids a conversion uses: the pixel size in force and the descriptor in force.

The rules, each of which is logged or an error, never silent:

- pixel size: the argument; else the table's; else the image headers', if believable; else the descriptor's;
- the descriptor may describe the images as they are written (after downsampling) or as they lie on disk;
- nothing is sampled beyond the Nyquist limit of the images that are written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from cryolike_dask.errors import InputError
from cryolike_dask.metadata.image_descriptor import ImageDescriptor
from cryolike_dask.mrc.header import ImageFile
from cryolike_dask.particles.table import ParticleTable
from cryolike_dask.settings import ConversionSettings

RELATIVE_TOLERANCE = 1e-4
"""Pixel sizes that differ by less are the same: tables round them."""


Origins = dict[str, npt.NDArray[np.bool_]]
"""The rows whose pixel size was found there, by the name of the place."""


@dataclass(frozen=True)
class Grids:
    """The outcome.

    Args:
        descriptor: in force, of the images as they are written.
        pixel_size_from: 'argument', 'table', 'image headers' or 'descriptor'; several where sources differ in what they state.
        pixel_size: (n,) Angstrom of each particle's image as written; equal to the descriptor's unless optics groups differ.
        warnings: what was derived or found to conflict.
    """

    descriptor: ImageDescriptor
    pixel_size_from: str
    pixel_size: npt.NDArray[np.float64]
    warnings: tuple[str, ...]


def decide_grids(
    table: ParticleTable,
    files: Sequence[ImageFile | None],
    descriptor: ImageDescriptor,
    settings: ConversionSettings,
    *,
    one_box: bool = True,
) -> Grids:
    """Apply the rules to these particles.

    Args:
        table: all particles of the run.
        files: headers, aligned with `table.files`; None where no particle is left.
        descriptor: as the user gave it.
        settings: with the pixel size argument and the downsampling.
        one_box: images of different files may share a stack, so that all must have one box size on disk.

    Raises:
        InputError: grids contradict each other; both sides are named.
    """
    warnings: list[str] = []
    describes_source = _fit_to_boxes(table, files, descriptor, settings.downsample_factor, one_box)
    factor = settings.downsample_factor
    source, origins = _pixel_size_of_rows(table, files, settings, warnings)
    own = descriptor.pixel_size[0] if describes_source else descriptor.pixel_size[0] / factor
    source = np.where(np.isnan(source), own, source)
    # An argument that is the descriptor's own value, but for rounding in a product, must not change the descriptor's float.
    if list(origins) == ["argument"] and not np.isclose(source[0], own, rtol=1e-9, atol=0):
        descriptor = descriptor.with_pixel_size(source[0] if describes_source else source[0] * factor)
    if describes_source and factor > 1:
        fine = descriptor
        descriptor = descriptor.downsampled(factor)
        warnings.append(
            f"The descriptor describes the images as they lie on disk ({_size(fine.n_pixels)} pixels of {fine.pixel_size[0]:g} A); "
            f"downsampling by {factor} gives {_size(descriptor.n_pixels)} pixels of {descriptor.pixel_size[0]:g} A and radius_max "
            f"{descriptor.radius_max:g} (was {fine.radius_max:g}). It is saved as params.npz in the output folder."
        )
    if descriptor.radius_max > descriptor.nyquist_radius * (1 + 1e-9):
        raise InputError(
            f"radius_max {descriptor.radius_max:g} of the descriptor lies beyond {descriptor.nyquist_radius:g}, the Nyquist limit "
            f"of images of {_size(descriptor.n_pixels)} pixels: shells out there hold aliases, no information. Make a descriptor with "
            "resolution_factor 1 or less."
        )
    written = np.full(len(table), descriptor.pixel_size[0])
    if list(origins) != ["descriptor"]:
        written = _compare_with_descriptor(table, source * factor, origins, descriptor, settings, warnings)
    return Grids(descriptor, " and ".join(origins), written, tuple(warnings))


def _fit_to_boxes(
    table: ParticleTable, files: Sequence[ImageFile | None], descriptor: ImageDescriptor, factor: int, one_box: bool
) -> bool:
    """Whether the descriptor describes the source grid. Every image must give the same box, and it must be the descriptor's."""
    boxes: dict[tuple[int, int], str] = {}
    cuts = [source.boxes for source in table.sources]
    for source_position, file_position in sorted(set(zip(table["source"].tolist(), table["file"].tolist(), strict=True))):
        cut, header = cuts[source_position], files[file_position]
        if header is None:
            continue
        if cut is not None:
            boxes.setdefault((cut.size, cut.size), f"boxes of {table.sources[source_position].table}")
        else:
            boxes.setdefault((header.n_rows, header.n_columns), header.path)
    written = {(box[0] // factor, box[1] // factor) for box in boxes}
    if len(written) > 1 or (one_box and len(boxes) > 1):
        found = "; ".join(f"{_size(box)} in {path}" for box, path in boxes.items())
        raise InputError(f"Images of different box sizes cannot be converted in one run: {found}. Convert each size on its own.")
    for box, path in boxes.items():
        if min(box) // factor < 2:
            raise InputError(
                f"Downsampling images of {_size(box)} pixels ({path}) by {factor} leaves nothing. Use a smaller factor."
            )
        if (box[0] // factor, box[1] // factor) != descriptor.n_pixels and not (factor > 1 and box == descriptor.n_pixels):
            after = f", {_size(box)} downsampled by {factor}" if factor > 1 else ""
            raise InputError(
                f"The descriptor is for images of {_size(descriptor.n_pixels)} pixels, but the images are "
                f"{_size((box[0] // factor, box[1] // factor))} ({path}{after}). Make a descriptor with n_pixels "
                f"{box[0] // factor if box[0] == box[1] else (box[0] // factor, box[1] // factor)}."
            )
    return factor == 1 or descriptor.n_pixels in boxes


def _pixel_size_of_rows(
    table: ParticleTable, files: Sequence[ImageFile | None], settings: ConversionSettings, warnings: list[str]
) -> tuple[npt.NDArray[np.float64], Origins]:
    """Angstrom a pixel of each row's image on disk, NaN where only the descriptor can say it, and where they were found."""
    stated = table["pixel_size"].copy()
    header = np.array([np.nan if file is None else file.pixel_size for file in files])[table["file"]]
    has_stated = np.isfinite(stated)
    manual = settings.pixel_size
    if manual is None:
        chosen = np.where(has_stated, stated, header)
        origins = {"table": has_stated, "image headers": ~has_stated & np.isfinite(header), "descriptor": np.isnan(chosen)}
    else:
        conflict = has_stated & _differs(stated, np.full(len(table), manual))
        if conflict.any() and not settings.ignore_manual_pixel_size:
            row = int(np.argmax(conflict))
            raise InputError(
                f"The pixel size {manual:g} A given as an argument conflicts with {stated[row]:g} A in {table.where(row)}. Leave the "
                "argument out, or let the table win with ignore_manual_pixel_size."
            )
        if conflict.any():
            warnings.append(
                f"The pixel size {manual:g} A given as an argument is ignored: the table says {_values(stated[conflict])} A."
            )
        chosen = np.where(has_stated & settings.ignore_manual_pixel_size, stated, manual)
        origins = {"argument": chosen == manual, "table": chosen != manual}
    conflict = np.isfinite(header) & _differs(header, chosen)
    if conflict.any():
        row = int(np.argmax(conflict))
        warnings.append(
            f"The header of {table.files[table['file'][row]]} says {header[row]:g} A a pixel; the {_origin_of(row, origins)} says "
            f"{chosen[row]:g} A, which is used ({int(conflict.sum()):,} images differ so)."
        )
    return chosen, {name: rows for name, rows in origins.items() if rows.any()}


def _origin_of(row: int, origins: Origins) -> str:
    return next(name for name, rows in origins.items() if rows[row])


def _compare_with_descriptor(
    table: ParticleTable,
    written: npt.NDArray[np.float64],
    origins: Origins,
    descriptor: ImageDescriptor,
    settings: ConversionSettings,
    warnings: list[str],
) -> npt.NDArray[np.float64]:
    """The pixel size of each written image, the descriptor's own float wherever they agree."""
    own = descriptor.pixel_size
    agrees = ~(_differs(written, np.full(len(written), own[0])) | _differs(written, np.full(len(written), own[1])))
    if agrees.all():
        return np.full(len(written), own[0])
    sizes = np.unique(np.round(written, 6))
    if settings.mixed_optics == "split" and agrees.any():
        warnings.append(
            f"Optics groups have different pixel sizes ({_values(written)} A as written). Each stack carries its own group's; "
            f"the descriptor's {own[0]:g} A holds for {int(agrees.sum()):,} of {len(written):,} images."
        )
        return np.where(agrees, own[0], same_pixel_sizes(written))
    row = int(np.argmin(agrees))
    by = (
        f" ({settings.downsample_factor} x {written[row] / settings.downsample_factor:g} A)"
        if settings.downsample_factor > 1
        else ""
    )
    several = (
        f" The particles have several pixel sizes ({_values(written)} A): convert each optics group with its own descriptor, or "
        "choose mixed_optics='split'."
        if len(sizes) > 1
        else " Make a descriptor with the right pixel size, or give pixel_size as an argument if you know better."
    )
    raise InputError(
        f"The descriptor says {own[0]:g} A a pixel, but the {_origin_of(row, origins)} says {written[row]:g} A{by} for "
        f"{table.where(row)}.{several}"
    )


def same_pixel_sizes(sizes: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Sizes with those that tables merely rounded differently made equal; not stated ones become 0."""
    known = np.unique(sizes[np.isfinite(sizes)])
    representative: list[float] = []
    for size in known.tolist():
        near = representative and abs(size - representative[-1]) <= RELATIVE_TOLERANCE * representative[-1]
        representative.append(representative[-1] if near else size)
    if not representative:
        return np.zeros(len(sizes))
    position = np.clip(np.searchsorted(known, sizes), 0, len(known) - 1)
    return np.where(np.isfinite(sizes), np.array(representative)[position], 0.0)


def _differs(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    return np.abs(a - b) > RELATIVE_TOLERANCE * np.abs(b)


def _values(sizes: npt.NDArray[np.float64]) -> str:
    return ", ".join(f"{size:g}" for size in np.unique(np.round(sizes, 6)))


def _size(box: tuple[int, int]) -> str:
    return f"{box[0]} x {box[1]}"


def stack_descriptor(descriptor: ImageDescriptor, pixel_size: float) -> ImageDescriptor:
    """The descriptor of one stack: the run's own, verbatim, unless its optics group has another pixel size."""
    if pixel_size == descriptor.pixel_size[0]:
        return descriptor
    return replace(descriptor, pixel_size=(pixel_size, pixel_size))
