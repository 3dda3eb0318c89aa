"""The page: images and values of the particles in one file, and what was put on it."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from cryolike_dask import __version__
from cryolike_dask.browse.score import CONSPICUOUS, outlier_scores
from cryolike_dask.browse.stacks import browse_stacks
from cryolike_dask.browse.tables import browse_table
from cryolike_dask.browse.tiles import PER_SHEET, SHEET_COLUMNS, Browsed, Sheets, cell_of
from cryolike_dask.errors import InputError, OutputError
from cryolike_dask.filesystem.output_file import output_file
from cryolike_dask.formatting import first_few, format_bytes, is_or_are, plural, printable
from cryolike_dask.html import render
from cryolike_dask.metadata.image_descriptor import ImageDescriptor
from cryolike_dask.options import ConversionOptions, takes_options
from cryolike_dask.particles.table import ParticleTable
from cryolike_dask.progress import ProgressOption
from cryolike_dask.progress_bars import showing
from cryolike_dask.settings import ConversionSettings
from cryolike_dask.stacks.durable import write_atomic

logger = logging.getLogger(__name__)

TILE_SIZES = (16, 256)
"""The least and the largest edge of a tile, in pixels."""


@dataclass(frozen=True)
class BrowsePage:
    """A page that was written.

    Args:
        path: of the page.
        n_shown: particles on it.
        n_chosen: particles of the table, or those of them that were chosen.
        low_pass: Å, of the filter.
        tile: (rows, columns) pixels of each image on the page.
        n_conspicuous: particles with an outlier score of 5 or more.
        n_bytes: size of the page.
        rows_of: what its rows are counted in, in a sentence.
        seed: of the random choice, if not all particles are on the page.
        warnings: what the user should know.
    """

    path: Path
    n_shown: int
    n_chosen: int
    low_pass: float
    tile: tuple[int, int]
    n_conspicuous: int
    n_bytes: int
    rows_of: str
    seed: int
    warnings: tuple[str, ...]

    def __str__(self) -> str:
        drawn = f", drawn at random with the seed {self.seed}; --sample N shows N of them" if self.n_shown < self.n_chosen else ""
        lines = [
            f"particles    {self.n_shown:,} of {self.n_chosen:,}{drawn}",
            f"rows         {self.rows_of}",
            f"images       low-passed to {self.low_pass:.3g} Å, {self.tile[0]} × {self.tile[1]} pixels",
            f"outliers     {plural(self.n_conspicuous, 'particle')} with a score of {CONSPICUOUS:g} or more",
            f"page         {self.path}, {format_bytes(self.n_bytes)}",
        ]
        return printable("\n".join(lines))


@takes_options()
def browse_particles(
    particles: ParticleTable | str | Path,
    out: str | Path,
    *,
    params: ImageDescriptor | str | Path | None = None,
    low_pass: float = 20.0,
    tile_size: int = 64,
    progress: ProgressOption = None,
    **options: Unpack[ConversionOptions],
) -> BrowsePage:
    """Write a page of particles to look through in a browser, offline, and to leave some of them out.

    It saves the rows that are kept as a text file, which `ind` (`--ind`) takes. Bad images are shown black. Without `sample`, at most
    5,000 particles are shown, drawn at random. Options about stacks have no effect.

    Args:
        particles: as they were read, because rows of the table are counted; or the output folder of a complete conversion, whose stacks
            are then shown.
        out: the page, an `.html` file; one that is there is replaced.
        params: image descriptor of the particles of a table, or the path of a params `.npz`. None takes box and pixel size from the
            table, or else from the image headers.
        low_pass: resolution of the low-pass filter in Å.
        tile_size: longer edge of the small images in pixels, 16 to 256. Images that are smaller stay as they are.
        progress: as for `Conversion.run`.

    Returns:
        what is on the page.

    Raises:
        TypeError: there is no such option.
        InputError: a number is out of range, there are no particles, `out` does not end with `.html`, an option is not for stacks, or what
            `Conversion` would refuse about the chosen ones.
        OutputError: the page cannot be written.

    Example:
        >>> from cryolike_dask import particles_from_star
        >>> page = browse_particles(particles_from_star("particles.star", "mrc"), "contact.html")
        >>> page.n_shown, page.tile
        (12, (16, 16))
        >>> browse_particles("converted", "stacks.html", where="defocus_u > 0").n_chosen
        12
    """
    if not 0 < low_pass < np.inf:
        raise InputError(f"low_pass is {low_pass}: give a resolution in Å, a positive number.")
    if not TILE_SIZES[0] <= tile_size <= TILE_SIZES[1]:
        raise InputError(f"tile_size is {tile_size}: give between {TILE_SIZES[0]} and {TILE_SIZES[1]} pixels.")
    path = output_file(out, (".html",))
    options.setdefault("mixed_optics", "split")  # particles of different optics may be looked at together
    options.setdefault("on_bad_image", "zero")
    settings = ConversionSettings.from_options(options)
    with showing(progress) as shown:
        if isinstance(particles, ParticleTable):
            browsed = browse_table(particles, params, settings, low_pass, tile_size, shown)
        else:
            browsed = browse_stacks(particles, params, settings, low_pass, tile_size, shown)
        sheets, powers = Sheets(), []
        for tiles in browsed.tiles():
            sheets.add(tiles.grey)
            powers.append(tiles.power)
        shown.step("Writing the page")
        power = np.concatenate(powers)
        bad = _bad_images(browsed.rows[power == 0])
        for line in bad:  # the other warnings were logged when they were found
            logger.warning("%s", line)
        warnings = (*browsed.warnings, *bad)
        data = _data(browsed, power)
        content = _page(browsed, data, sheets.urls(), warnings).encode()
        try:
            write_atomic(path, content, path.parent)
        except OSError as error:
            if isinstance(error, OutputError):
                raise
            raise OutputError(
                f"The page {out} cannot be written: {error.strerror or error}. Give another file with out (--out)."
            ) from error
    return BrowsePage(
        path=path,
        n_shown=len(browsed.table),
        n_chosen=len(browsed.table) + len(browsed.unseen),
        low_pass=browsed.form.low_pass,
        tile=tuple(data["tile"]),
        n_conspicuous=sum(score >= CONSPICUOUS for score in data["score"]),
        n_bytes=len(content),
        rows_of=browsed.rows_of,
        seed=settings.seed,
        warnings=warnings,
    )


def _data(browsed: Browsed, power: np.ndarray[Any, np.dtype[np.float64]]) -> dict[str, Any]:
    """What the script of the page needs, as JSON can say it; values of particles stand in lists in the order of the page."""
    table, shape = browsed.table, browsed.form.shape
    used, file = np.unique(table["file"], return_inverse=True)
    paths = [printable(table.files[position]) for position in used.tolist()]
    names = [path.rpartition("/")[2] for path in paths]
    tile = shape[::-1] if browsed.form.transposed else shape
    about = printable(f"of {_tables(table)}. {browsed.rows_of}")
    particles = {
        "rows": browsed.rows.tolist(),
        "file": file.tolist(),
        "image": _images(table),
        "defocus": [
            None if np.isnan(value) else round(value) for value in ((table["defocus_u"] + table["defocus_v"]) / 2).tolist()
        ],
    }
    # What was left out before holds for these particles, and for no others that have their rows in a later table of this name.
    identity = json.dumps([about, paths, particles])
    return {
        "id": hashlib.sha256(identity.encode()).hexdigest()[:16],
        "about": about,
        "tile": list(tile),
        "cell": list(cell_of(tile)),
        "columns": SHEET_COLUMNS,
        "per_sheet": PER_SHEET,
        "conspicuous": CONSPICUOUS,
        **particles,
        "unseen": _runs(browsed.unseen),
        "files": names if len(set(names)) == len(names) else paths,
        "power": [float(f"{100 * value:.4g}") for value in power.tolist()],
        "score": np.round(outlier_scores(power), 2).tolist(),
    }


def _bad_images(rows: np.ndarray[Any, np.dtype[np.int64]]) -> list[str]:
    """A warning that names the rows of the images without any power, if there are some."""
    if not len(rows):
        return []
    named = first_few([str(row) for row in np.sort(rows).tolist()])
    return [
        f"{plural(len(rows), 'bad image')}, constant or not finite, {is_or_are(len(rows))} shown black: "
        f"{'row' if len(rows) == 1 else 'rows'} {named}."
    ]


def _tables(table: ParticleTable) -> str:
    return printable(first_few(list(dict.fromkeys(source.table for source in table.sources)), 3))


def _images(table: ParticleTable) -> list[str]:
    """What each image is called within its file, counted as its table counts."""
    boxes = np.array([source.boxes is not None for source in table.sources])[table["source"]]
    first = np.array([0 if source.kind.startswith("cryosparc") else 1 for source in table.sources])[table["source"]]
    return [
        f"box at row {top}, column {left}" if box else f"image {index}"
        for box, index, top, left in zip(
            boxes.tolist(), (table["index"] + first).tolist(), table["top"].tolist(), table["left"].tolist(), strict=True
        )
    ]


def _runs(rows: np.ndarray[Any, np.dtype[np.int64]]) -> list[int]:
    """Ascending rows as first and last of each unbroken run, one after the other."""
    if not len(rows):
        return []
    ends = np.flatnonzero(np.diff(rows) > 1)
    return np.stack([rows[np.append(0, ends + 1)], rows[np.append(ends, len(rows) - 1)]], axis=1).ravel().tolist()


def _page(browsed: Browsed, data: dict[str, Any], sheets: list[str], warnings: tuple[str, ...]) -> str:
    return render(
        "browse",
        title=plural(len(browsed.table), "particle"),
        tables=_tables(browsed.table),
        n_unseen=len(browsed.unseen),
        n_chosen=len(browsed.table) + len(browsed.unseen),
        rows_of=browsed.rows_of,
        low_pass=f"{browsed.form.low_pass:.3g}",
        images_from=0 if any(source.kind.startswith("cryosparc") for source in browsed.table.sources) else 1,
        conspicuous=f"{CONSPICUOUS:g}",
        made=f"cryolike_dask {__version__}",
        warnings=warnings,
        sheets=sheets,
        data=data,
    )
