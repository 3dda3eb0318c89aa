"""Reads and writes RELION's STAR files.

Start with `particles`, which makes a ParticleTable from files. `text`, `tables` and `columns` are the steps between; `export` writes.
"""
