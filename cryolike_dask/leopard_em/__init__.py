"""Leopard-EM's 2D template matches: statistics maps, picks and tables.

May import `particles`, because its tables become particle tables, and what lies below. Start with `particles` (from a table to boxes that
can be converted) or `picking` (from statistics maps to a table). The public names are declared in `__init__.pyi` and imported when they
are first used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
