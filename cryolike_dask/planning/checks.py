"""What tables and image headers tell of wrong inputs, before the first pixel is read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cryolike_dask.errors import InputError
from cryolike_dask.mrc.boxes import boxes_outside, boxes_over_edge
from cryolike_dask.mrc.header import ImageFile
from cryolike_dask.particles.table import ParticleTable


def tables_of(table: ParticleTable) -> str:
    """The tables that particles came from, for messages."""
    return ", ".join(dict.fromkeys(source.table for source in table.sources)) or "The particle table"


def refuse_wrong_indexes(table: ParticleTable, files: Sequence[ImageFile | None]) -> None:
    """Refuse particles whose image lies beyond the end of its file."""
    n_images = np.array([0 if file is None else file.n_images for file in files], dtype=np.int64)[table["file"]]
    whole = np.array([source.boxes is None for source in table.sources])[table["source"]]
    wrong = whole & ((table["index"] < 0) | (table["index"] >= n_images))
    if wrong.any():
        row = int(np.argmax(wrong))
        more = f" {int(wrong.sum()) - 1:,} more particles are out of range." if wrong.sum() > 1 else ""
        raise InputError(
            f"{table.where(row)}: the file holds {n_images[row]:,} images. The table and the image file do not belong together, or "
            f"the file is incomplete.{more}"
        )


def refuse_wrong_boxes(table: ParticleTable, files: Sequence[ImageFile | None]) -> None:
    """Refuse boxes that lie outside their micrograph, or reach beyond it where the edge mode forbids that."""
    for number, source in enumerate(table.sources):
        cut = source.boxes
        if cut is None:
            continue
        for position in np.unique(table["file"][table["source"] == number]).tolist():
            file = files[position]
            if file is None:
                continue
            if file.n_images != 1:
                raise InputError(f"{file.path} holds {file.n_images} images: boxes are cut from single micrographs.")
            rows = np.flatnonzero((table["source"] == number) & (table["file"] == position))
            top, left = table["top"][rows], table["left"][rows]
            outside = boxes_outside(top, left, cut.size, file.n_rows, file.n_columns)
            over = boxes_over_edge(top, left, cut.size, file.n_rows, file.n_columns)
            for wrong, what in ((outside, "lies wholly outside"), (over if cut.edge == "error" else outside, "reaches beyond")):
                if wrong.any():
                    row = int(np.argmax(wrong))
                    raise InputError(
                        f"{table.where(int(rows[row]))}: its box of {cut.size} pixels with the top left corner at row {top[row]}, "
                        f"column {left[row]} {what} the micrograph of {file.n_rows} x {file.n_columns} pixels. Remove the row, or "
                        "choose another box size or edge mode."
                    )
