"""One output folder: which run may write to it, what it holds, and whether this is complete and correct.

May import `stacks` and the rooms below it, but not Dask. Start with `steps`, the first and the last step of a run. `folder` and `lock` keep
other runs out, `manifest` records the run, and `verify` checks it.
"""
