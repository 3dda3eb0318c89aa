"""Pixels in: MRC image files, plain or compressed, read as arrays.

May know `file_kind`, `formatting` and `errors`; no particles, no torch, no Dask. Start with `reader` (images out of a file); `header`
says what a file holds, `boxes` cuts boxes out of micrographs.
"""
