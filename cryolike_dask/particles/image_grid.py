"""Finds box and pixel size of images in their tables and headers, so that users need not type them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cryolike_dask.errors import InputError, MissingFileError
from cryolike_dask.formatting import first_few, plural
from cryolike_dask.metadata.image_descriptor import ImageDescriptor
from cryolike_dask.metadata.pixel_sizes import same_pixel_sizes
from cryolike_dask.mrc.header import ImageFile, scan_headers
from cryolike_dask.particles.display import as_typed, group_name
from cryolike_dask.particles.image_paths import give_folder
from cryolike_dask.particles.table import ParticleTable
from cryolike_dask.settings import ConversionSettings

logger = logging.getLogger(__name__)

Headers = Sequence[ImageFile | None]


@dataclass(frozen=True)
class ImageGrid:
    """The grid of all images of a table as a conversion writes them.

    Args:
        box: (n_x, n_y) pixels.
        pixel_size: Å; NaN if it is not stated anywhere.
        statement: a sentence with the grid and where it was found.
    """

    box: tuple[int, int]
    pixel_size: float
    statement: str

    def descriptor(
        self, precision: str = "single", resolution_factor: float = 1.0, n_inplanes: int | None = None
    ) -> ImageDescriptor:
        """Make a descriptor with this grid; see `ImageDescriptor.from_individual_values` for the arguments.

        Raises:
            InputError: the pixel size is not known, or an argument is out of range.
        """
        if np.isnan(self.pixel_size):
            raise InputError(f"{self.statement} Give it (--pixel-size), or give the image parameters (--params).")
        logger.info("%s", self.statement)
        return ImageDescriptor.from_individual_values(
            self.box, self.pixel_size, precision, resolution_factor=resolution_factor, n_inplanes=n_inplanes
        )


def find_image_grid(
    table: ParticleTable, settings: ConversionSettings, headers: Headers | None = None, *, takes_params: bool = True
) -> ImageGrid:
    """Find the grid of the images of all these particles.

    Box and pixel size come from the table, or else from the image headers; a pixel size in the settings comes first.

    Args:
        table: a table with at least one particle.
        settings: settings of axes, downsampling and pixel size.
        headers: headers of `table.files`, in this order; None to read those that are needed.
        takes_params: whether the user could give image parameters instead, for the message.

    Raises:
        InputError: images differ in box or pixel size, in which case the message names their optics groups; or headers are needed and
            cannot be read.
    """
    if not len(table):
        raise InputError("There are no particles, so box and pixel size are unknown.")
    cuts = np.array([0 if source.boxes is None else source.boxes.size for source in table.sources])[table["source"]]
    rows, columns = (np.where(cuts > 0, cuts, table[f"box_{edge}"]) for edge in ("rows", "columns"))
    pixel_size = table["pixel_size"]
    of_images = settings.pixel_size
    stated = np.isfinite(pixel_size)
    if of_images is not None:
        pixel_size = np.where(stated & settings.ignore_manual_pixel_size, pixel_size, of_images)
    without_box, without_size = (rows == 0) | (columns == 0), np.isnan(pixel_size)
    if without_box.any() or without_size.any():
        headers = _headers(table, without_box | without_size) if headers is None else headers
        rows, columns = (
            np.where(without_box, _of_headers(headers, f"n_{edge}", 0)[table["file"]], values)
            for edge, values in (("rows", rows), ("columns", columns))
        )
        pixel_size = np.where(without_size, _of_headers(headers, "pixel_size", np.nan)[table["file"]], pixel_size)
    sizes = same_pixel_sizes(pixel_size)
    _check_one_grid(table, rows, columns, sizes, takes_params, settings.mixed_optics == "split")
    first, second = ("columns", "rows") if settings.axes == "relion" else ("rows", "columns")
    edges = {"rows": int(rows[0]), "columns": int(columns[0])}
    tables = first_few(list(dict.fromkeys(source.table.rpartition("/")[2] for source in table.sources)), 3)
    box_from = "--box-size" if cuts[0] else "the image headers" if without_box.any() else tables
    size_from = "the image headers" if without_size.any() else tables
    size = float(pixel_size[0])
    if of_images is not None and size == of_images:
        size_from = "the argument"
    elif not np.isnan(size):
        size = _plain(size, 6 if without_size.any() else 7)
    return _as_written((edges[first], edges[second]), size, box_from, size_from, settings)


def _as_written(box: tuple[int, int], pixel_size: float, box_from: str, size_from: str, settings: ConversionSettings) -> ImageGrid:
    small = settings.downsampled_box(box)
    size = pixel_size * settings.pixel_scale(box) if settings.downsamples else pixel_size
    by = f" (those on disk have {_size(box)} and {pixel_size:g} Å)" if settings.downsamples else ""
    if np.isnan(size):
        return ImageGrid(
            small,
            size,
            "Neither the table nor the image headers state a pixel size.",
        )
    origin = f" from {box_from} and pixel size {size:g} Å from" if box_from != size_from else f" and pixel size {size:g} Å from"
    return ImageGrid(small, size, f"Box {_size(small)}{origin} {size_from}{by}.")


def _headers(table: ParticleTable, needed: npt.NDArray[np.bool_]) -> Headers:
    """The headers of the files of these particles, None for other files."""
    used = np.unique(table["file"][needed]).tolist()
    found = dict(zip(used, scan_headers([table.files[position] for position in used]), strict=True))
    missing = [table.files[position] for position in used if found[position] is None]
    if missing:
        kinds = [source.kind for source in table.sources]
        raise MissingFileError(
            f"The table does not state box and pixel size of all images, and {plural(len(missing), 'image file')} cannot be found: "
            f"{first_few(missing, 3)}. {give_folder(kinds)}, or state box and pixel size.",
            missing,
        )
    return [found.get(position) for position in range(len(table.files))]


def _of_headers(headers: Headers, name: str, otherwise: float) -> npt.NDArray[np.float64]:
    return np.array([otherwise if header is None else getattr(header, name) for header in headers])


def _check_one_grid(
    table: ParticleTable,
    rows: npt.NDArray[np.float64],
    columns: npt.NDArray[np.float64],
    sizes: npt.NDArray[np.float64],
    takes_params: bool,
    splits: bool,
) -> None:
    """Refuse images of several grids, naming the optics groups of each."""
    grids, kind, counts = np.unique(np.stack([rows, columns, sizes], axis=1), axis=0, return_inverse=True, return_counts=True)
    if len(grids) == 1:
        return
    groups = [
        [group_name(table.optics_groups[position]) for position in np.unique(table["optics_group"][kind.reshape(-1) == number])]
        for number in range(len(grids))
    ]
    lines = [
        f"{_size((int(n_rows), int(n_columns)))} of {f'{size:g} Å' if size else 'unknown size'}"
        f"{' in ' + first_few(names, 5) if any(names) else ''} ({plural(int(count), 'particle')})"
        for (n_rows, n_columns, size), names, count in zip(grids, groups, counts, strict=True)
    ]
    params = ", or give the image parameters (--params)" if takes_params else ""
    if params and not splits:
        params += " and let stacks end where the pixel size changes with mixed_optics='split' (--mixed-optics split)"
    raise InputError(
        f"The images are of {len(grids)} kinds, which one set of image parameters cannot describe: {first_few(lines, 20)}. Convert "
        f"each kind separately, for instance with {_choice_of_one(table, groups, sizes)}{params}."
    )


def _choice_of_one(table: ParticleTable, groups: Sequence[Sequence[str]], sizes: npt.NDArray[np.float64]) -> str:
    """An option that chooses the particles of one grid."""
    named = [name for names in groups for name in names]
    if len(set(named)) == len(named) and all(named):
        condition = f"optics_group == '{named[0]}'"
    elif len(np.unique(sizes)) > 1 and np.isfinite(table["pixel_size"]).all():
        # Between two sizes, because tables round them.
        smallest = sizes == sizes.min()
        typed = as_typed(table["pixel_size"])
        between = (typed[smallest].max() + typed[~smallest].min()) / 2
        condition = f"pixel_size < {between:.9g}"
    elif table["box_rows"].all():
        condition = f"box_rows == {table['box_rows'][0]}"
    else:
        return "a file of row numbers as ind (--ind)"
    return f'where="{condition}" (--where)'


def _plain(value: float, digits: int) -> float:
    """A pixel size without the rounding error of single precision: 1.0599999427795 becomes 1.06, but 1.0612345678 is kept."""
    rounded = float(f"{value:.{digits}g}")
    return rounded if abs(rounded - value) <= 6e-8 * value or digits < 7 else value


def _size(box: tuple[int, int]) -> str:
    return f"{box[0]} pixels" if box[0] == box[1] else f"{box[0]} × {box[1]} pixels"
