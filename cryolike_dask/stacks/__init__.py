"""One stack on disk: `.pt` files or a shard of a Zarr store, its `.npz`, and how they become visible only when they are complete.

May know `planning` and what lies below; nothing of the other stacks of a run, and no Dask. Start with `files`, which defines partial,
staged and published; then `writer`, which takes a stack from the first to the second.
"""
