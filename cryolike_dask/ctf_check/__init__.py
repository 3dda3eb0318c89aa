"""Checks whether the CTF that a table states fits the images, with particles of many micrographs together.

Takes arrays and returns a verdict, without files or torch. May import `metadata`, `simulation` and `formatting`. Start with `check_ctf` in
`check`; `model` computes what a CTF predicts and `score` how well images follow it. docs/ctf-check.md gives the reasons.
"""
