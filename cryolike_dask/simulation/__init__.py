"""Images with a closed formula, for demonstrations and tests, and the contrast transfer function (CTF).

May import only `errors` of this package. Start with `phantom`, a made-up molecule and its projections; plots mark the zeros of
the CTF with `ctf`.
"""
