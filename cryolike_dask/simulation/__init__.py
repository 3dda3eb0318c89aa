"""Images that are known in closed form, for demonstrations and tests, and the contrast transfer function (CTF).

May know `errors` only. Start with `phantom`, a made-up molecule and its projections; `ctf` is also what marks the CTF's zeros in plots.
"""
