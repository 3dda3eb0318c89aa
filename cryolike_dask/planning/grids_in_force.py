"""The descriptor in force, which has the grids on which the images are written.

The user's descriptor may describe the images as they are written, after downsampling, or as they are on disk. Nothing is sampled beyond the
Nyquist limit of the written images. Every conflict gives a warning or an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cryolike_dask.errors import InputError
from cryolike_dask.metadata.image_descriptor import ImageDescriptor
from cryolike_dask.metadata.pixel_sizes import differs, list_values, same_pixel_sizes
from cryolike_dask.mrc.header import ImageFile
from cryolike_dask.particles.table import ParticleTable
from cryolike_dask.planning.pixel_sizes import PixelSizes
from cryolike_dask.planning.plan import box_of_image
from cryolike_dask.planning.row_order import never_combined
from cryolike_dask.settings import ConversionSettings


@dataclass(frozen=True)
class Grids:
    """The descriptor in force, and pixel sizes.

    Args:
        descriptor: of the images as they are written.
        pixel_size: (n,) Å of each particle's image as written; equal to the descriptor's unless optics groups differ.
        source_pixel_size: (n,) Å of the same image on disk.
        warnings: about derived values and conflicts.
    """

    descriptor: ImageDescriptor
    pixel_size: npt.NDArray[np.float64]
    source_pixel_size: npt.NDArray[np.float64]
    warnings: tuple[str, ...]


def decide_grids(
    table: ParticleTable,
    files: Sequence[ImageFile | None],
    descriptor: ImageDescriptor,
    settings: ConversionSettings,
    sizes: PixelSizes,
) -> Grids:
    """Find the descriptor in force from the user's one, boxes, pixel sizes and downsampling.

    Args:
        table: all particles of the run.
        files: headers, aligned with `table.files`; None where no particle is left.
        descriptor: as the user gave it.
        settings: with the downsampling.
        sizes: pixel sizes on disk.

    Raises:
        InputError: grids contradict each other; the message names both.
    """
    warnings: list[str] = []
    describes_source, box = _fit_to_boxes(table, files, descriptor, settings, warnings)
    factor = settings.pixel_scale(box)
    own = descriptor.pixel_size[0] if describes_source else descriptor.pixel_size[0] / factor
    source = np.where(np.isnan(sizes.on_disk), own, sizes.on_disk)
    given_by_user = list(sizes.origins) == ["argument"]
    before = descriptor.pixel_size[0]
    # An argument that equals the descriptor's value except for rounding must not change the descriptor's float.
    if given_by_user and not np.isclose(source[0], own, rtol=1e-9, atol=0):
        descriptor = descriptor.update_pixel_size(source[0] if describes_source else source[0] * factor)
    if describes_source and factor > 1:
        fine = descriptor
        descriptor = descriptor.downsampled(settings.downsampled_box(box), factor)
        warnings.append(
            f"The descriptor describes the images as they are on disk ({_size(fine.n_pixels)} pixels of {fine.pixel_size[0]:g} Å); "
            f"downsampling by {factor:g} gives {_size(descriptor.n_pixels)} pixels of {descriptor.pixel_size[0]:g} Å and radius_max "
            f"{descriptor.radius_max:g} (was {fine.radius_max:g}). It is saved as params.npz in the output folder."
        )
    if given_by_user and differs(source[:1], np.array([own])).any():
        by = f", which is {own:g} Å before downsampling" if own != before else ""
        warnings.append(
            f"The pixel size {source[0]:g} Å given as an argument, that of the source images, replaces the descriptor's, {before:g} Å{by}. "
            f"The stacks have {descriptor.pixel_size[0]:g} Å per pixel: make the templates with the params.npz in the output folder."
        )
    if descriptor.radius_max > descriptor.nyquist_radius * (1 + 1e-9):
        raise InputError(
            f"radius_max {descriptor.radius_max:g} of the descriptor lies beyond {descriptor.nyquist_radius:g}, the Nyquist limit "
            f"of images of {_size(descriptor.n_pixels)} pixels. Shells beyond it hold only aliases. Make a descriptor with a "
            "resolution_factor of at most 1."
        )
    written = np.full(len(table), descriptor.pixel_size[0])
    if list(sizes.origins) != ["descriptor"]:
        written = _compare_with_descriptor(table, source * factor, factor, sizes, descriptor, settings, warnings)
    return Grids(descriptor, written, written / factor, tuple(warnings))


def _fit_to_boxes(
    table: ParticleTable,
    files: Sequence[ImageFile | None],
    descriptor: ImageDescriptor,
    settings: ConversionSettings,
    warnings: list[str],
) -> tuple[bool, tuple[int, int]]:
    """Whether the descriptor describes the images on disk, and the box of a source image.

    All images must have the same box as written, and it must be that of the descriptor.
    """
    # One box for all source images: different files may share a stack, and with 'fourier' the pixel size depends on the box.
    one_box = settings.downsample_type == "fourier" or not never_combined(table, settings).any()
    boxes: dict[tuple[int, int], str] = {}
    cuts = [source.boxes for source in table.sources]
    for source_position, file_position in sorted(set(zip(table["source"].tolist(), table["file"].tolist(), strict=True))):
        cut, header = cuts[source_position], files[file_position]
        if header is None:
            continue
        name = header.path if cut is None else f"boxes of {table.sources[source_position].table}"
        boxes.setdefault(box_of_image(header, cut, settings), name)
    written = {settings.downsampled_box(box) for box in boxes}
    if len(written) > 1 or (one_box and len(boxes) > 1):
        found = "; ".join(f"{_size(box)} in {path}" for box, path in boxes.items())
        raise InputError(f"Images of different box sizes cannot be converted in one run: {found}. Convert each size separately.")
    for box, path in boxes.items():
        small = settings.downsampled_box(box)
        if min(small) < 2:
            raise InputError(
                f"Downsampling images of {_size(box)} pixels ({path}) by {settings.downsample_factor} leaves nothing. Use a smaller factor."
            )
        _check_crop(box, small, path, settings)
        warnings += _incomplete_blocks(box, path, settings)
        if small != descriptor.n_pixels and not (settings.downsamples and box == descriptor.n_pixels):
            after = f", {_size(box)} downsampled by {settings.pixel_scale(box):g}" if settings.downsamples else ""
            advice = (
                f"Make one for {small[0]} pixels (`cryolike-dask params`), or give none (leave out --params), and one is made that fits"
                if small[0] == small[1]
                else f"Make one for images that are not square in Python: ImageDescriptor.from_individual_values({small}, PIXEL_SIZE)"
            )
            raise InputError(
                f"The descriptor is for images of {_size(descriptor.n_pixels)} pixels, but the images are {_size(small)} "
                f"({path}{after}). {advice}."
            )
    return not settings.downsamples or descriptor.n_pixels in boxes, next(iter(boxes))


def _incomplete_blocks(box: tuple[int, int], path: str, settings: ConversionSettings) -> list[str]:
    """A warning if blocks of pixels do not fill the images, so that pixels at their ends are left out."""
    factor = settings.downsample_factor
    over = [edge % factor for edge in box]
    if not any(over) or settings.downsample_type == "fourier":
        return []
    pixels = f"{over[0]} pixels of each row and column" if over[0] == over[1] else f"{over[0]} pixels along x and {over[1]} along y"
    return [
        f"Images of {_size(box)} pixels ({path}) cannot be divided into blocks of {factor} × {factor} pixels: the last {pixels} are left "
        "out, and particles are no longer in the middle. With downsample_type='fourier' (--downsample-type fourier), whole images are "
        "downsampled."
    ]


def _check_crop(box: tuple[int, int], small: tuple[int, int], path: str, settings: ConversionSettings) -> None:
    """Refuse to crop Fourier transforms to a larger box, or by different ratios along the two axes."""
    if settings.downsample_type != "fourier":
        return
    if max(small) > min(box):
        raise InputError(f"downsample_to is {small[0]}, but the images are {_size(box)} pixels ({path}). Give a smaller box.")
    if box[0] * small[1] != box[1] * small[0]:
        raise InputError(
            f"Cropping the Fourier transforms of images of {_size(box)} pixels ({path}) to {_size(small)} would give pixels that are not "
            "square. Choose a downsample_factor that divides both edges."
        )


def _compare_with_descriptor(
    table: ParticleTable,
    written: npt.NDArray[np.float64],
    factor: float,
    sizes: PixelSizes,
    descriptor: ImageDescriptor,
    settings: ConversionSettings,
    warnings: list[str],
) -> npt.NDArray[np.float64]:
    """The pixel size of each written image: the descriptor's own float wherever the two agree."""
    own = descriptor.pixel_size
    agrees = ~(differs(written, np.full(len(written), own[0])) | differs(written, np.full(len(written), own[1])))
    if agrees.all():
        return np.full(len(written), own[0])
    if settings.mixed_optics == "split" and agrees.any():
        warnings.append(
            f"Optics groups have different pixel sizes ({list_values(written)} Å as written). Each stack records that of its group; "
            f"the descriptor's {own[0]:g} Å is that of {int(agrees.sum()):,} of {len(written):,} images."
        )
        return np.where(agrees, own[0], same_pixel_sizes(written))
    row = int(np.argmin(agrees))
    by = f" ({factor:g} × {written[row] / factor:g} Å)" if factor > 1 else ""
    several = (
        f" The particles have several pixel sizes ({list_values(written)} Å): convert each optics group with its own descriptor, or "
        "choose mixed_optics='split'."
        if len(np.unique(np.round(written, 6))) > 1
        else " Make a descriptor with the right pixel size, or, if the descriptor is right, give that of the source images with pixel_size "
        f"(--pixel-size){' and override_pixel_size=True (--override-pixel-size)' if 'table' in sizes.says(row) else ''}."
    )
    raise InputError(
        f"The descriptor says {own[0]:g} Å per pixel, but {sizes.says(row)} {written[row]:g} Å{by} for {table.where(row)}.{several}"
    )


def _size(box: tuple[int, int]) -> str:
    return f"{box[0]} × {box[1]}"
