"""A picture to draw arrays, text and smooth lines on, and to save as PNG.

Pillow draws, so a picture takes only milliseconds. Positions are pixels from the upper left corner.
"""

from __future__ import annotations

import importlib.util
import struct
import threading
import zlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.floating[Any]]
Target = str | Path | BinaryIO

INK = "#222222"
ACCENT = "#1f6f8b"
QUIET = "#8a8a8a"
FAINT = "#e9e9e9"

_POINT = 100 / 72
"""Pixels per point of a font, at 100 dots per inch."""
_SMOOTH = 4
"""Factor by which lines are drawn larger, and then reduced, to make them smooth."""
_text_lock = threading.Lock()
"""The fonts are cached, and FreeType is not thread-safe."""


class Canvas:
    """A white picture to draw on.

    Args:
        width, height: pixels.
    """

    def __init__(self, width: int, height: int) -> None:
        from PIL import Image, ImageDraw

        self.width, self.height = width, height
        self._image = Image.new("RGB", (width, height), "white")
        self._draw = ImageDraw.Draw(self._image)

    def pixels(self, pixels: Bytes, left: int, top: int) -> None:
        """Copy (rows, columns, 3) pixels onto the picture, with their upper left corner here."""
        from PIL import Image

        self._image.paste(Image.fromarray(pixels), (left, top))

    def text(self, x: float, y: float, text: str, size: float = 9, *, colour: str = INK, anchor: str = "lm") -> None:
        """Write a line.

        Args:
            x, y: position of the anchor.
            text: what to write.
            size: font size in points.
            colour: colour of the letters.
            anchor: two letters, as in Pillow: l, m or r for the left, middle or right; a, m or d for the top, middle or bottom.
        """
        with _text_lock:
            self._draw.text((x, y), text, fill=colour, font=_font(size), anchor=anchor)

    def label(self, x: float, y: float, text: str, size: float) -> None:
        """Write a line in white on black, centred on this point."""
        with _text_lock:
            left, top, right, bottom = self._draw.textbbox((x, y), text, font=_font(size), anchor="mm")
            self._draw.rectangle((left - 2, top - 2, right + 1, bottom + 1), fill=INK)
            self._draw.text((x, y), text, fill="white", font=_font(size), anchor="mm")

    def text_upwards(self, x: float, y: float, text: str, size: float) -> None:
        """Write a line that runs upwards, centred on this point."""
        from PIL import Image, ImageDraw

        with _text_lock:
            left, top, right, bottom = (int(edge) for edge in _font(size).getbbox(text))
            mask = Image.new("L", (right + 2, bottom + 2))
            ImageDraw.Draw(mask).text((0, 0), text, fill=255, font=_font(size))
        turned = mask.crop((left, top, right + 2, bottom + 2)).transpose(Image.Transpose.ROTATE_90)
        self._image.paste(INK, (round(x - turned.width / 2), round(y - turned.height / 2)), turned)

    def rectangle(self, left: float, top: float, right: float, bottom: float, colour: str) -> None:
        """Fill the pixels from `left` and `top` up to, but not including, `right` and `bottom`."""
        edges = round(left), round(top), round(right) - 1, round(bottom) - 1
        if edges[2] >= edges[0] and edges[3] >= edges[1]:
            self._draw.rectangle(edges, fill=colour)

    def dashes(self, x: float, top: float, bottom: float, colour: str) -> None:
        """Draw a dashed vertical line, one pixel wide."""
        for start in np.arange(top, bottom, 8):
            self.rectangle(round(x), start, round(x) + 1, min(start + 4, bottom), colour)

    def curve(self, x: FloatArray | Sequence[float], y: FloatArray | Sequence[float], colour: str, width: float) -> None:
        """Draw a smooth line through these points. NaN interrupts it, and parts outside the picture are cut off."""
        x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
        whole = np.isfinite(x) & np.isfinite(y)
        for part in np.split(np.arange(len(x)), np.flatnonzero(np.diff(whole)) + 1):
            if len(part) > 1 and whole[part[0]]:
                self._curve(np.stack([x[part], y[part]], axis=1), colour, width)

    def _curve(self, points: npt.NDArray[np.float64], colour: str, width: float) -> None:
        from PIL import Image, ImageDraw

        reach = int(width) + 2
        lower = np.maximum(np.floor(points.min(axis=0)) - reach, 0).astype(int)
        upper = np.minimum(np.ceil(points.max(axis=0)) + reach, (self.width, self.height)).astype(int)
        if (upper <= lower).any():
            return
        size = upper - lower
        mask = Image.new("L", tuple((size * _SMOOTH).tolist()))
        # The centre of a pixel is at a whole number.
        large = (points - lower + 0.5) * _SMOOTH
        ImageDraw.Draw(mask).line([tuple(point) for point in large.tolist()], fill=255, width=round(width * _SMOOTH), joint="curve")
        self._image.paste(colour, tuple(lower.tolist()), mask.reduce(_SMOOTH))

    def save(self, target: Target) -> None:
        """Write a PNG to this path or open binary file."""
        png = encode_png(np.asarray(self._image))
        if isinstance(target, str | Path):
            Path(target).write_bytes(png)
        else:
            target.write(png)


def encode_png(pixels: Bytes) -> bytes:
    """A PNG file of (rows, columns, 3) pixels, with one channel if they are all grey.

    Noise hardly compresses, so a fast compressor matters more than a good one. This takes a tenth of Pillow's time.
    """
    from isal import isal_zlib

    grey = bool((pixels[..., 0] == pixels[..., 1]).all() and (pixels[..., 1] == pixels[..., 2]).all())
    rows = pixels[..., 0] if grey else pixels.reshape(len(pixels), -1)
    # The byte before each row is its PNG filter; 0 is none.
    filtered = np.pad(rows, ((0, 0), (1, 0)))
    height, width = pixels.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, 8, 0 if grey else 2, 0, 0, 0)
    chunks: tuple[tuple[Literal[b"IHDR", b"IDAT", b"IEND"], bytes], ...] = (
        (b"IHDR", header),
        (b"IDAT", isal_zlib.compress(filtered, 1)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, content) for name, content in chunks)


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


@cache
def _font(size: float) -> Any:
    """DejaVu Sans at this size in points. Matplotlib contains the font, which is found without loading Matplotlib."""
    from PIL import ImageFont

    found = importlib.util.find_spec("matplotlib")
    if found is None or not found.submodule_search_locations:
        raise RuntimeError("Matplotlib is not installed: install cryolike_dask with its dependencies.")
    path = Path(found.submodule_search_locations[0]) / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
    return ImageFont.truetype(path, size * _POINT, layout_engine=ImageFont.Layout.BASIC)
