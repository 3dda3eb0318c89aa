"""CryoLike's results: its likelihoods and poses, joined with the converted particles.

May know `runs` and what lies below; no Dask, and torch only through `stacks.loading`. Start with `collect`, the way from two folders to a
table; `files` knows where CryoLike writes what, `poses` turns its poses into RELION's, `writing` makes the STAR file.
"""
