"""The C library's heap, where somebody told it to give every buffer back at once."""

from __future__ import annotations

import ctypes
import os
import platform
from functools import cache

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_BUFFER_BYTES = 32 << 20


@cache
def keep_freed_buffers() -> None:
    """Let freed buffers of up to 32 MiB be used again instead of going back to the system.

    Left alone, glibc comes to this by itself once such a buffer was freed. A fixed trim threshold switches that off, and Dask gives
    its workers one of 64 KiB: each FFT's result then comes as new, zeroed pages, which takes three times as long as the FFT.
    """
    if platform.libc_ver()[0] == "glibc" and "MALLOC_TRIM_THRESHOLD_" in os.environ:
        library = ctypes.CDLL(None)
        library.mallopt(_M_MMAP_THRESHOLD, _BUFFER_BYTES)
        library.mallopt(_M_TRIM_THRESHOLD, 2 * _BUFFER_BYTES)
