"""Tables in: STAR files and cryoSPARC tables become one table with a row per particle, and a STAR file again.

May know `mrc`, for the image files that cryoSPARC numbers, and what lies below. Start with `table`: a `ParticleTable` is all that later
rooms know of a source. Then read `star` or `cryosparc`, the way from a file to it. `inputs` says what the arguments of each input mean.
"""
