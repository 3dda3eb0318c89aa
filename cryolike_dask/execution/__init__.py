"""Dask: the stacks of a plan converted in this process, on a cluster, or as part of a larger graph.

May import everything but the commands and the public functions. Start with `run_loop`, the algorithm that runs a conversion. It runs the
functions of `tasks` on one of the `executors`; `convert_stack` does the work.
"""
