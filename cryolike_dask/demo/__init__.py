"""Makes particle sets from a simulated molecule, to try the package on, and converts them.

May import everything but `cli`. Start with `run`, which `cryolike-dask demo` calls.
"""
