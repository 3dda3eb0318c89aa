"""Convert cryo-EM particle stacks into CryoLike's Fourier-polar stacks, distributed with Dask."""

__version__ = "0.1.0"
