"""Ways of running tasks, one module each: in this thread, in threads of this process, or on a Dask cluster.

An executor takes tasks and returns their outcomes. The run loop decides on the order of stacks.
Start with `interface`. `serial` is the reference with which the others are compared.
"""
