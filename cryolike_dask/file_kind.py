"""Recognising what a file is by its first bytes, when it is not what its name says."""

from __future__ import annotations

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
