"""The grids of images and transforms, under CryoLike's module names.

May know `errors` only. Start with `polar_grid`, the shells and in-plane angles of a Fourier stack.
"""
