"""Numbers in, numbers out: from images to their Fourier-polar transforms, and back.

May know `metadata` and `settings`; no files, no Dask. The only room with Numba. Start with `cpu`, which follows a chunk of images from
pixels to Fourier images; `gpu` does the same in torch, and `direct_sum` is the formula that both are compared with.
"""
