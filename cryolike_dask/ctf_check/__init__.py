"""Does the CTF that a table states fit the images? A check that works on particles of many micrographs at once.

Arrays in, a verdict out: no files, no torch, and nothing but `simulation` below it. Start with `check_ctf` in `check`; `model` is what a
CTF predicts, `score` how well images follow it, and docs/ctf-check.md the reasons.
"""
