"""The public names: what `__init__.py` imports when it is first used, and what type checkers see."""

from .image_descriptor import ImageDescriptor as ImageDescriptor
