"""RELION's STAR files, read and written.

Start with `particles`: from files to a ParticleTable. `text`, `tables` and `columns` are the steps between; `export` writes.
"""
