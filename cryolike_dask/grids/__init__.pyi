"""The public names: what `__init__.py` imports when it is first used, and what type checkers see."""

from .cartesian_grid import CartesianGrid2D as CartesianGrid2D
from .polar_grid import PolarGrid as PolarGrid
