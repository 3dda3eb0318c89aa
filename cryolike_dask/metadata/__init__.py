"""What images mean: their grids, pixel size and precision, under CryoLike's module names.

May know `grids` and `errors`; no image files. Start with `image_descriptor`, which CryoLike calls the params file.
"""
