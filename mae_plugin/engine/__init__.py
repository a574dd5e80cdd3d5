"""Training engine: loops, hooks, optimizer wrappers, metrics, and safe file reading."""

from .layer_decay import GroupedOptimWrapperConstructor, LayerDecayOptimWrapperConstructor
from .metrics import MaskedReconstruction
from .optim_wrapper import AutocastOptimWrapper

__all__ = [
    'AutocastOptimWrapper', 'GroupedOptimWrapperConstructor', 'LayerDecayOptimWrapperConstructor',
    'MaskedReconstruction'
]
