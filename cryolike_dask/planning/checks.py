"""Checks that find wrong inputs from tables and image headers, before the first pixel is read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from cryolike_dask.errors import InputError
from cryolike_dask.formatting import first_few, is_or_are, plural
from cryolike_dask.mrc.boxes import BoxCut, EdgeMode, IndexArray, boxes_outside, boxes_over_edge
from cryolike_dask.mrc.header import ImageFile
from cryolike_dask.particles.table import ParticleTable
from cryolike_dask.settings import ConversionSettings


def table_names(table: ParticleTable) -> str:
    """The tables from which the particles came, for messages."""
    return first_few(list(dict.fromkeys(source.table for source in table.sources)), 3) or "The particle table"


def check_contrast(table: ParticleTable, settings: ConversionSettings) -> None:
    """Refuse `contrast='auto'` without signs in the table, and two options that invert the same images."""
    inverted = next((source for source in table.sources if source.boxes is not None and source.boxes.invert), None)
    if inverted is not None and settings.contrast != "as-is":
        raise InputError(
            f"{inverted.table}: invert (--invert) and contrast={settings.contrast!r} (--contrast) both change the sign of the images. "
            "Give only one of them."
        )
    unknown = np.flatnonzero(table["sign"] == 0)
    if settings.contrast == "auto" and len(unknown):
        raise InputError(
            f"contrast='auto' multiplies each image by its blob/sign, but {table.where(int(unknown[0]))} has none "
            f"({len(unknown):,} of {len(table):,} particles have none). Choose contrast='as-is' or 'invert' (--contrast)."
        )


def check_origins(table: ParticleTable, settings: ConversionSettings) -> None:
    """Refuse to apply origins if a particle has none."""
    unknown = np.flatnonzero(np.isnan(table["origin_x"]) | np.isnan(table["origin_y"]))
    if settings.apply_origins and len(unknown):
        raise InputError(
            f"apply_origins (--apply-origins) moves each image by its origin, but {table.where(int(unknown[0]))} has none "
            f"({len(unknown):,} of {len(table):,} particles have none). Give a table with rlnOriginXAngst and rlnOriginYAngst, or "
            "alignments3D/shift, as a refinement writes it, or leave out the option."
        )


def check_origins_inside(
    table: ParticleTable, files: Sequence[ImageFile | None], on_disk: npt.NDArray[np.float64], settings: ConversionSettings
) -> None:
    """Refuse to apply origins that would put particles outside their images.

    Args:
        table: the particles, their origins in Å.
        files: headers, aligned with `table.files`; None where no particle is left.
        on_disk: (n,) Å per pixel of each particle's image on disk.
        settings: with `apply_origins`.
    """
    if not settings.apply_origins:
        return
    for axis, edge in (("x", "columns"), ("y", "rows")):
        n_pixels = np.array([0 if file is None else getattr(file, f"n_{edge}") for file in files])[table["file"]]
        origin = table[f"origin_{axis}"]
        outside = np.flatnonzero(np.abs(origin) > n_pixels * on_disk / 2)
        if len(outside):
            row = int(outside[0])
            raise InputError(
                f"{table.where(row)}: its origin of {origin[row]:g} Å in {axis.upper()} puts the particle outside its image, which is "
                f"{n_pixels[row] * on_disk[row]:g} Å wide in that direction ({plural(len(outside), 'such particle')}). Check the unit of "
                "the origins and the pixel size, or leave out apply_origins (--apply-origins)."
            )


def check_indexes(table: ParticleTable, files: Sequence[ImageFile | None]) -> None:
    """Refuse particles whose image lies beyond the end of its file."""
    n_images = np.array([0 if file is None else file.n_images for file in files], dtype=np.int64)[table["file"]]
    is_whole_image = np.array([source.boxes is None for source in table.sources])[table["source"]]
    wrong = is_whole_image & ((table["index"] < 0) | (table["index"] >= n_images))
    if wrong.any():
        row = int(np.argmax(wrong))
        n_more = int(wrong.sum()) - 1
        more = f" {plural(n_more, 'more particle')} {is_or_are(n_more)} out of range." if n_more else ""
        raise InputError(
            f"{table.where(row)}: the file holds {plural(int(n_images[row]), 'image')}. The table and the image file do not belong "
            f"together, or the file is incomplete.{more}"
        )


def check_image_sizes(table: ParticleTable, files: Sequence[ImageFile | None]) -> None:
    """Refuse particles if the image size in the table differs from that of the file."""
    sizes = {
        axis: np.array([0 if file is None else getattr(file, f"n_{axis}") for file in files], dtype=np.int64)[table["file"]]
        for axis in ("rows", "columns")
    }
    stated = (table["box_rows"] > 0) & (table["box_columns"] > 0)
    wrong = stated & ((table["box_rows"] != sizes["rows"]) | (table["box_columns"] != sizes["columns"]))
    if wrong.any():
        row = int(np.argmax(wrong))
        column = "blob/shape" if table.sources[table["source"][row]].kind.startswith("cryosparc") else "rlnImageSize"
        more = f" (the same for {plural(int(wrong.sum()) - 1, 'more particle')})" if wrong.sum() > 1 else ""
        raise InputError(
            f"{table.where(row)}: according to {column} its image has {table['box_rows'][row]} × {table['box_columns'][row]} pixels, but "
            f"the file has images of {sizes['rows'][row]} × {sizes['columns'][row]}{more}. The table describes other images, such as those "
            f"before binning, so its pixel size is wrong as well. Give the table of these images, or correct {column} and the pixel size."
        )


def duplicate_particles(table: ParticleTable) -> list[str]:
    """One warning for each table that lists an image, or a box of a micrograph, more than once."""
    import pandas as pd  # not needed by workers, which import this module for other checks

    place = pd.DataFrame({name: table[name] for name in ("source", "file", "index", "top", "left")})
    boxes = np.array([source.boxes is not None for source in table.sources])[table["source"]]
    place.loc[boxes, "index"] = 0  # for boxes, the index is the number of a pick, not of an image
    repeated = place.duplicated().to_numpy()
    warnings = []
    for number in np.unique(table["source"][repeated]).tolist():
        rows = np.flatnonzero(repeated & (table["source"] == number))
        warnings.append(
            f"{table.sources[number].table} lists particles more than once, in {plural(len(rows), 'repeated row')} from particle "
            f"{int(table['row'][rows[0]]) + 1} on. All of them are converted. Remove the repeated rows if they are a mistake."
        )
    return warnings


def check_boxes(table: ParticleTable, files: Sequence[ImageFile | None]) -> list[str]:
    """Refuse boxes that do not fit their micrograph or lie outside it, or reach beyond it where the edge mode forbids that.

    Returns:
        A warning for each table with boxes that reach beyond their micrographs.
    """
    warnings = []
    for number, source in enumerate(table.sources):
        cut = source.boxes
        if cut is None:
            continue
        of_table = table["source"] == number
        partly_filled = [
            _rows_over_edge(table, np.flatnonzero(of_table & (table["file"] == position)), file, cut)
            for position in np.unique(table["file"][of_table]).tolist()
            if (file := files[position]) is not None
        ]
        rows = np.sort(np.concatenate(partly_filled or [np.empty(0, dtype=np.int64)]))
        if len(rows):
            warnings.append(
                f"{source.table}: {len(rows):,} of {int(of_table.sum()):,} boxes of {cut.size} pixels reach beyond their micrographs, "
                f"where they contain {_BEYOND[cut.edge]} (edge='{cut.edge}'); the first is that of particle "
                f"{int(table['row'][rows[0]]) + 1}. If these particles are not wanted, remove their rows."
            )
    return warnings


_BEYOND: dict[EdgeMode, str] = {
    "constant": "zeros",
    "reflect": "the mirror image of the micrograph",
    "replicate": "the outermost pixels of the micrograph",
}


def _rows_over_edge(table: ParticleTable, rows: IndexArray, file: ImageFile, cut: BoxCut) -> IndexArray:
    """Those of the rows whose boxes reach beyond this micrograph. The boxes of all rows are in this micrograph."""
    if file.n_images != 1:
        raise InputError(f"{file.path} holds {file.n_images} images: boxes are cut from single micrographs.")
    if cut.size > min(file.n_rows, file.n_columns):
        raise InputError(
            f"{table.where(int(rows[0]))}: a box of {cut.size} pixels is larger than the micrograph of {file.n_rows} × {file.n_columns} "
            "pixels. Choose a smaller box size."
        )
    top, left = table["top"][rows], table["left"][rows]
    over = boxes_over_edge(top, left, cut.size, file.n_rows, file.n_columns)
    refused = over if cut.edge == "error" else boxes_outside(top, left, cut.size, file.n_rows, file.n_columns)
    if refused.any():
        row = int(np.argmax(refused))
        raise InputError(
            f"{table.where(int(rows[row]))}: its box of {cut.size} pixels with the top left corner at row {top[row]}, column {left[row]} "
            f"{'reaches beyond' if cut.edge == 'error' else 'lies wholly outside'} the micrograph of {file.n_rows} × {file.n_columns} "
            "pixels. Remove the row, or choose another box size or edge mode."
        )
    return rows[over]
