"""What images mean: their grids, pixel size and precision, under CryoLike's module names.

May import `grids`, `settings`, `filesystem` and the modules for text and HTML; reads no image files. Start with `image_descriptor`, which
CryoLike calls the params file. The public names are declared in `__init__.pyi` and imported when they are first used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
