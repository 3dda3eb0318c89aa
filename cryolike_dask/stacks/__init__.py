"""One stack on disk: `.pt` files or a shard of a Zarr store, its `.npz`, and how they become visible only when they are complete.

May import `planning` and the rooms below it, but not Dask, and does not deal with the other stacks of a run. Start with `files`, which
defines the states partial, staged and published; then `writer`, which takes a stack from partial to staged.
"""
