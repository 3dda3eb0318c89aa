"""Convert cryo-EM particle stacks into CryoLike's Fourier-polar stacks, distributed with Dask.

The public names are declared in `__init__.pyi` and imported when they are first used, so that importing the package is immediate.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, _names = lazy_loader.attach_stub(__name__, __file__)
__all__ = [*_names, "__version__"]
