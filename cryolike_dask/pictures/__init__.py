"""Plots of stacks, and the HTML page about a run.

May know `runs` and what lies below; no Dask. Start with `stack_plots` (the pictures of one stack, from its files) and `plots` (how each
is drawn).
"""
