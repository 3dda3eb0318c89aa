"""Writes the page: one file with the images and values of the particles."""

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
from cryolike_dask.particles.table import ParticleTable, check_particles
from cryolike_dask.progress import ProgressOption
from cryolike_dask.progress_bars import showing
from cryolike_dask.settings import ConversionSettings
from cryolike_dask.stacks.durable import write_atomic

logger = logging.getLogger(__name__)

TILE_SIZES = (16, 256)
"""Smallest and largest edge of a tile in pixels."""


@dataclass(frozen=True)
class BrowsePage:
    """A page that was written.

    Args:
        path: path of the page.
        n_shown: number of particles on the page.
        n_chosen: number of particles in the table, or of those chosen from it.
        low_pass: resolution of the low-pass filter, Å.
        tile: (rows, columns) pixels of each image on the page.
        n_conspicuous: number of particles with an outlier score of 5 or more.
        n_bytes: size of the page.
        rows_of: a sentence that says which table the row numbers of the page refer to.
        seed: seed of the random choice, if not all particles are on the page.
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
    """Write an HTML page on which you look through particles in a browser, offline, and leave some of them out.

    The page saves the rows of the remaining particles as a text file for `ind` (`--ind`). Bad images are black. Without `sample`, the page
    shows at most 5,000 particles, drawn at random. Options about stacks have no effect.

    Args:
        particles: a table as it was read, because its rows are counted; or the output folder of a complete conversion, to browse its
            stacks.
        out: path of the page, an `.html` file; an existing one is replaced.
        params: image descriptor of the particles of a table, or the path of a params `.npz`. None takes box and pixel size from the
            table, or else from the image headers.
        low_pass: resolution of the low-pass filter in Å.
        tile_size: longer edge of the small images in pixels, 16 to 256. Images that are smaller stay as they are.
        progress: as for `Conversion.run`.

    Returns:
        A summary of the page.

    Raises:
        TypeError: there is no such option.
        InputError: a number is out of range, there are no particles, `out` does not end with `.html`, an option is not for stacks, or
            `Conversion` would refuse the chosen particles.
        OutputError: the page cannot be written.

    Example:
        >>> from cryolike_dask import particles_from_star
        >>> particles = particles_from_star("particles.star", "mrc")
        >>> page = browse_particles(particles, "contact.html")
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
    options.setdefault("mixed_optics", "split")  # a page may show particles of different optics together
    options.setdefault("on_bad_image", "zero")
    settings = ConversionSettings.from_options(options)
    with showing(progress) as shown:
        if isinstance(particles, str | Path) and not Path(particles).expanduser().is_file():
            browsed = browse_stacks(particles, params, settings, low_pass, tile_size, shown)
        else:
            browsed = browse_table(check_particles(particles), params, settings, low_pass, tile_size, shown)
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
    """The data for the script of the page, of types that JSON has. Values of particles are lists in the order of the page."""
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
    # A browser remembers what was left out under this identity. It must not apply to other particles in a later table of the same name.
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
    """A warning that names the rows of bad images; nothing if there are none."""
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
    """The name of each image within its file, with numbers as in its table."""
    boxes = np.array([source.boxes is not None for source in table.sources])[table["source"]]
    first = np.array([0 if source.kind.startswith("cryosparc") else 1 for source in table.sources])[table["source"]]
    return [
        f"box at row {top}, column {left}" if box else f"image {index}"
        for box, index, top, left in zip(
            boxes.tolist(), (table["index"] + first).tolist(), table["top"].tolist(), table["left"].tolist(), strict=True
        )
    ]


def _runs(rows: np.ndarray[Any, np.dtype[np.int64]]) -> list[int]:
    """The first and last row of each run of consecutive rows, in one list: [first, last, first, last, ...]."""
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
