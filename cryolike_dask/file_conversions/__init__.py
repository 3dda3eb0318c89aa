"""CryoLike's conversion functions and converter object, under CryoLike's module names.

May import `conversion` and the rooms below it. Start with `particle_stacks_wrappers`: one function per input, which passes a description of
the input to a `Conversion`. The public names are declared in `__init__.pyi` and imported when they are first used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
