"""Small images of particles (tiles), and the sheets that combine many of them in one picture."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from cryolike_dask.errors import InputError
from cryolike_dask.metadata.image_descriptor import ImageDescriptor
from cryolike_dask.particles.choice import choose_rows, draw
from cryolike_dask.particles.table import ParticleTable
from cryolike_dask.pictures.canvas import Bytes
from cryolike_dask.pictures.montage import GREYS, map_colours
from cryolike_dask.settings import ConversionSettings
from cryolike_dask.transform.inverse import fourier_to_physical, low_pass_on_grid, low_passed

MOST_PARTICLES = 5000
"""The most particles on a page, unless `sample` gives another number."""
SHEET_COLUMNS = 16
PER_SHEET = SHEET_COLUMNS * SHEET_COLUMNS
_BLOCK = 8  # edge of a JPEG block in pixels: tiles that fill whole blocks do not blur into their neighbours
_QUALITY = 88
_GREY_RANGE = 3.0  # standard deviations on both sides of the mean
_COARSEST = 1.25  # box widths: the lowest frequency is 1 / width, and the filter is 0 from 1.25 / cutoff on
_FINEST = 2.5  # pixels: the filter is 0 from 1.25 / cutoff on, and a pixel can hold half a cycle


@dataclass(frozen=True)
class Tiles:
    """Some images, made small.

    Args:
        grey: (k, rows, columns) grey values.
        power: (k,) variance of the low-passed image divided by that of the image; 0 for a bad image.
    """

    grey: Bytes
    power: npt.NDArray[np.float64]


@dataclass(frozen=True)
class TileForm:
    """How images become tiles.

    Args:
        shape: (n_x, n_y) pixels of a tile.
        low_pass: resolution of the low-pass filter, Å.
        transposed: whether x runs along the columns of the images and tiles.
    """

    shape: tuple[int, int]
    low_pass: float
    transposed: bool

    @classmethod
    def of_images(cls, descriptor: ImageDescriptor, low_pass: float, size: int, axes: str) -> TileForm:
        """Tiles with a longer edge of `size` pixels, or of the images' own size if that is smaller.

        The filter is made coarser if the pixels of the tile need that.

        Raises:
            InputError: the filter would leave nothing of the images.
        """
        box = descriptor.n_pixels
        width = max(n * pixel for n, pixel in zip(box, descriptor.pixel_size, strict=True))
        if low_pass >= _COARSEST * width:
            raise InputError(
                f"low_pass (--low-pass) is {low_pass:g} Å, which leaves nothing of images {width:.3g} Å wide: give less than "
                f"{_COARSEST * width:.3g} Å."
            )
        scale = min(1.0, size / max(box))
        shape = (max(1, round(box[0] * scale)), max(1, round(box[1] * scale)))
        pixel = max(pixel * n / m for pixel, n, m in zip(descriptor.pixel_size, box, shape, strict=True))
        return cls(shape, max(low_pass, _FINEST * pixel) if scale < 1 else low_pass, axes == "relion")

    def of_physical(self, images: npt.NDArray[np.floating[Any]], pixel_size: tuple[float, float]) -> Tiles:
        """Tiles of images in real space, (k, n_x, n_y)."""
        small = low_passed(images, pixel_size, self.low_pass, self.shape)
        variance = images.var(axis=(1, 2), dtype=np.float64)
        power = np.divide(small.var(axis=(1, 2)), variance, out=np.zeros(len(images)), where=variance > 0)
        return Tiles(self._grey(small), power)

    def of_fourier(self, images: npt.NDArray[Any], descriptor: ImageDescriptor) -> Tiles:
        """Tiles of Fourier-polar images, (k, n_shells, n_inplanes), of norm 1; bad images, which are zeros, become black."""
        grid, (n_x, n_y) = descriptor.polar_grid, descriptor.n_pixels
        factors = low_pass_on_grid(descriptor, self.low_pass)
        # Shells are counted in cycles per box, so the same grid describes the images on fewer pixels, which need fewer angles.
        pixel_size = (descriptor.pixel_size[0] * n_x / self.shape[0], descriptor.pixel_size[1] * n_y / self.shape[1])
        step = _angle_step(grid.n_inplanes, 2 * max(self.shape))
        coarse = replace(descriptor, n_pixels=self.shape, pixel_size=pixel_size, n_inplanes=grid.n_inplanes // step)
        small = fourier_to_physical(images[:, :, ::step], coarse, factors[:, ::step])
        kept = np.flatnonzero(factors.any(axis=1))
        squares = np.abs(images[:, kept]) ** 2  # (k, shells kept, n_inplanes)
        power = np.einsum("ksj,sj->k", squares, (grid.shell_weights[:, None] * factors**2)[kept])
        return Tiles(self._grey(small), power)

    def _grey(self, images: npt.NDArray[np.float64]) -> Bytes:
        """Grey values, with a separate grey scale for each image."""
        shown = images.transpose(0, 2, 1) if self.transposed else images
        mean, deviation = shown.mean(axis=(1, 2), keepdims=True), shown.std(axis=(1, 2), keepdims=True)
        scaled = np.divide(shown - mean, deviation, out=np.full(shown.shape, -_GREY_RANGE), where=deviation > 0)
        return map_colours(scaled, (-_GREY_RANGE, _GREY_RANGE), GREYS)[..., 0]


@dataclass(frozen=True)
class Browsed:
    """Particles to be shown on a page.

    Args:
        table: the particles, in the order of the page.
        rows: (n,) row number of each particle for `--ind`.
        unseen: rows that were chosen, but are not on the page.
        rows_of: a sentence that says which table the row numbers refer to.
        form: how tiles are made.
        tiles: makes the tiles, in the order of the table.
        warnings: what the user should know.
    """

    table: ParticleTable
    rows: npt.NDArray[np.int64]
    unseen: npt.NDArray[np.int64]
    rows_of: str
    form: TileForm
    tiles: Callable[[], Iterator[Tiles]]
    warnings: tuple[str, ...]


def shown_and_unseen(table: ParticleTable, settings: ConversionSettings) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Positions of the chosen particles that a page shows, and of those that it has no room for; both ascending.

    Raises:
        InputError: see `choose_rows` and `draw`.
    """
    chosen, _ = choose_rows(table, replace(settings, sample=None))
    n = min(len(chosen), MOST_PARTICLES) if settings.sample is None else settings.sample
    drawn = np.zeros(len(chosen), dtype=bool)
    drawn[draw(len(chosen), n, settings.seed)] = True
    return chosen[drawn], chosen[~drawn]


