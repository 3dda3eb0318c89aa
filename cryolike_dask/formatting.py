"""Formats sizes, rates, times and names for people to read. Values that are not finite become 'unknown'."""

from __future__ import annotations

import math
import re
import textwrap
import time
from collections.abc import Sequence
from typing import Any

# Control characters except line feeds and tabs, marks that change the writing direction, other line breaks, and lone surrogates.
_ACTING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

_COLUMNS = 80


def format_bytes(n: float) -> str:
    """1536 -> '1.5 kB', in decimal units, as disks and file browsers use them."""
    if not math.isfinite(n):
        return "unknown"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(n) < 999.5:
            return f"{n:.0f} {unit}" if unit == "B" or abs(n) >= 99.5 else f"{n:.1f} {unit}"
        n /= 1000
    return f"{n:,.1f} PB"


def format_time(seconds: float) -> str:
    """75 -> '1 min 15 s'."""
    if not math.isfinite(seconds) or seconds < 0:
        return "unknown"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 48 * 3600:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} days {whole % 86400 // 3600} h"


def format_box(n_pixels: tuple[int, int], pixel_size: tuple[float, float]) -> str:
    """'64 × 64 pixels, 128 Å', or '32 × 48 pixels, 64 × 96 Å': rows × columns."""
    rows, columns = (f"{n * size:.4g}" for n, size in zip(n_pixels, pixel_size, strict=True))
    return f"{n_pixels[0]} × {n_pixels[1]} pixels, {rows if rows == columns else f'{rows} × {columns}'} Å"


def rate(amount: float, seconds: float) -> float:
    """Amount per second; NaN before any time has passed."""
    return amount / seconds if seconds > 0 else math.nan


def format_number(n: float) -> str:
    """12345.6 -> '12,346'; numbers below 10 that are not whole keep one decimal."""
    if not math.isfinite(n):
        return "unknown"
    return f"{n:,.0f}" if n >= 9.95 or n == round(n) else f"{n:.1f}"


def plural(n: int, noun: str) -> str:
    """'1 image', '2 images'."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def first_few(names: Sequence[str], most: int = 10) -> str:
    """'a, b, c and 4 more'."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def in_both(option: str) -> str:
    """'batch_size (--batch-size)': how messages name an option for Python and for the command line."""
    return f"{option} (--{option.replace('_', '-')})"


def is_or_are(n: int) -> str:
    """The verb after '1 image' or '2 images'."""
    return "is" if n == 1 else "are"


def format_file_state(n_bytes: int, mtime_ns: int) -> str:
    """State of a file: '1,024 bytes of 2026-01-31 12:00:00.000000000'."""
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(mtime_ns // 10**9))
    return f"{n_bytes:,} bytes of {when}.{mtime_ns % 10**9:09d}"


def array_kind(array: Any) -> str:
    """Type and shape of an array or tensor: 'complex64, 5 × 17 × 32'."""
    return f"{str(array.dtype).removeprefix('torch.')}, {' × '.join(map(str, array.shape))}"


def entry(name: str, text: str, indent: int) -> str:
    """A name and a text that starts at column `indent`, wrapped to 80 columns. A long word, such as a path, is not broken."""
    lines = [
        part
        for line in text.splitlines()
        for part in textwrap.wrap(line, _COLUMNS - indent, break_long_words=False, break_on_hyphens=False) or [""]
    ]
    return "\n".join(f"{name if number == 0 else '':<{indent}}{line}" for number, line in enumerate(lines))


def printable(text: str) -> str:
    r"""The text, with characters that act on a terminal escaped as Python writes them, such as \x1b.

    A byte of a file name that is not valid text is shown as an escaped byte.
    """
    return _ACTING.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:  # how Python represents a byte that is not valid text
        code -= 0xDC00
    return "\\r" if code == 0x0D else f"\\x{code:02x}" if code <= 0xFF else f"\\u{code:04x}"
