"""How loops are compiled: without Python's global lock, and kept for the next process where there is a place for them."""

from __future__ import annotations

from typing import Any

from numba import njit


def _cache_is_writable() -> bool:
    """Whether numba finds a place for compiled code: beside this file or in the user's cache. Without one it would not even import."""

    def probe() -> None:
        """Compiled by nobody."""

    try:
        njit(cache=True)(probe)
    except RuntimeError:
        return False
    return True


NJIT_OPTIONS = {"nogil": True, "cache": _cache_is_writable()}

# Sums may be reordered and fused, which vectorises them; NaN and infinity must stay visible.
REORDER_SUMS = {"reassoc", "contract", "nsz"}


def is_compiled(function: Any) -> bool:
    """Whether an earlier process left this loop, as its source is now, compiled, so that using it takes no time."""
    return bool(function._cache._cache_file._load_index())
