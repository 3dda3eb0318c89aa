"""Makes particle sets from a simulated molecule, to try the package on, and converts them.

May import everything but `cli`. Start with `particles`, which `cryolike-dask demo` runs.
"""
