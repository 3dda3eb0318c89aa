"""Dask: the stacks of a plan converted in this process, on a cluster, or as part of a larger graph.

May know everything but the commands and the public functions. Start with `run_loop`, the algorithm that runs a conversion; `executors`
are what it runs tasks on, `tasks` what they run, and `convert_stack` is the work itself.
"""
