"""cryoSPARC's tables and job directories.

Start with `particles` (a table that names its images) or `job` (a job directory). `table` reads a file, `columns` interprets its columns.
"""
