"""The published recipes as data, and what a config differs from them in."""

from .compare import Difference, compare, table
from .published import RECIPES

__all__ = ['RECIPES', 'Difference', 'compare', 'table']
