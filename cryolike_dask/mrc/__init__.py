"""Reads MRC image files, plain or compressed, as arrays.

May import `filesystem`, `formatting` and `errors`, but not torch or Dask, and knows nothing of particles. Start with `reader`, which reads
images from a file; `header` reads what a file holds, `boxes` cuts boxes out of micrographs.
"""
