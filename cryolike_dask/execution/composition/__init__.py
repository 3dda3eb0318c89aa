"""A conversion as part of something larger: a Dask graph, a lazy array, or a stream of stacks.

Start with `stream`, the shortest module. The edges that keep stacks in order are in `graph`.
"""
