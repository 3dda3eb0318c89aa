"""Reads STAR files and cryoSPARC tables into one kind of table with a row per particle, and writes it as a STAR file.

May import `mrc`, for the numbered image files of cryoSPARC, and what lies below. Start with `table`: a `ParticleTable` is all that other
rooms know about a source. Then read `star` or `cryosparc`, which make one from files. `inputs` explains the arguments of each input.
"""
