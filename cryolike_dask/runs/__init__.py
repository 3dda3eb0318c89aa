"""One output folder: who may write to it, what it holds, and whether that is complete and right.

May know `stacks` and what lies below; no Dask. Start with `steps`, the first and the last step of a run; `folder` and `lock` keep other
runs out, `manifest` records the run, `verify` checks it.
"""