class Sheets:
    """Collects tiles on sheets of 16 × 16. A sheet becomes a JPEG picture as soon as it is full."""

    def __init__(self) -> None:
        self._waiting: list[Bytes] = []
        self._urls: list[str] = []

    def add(self, tiles: Bytes) -> None:
        """Append tiles, (k, rows, columns)."""
        for tile in tiles:
            self._waiting.append(tile)
            if len(self._waiting) == PER_SHEET:
                self._finish()

    def urls(self) -> list[str]:
        """Data URLs of all sheets. Nothing can be added afterwards."""
        if self._waiting:
            self._finish()
        return self._urls

    def _finish(self) -> None:
        tiles = np.stack(self._waiting)
        self._waiting = []
        k, rows, columns = tiles.shape
        height, width = cell_of((rows, columns))
        sheet = np.zeros((-(-k // SHEET_COLUMNS), SHEET_COLUMNS, height, width), dtype=np.uint8)
        padded = np.pad(tiles, ((0, 0), (0, height - rows), (0, width - columns)), mode="edge")
        sheet.reshape(-1, height, width)[:k] = padded
        picture = io.BytesIO()
        pixels = sheet.transpose(0, 2, 1, 3).reshape(-1, SHEET_COLUMNS * width)
        Image.fromarray(pixels).save(picture, format="JPEG", quality=_QUALITY)
        self._urls.append(f"data:image/jpeg;base64,{base64.b64encode(picture.getvalue()).decode()}")


def _angle_step(n_inplanes: int, enough: int) -> int:
    """The largest step that divides the in-plane angles evenly, leaves an even number of them, and leaves enough."""
    return next((step for step in range(n_inplanes // enough, 1, -1) if n_inplanes % (2 * step) == 0), 1)


def cell_of(tile: tuple[int, int]) -> tuple[int, int]:
    """(rows, columns) of pixels that a tile of this shape takes on a sheet: whole JPEG blocks."""
    return -(-tile[0] // _BLOCK) * _BLOCK, -(-tile[1] // _BLOCK) * _BLOCK
