"""Ways of running tasks, one module each: in this thread, in threads of this process, or on a Dask cluster.

An executor takes tasks and hands back what became of them. It knows nothing of the order of stacks: that is the run loop's work.
Start with `interface`; `serial` is the oracle that the others are compared with.
"""
