"""Plots of stacks, and the HTML page about a run.

May import `runs` and what lies below, but not Dask. Start with `stack_plots`, which makes the pictures of one stack from its files, and
`plots`, which draws them.
"""
