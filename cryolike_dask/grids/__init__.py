"""The grids of images and transforms, under CryoLike's module names.

May import `errors` only. Start with `polar_grid`, the shells and in-plane angles of a Fourier stack. The public names are declared in
`__init__.pyi` and imported when they are first used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
