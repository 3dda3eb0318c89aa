"""Options for compiling loops: without Python's global lock, and cached for the next process if possible."""

from __future__ import annotations

from typing import Any

from numba import njit


def _cache_is_writable() -> bool:
    """Whether numba can cache compiled code, beside this file or in the user's cache. If not, `cache=True` raises an error on import."""

    def probe() -> None:
        """Decorated here, but never compiled."""

    try:
        njit(cache=True)(probe)
    except RuntimeError:
        return False
    return True


NJIT_OPTIONS = {"nogil": True, "cache": _cache_is_writable()}

# Sums may be reordered and fused, which vectorises them; NaN and infinity must stay visible.
REORDER_SUMS = {"reassoc", "contract", "nsz"}


def is_compiled(function: Any) -> bool:
    """Whether the cache holds this loop, compiled from its present source, so that its first use takes no time."""
    return bool(function._cache._cache_file._load_index())
