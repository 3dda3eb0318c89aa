"""Recognising what a file is by its first bytes, when it is not what its name says."""

from __future__ import annotations

import re

_HTML = (b"<!doctype html", b"<html", b"<head")


def foreign_content(first_bytes: bytes) -> str | None:
    """What a file is when it certainly holds no data: a phrase that goes on 'the file is ...', or None.

    Args:
        first_bytes: the beginning of the file, at least 64 bytes where it has as many.
    """
    if not first_bytes:
        return "empty (zero bytes): copy it again from where it came from"
    if first_bytes.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the data itself: fetch the data with `git lfs pull`"
    if first_bytes.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(_HTML):
        return "an HTML page, not data (a download that asked for a log-in or failed): download it again"
    return None


def utf16_advice(first_bytes: bytes) -> str | None:
    """What to do with a text file when its text is UTF-16: a phrase that goes on 'the file is ...', or None.

    Args:
        first_bytes: the beginning of the file, at least 64 bytes where it has as many.
    """
    by_mark = first_bytes.startswith((b"\xff\xfe", b"\xfe\xff"))
    # Without a byte-order mark, every second byte of plain English is zero.
    halves = first_bytes[: len(first_bytes) // 2 * 2]
    by_zeros = len(halves) >= 4 and sorted((any(halves[0::2]), any(halves[1::2]))) == [False, True]
    if not (by_mark or by_zeros):
        return None
    return "UTF-16 text, as some Windows programs write: convert it with `iconv -f utf-16 -t utf-8`"


def cryosparc_group(content: bytes) -> tuple[str, ...] | None:
    """The tables that a cryoSPARC result group (.csg) names; None if the content is no such file.

    Args:
        content: of the file.
    """
    if b"results:" not in content or b"metafile:" not in content:
        return None
    tables = re.findall(rb"^ +metafile: *['\"]?>?([^'\"\r\n]+)", content, re.MULTILINE)
    return tuple(dict.fromkeys(table.decode(errors="replace").strip() for table in tables)) or None
