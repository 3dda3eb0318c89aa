"""CryoLike's results: its likelihoods and poses, joined with the converted particles.

May import `runs` and what lies below, but not Dask, and torch only through `stacks.loading`. Start with `collect`, which makes a table from
two folders. `files` knows which files CryoLike writes, `poses` converts its poses to RELION's, and `writing` writes the STAR file.
"""
