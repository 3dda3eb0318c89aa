"""Ways of running tasks, one module each: in this thread, in threads of this process, or on a Dask cluster.

An executor takes tasks and returns their outcomes. The order of stacks is the work of the run loop.
Start with `interface`; `serial` is the oracle that the others are compared with.
"""
