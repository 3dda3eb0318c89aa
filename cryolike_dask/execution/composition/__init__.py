"""A conversion as part of something larger: a Dask graph, a lazy array, or a stream of stacks.

Start with `stream`, which is the shortest; `graph` has the edges that keep stacks in order.
"""
