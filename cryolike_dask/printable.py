"""Text for people to read, whatever is in it: names of files, and what files hold, may come from anybody."""

from __future__ import annotations

import re

# Control characters apart from line breaks and tabs, those that turn the direction of writing, other line breaks, and what is no text.
_ACTING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    r"""The text without characters that act on a terminal: each is shown as Python writes it, such as \x1b.

    A byte of a file name that is no text is shown as that byte.
    """
    return _ACTING.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:  # how Python keeps such a byte
        code -= 0xDC00
    return "\\r" if code == 0x0D else f"\\x{code:02x}" if code <= 0xFF else f"\\u{code:04x}"
