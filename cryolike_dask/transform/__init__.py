"""Transforms arrays of images to Fourier-polar images, and back.

May import `metadata` and `settings`, but uses no files and no Dask. The only room that uses Numba. Start with `cpu`, which takes a chunk of
images from pixels to Fourier images; `gpu` does the same in torch, and `direct_sum` is the formula that both are compared with.
"""
