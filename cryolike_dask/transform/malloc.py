"""Keeps freed buffers in the heap of glibc, even if the environment tells it to return them to the system immediately."""

from __future__ import annotations

import ctypes
import os
import platform
from functools import cache

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_BUFFER_BYTES = 32 << 20


@cache
def keep_freed_buffers() -> None:
    """Make glibc reuse freed buffers of up to 32 MiB instead of returning them to the system.

    By default, glibc does so on its own once such a buffer is freed. A fixed trim threshold disables that, and Dask sets one of 64 KiB
    for its workers. Each FFT then gets new, zeroed pages for its result, which takes three times as long as the FFT.
    """
    if platform.libc_ver()[0] == "glibc" and "MALLOC_TRIM_THRESHOLD_" in os.environ:
        library = ctypes.CDLL(None)
        library.mallopt(_M_MMAP_THRESHOLD, _BUFFER_BYTES)
        library.mallopt(_M_TRIM_THRESHOLD, 2 * _BUFFER_BYTES)
