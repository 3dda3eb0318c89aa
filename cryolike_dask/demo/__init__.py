"""Particle sets to try things on, made from a simulated molecule and converted from beginning to end.

May know everything but `cli`. Start with `particles`, which is what `cryolike-dask demo` runs.
"""
