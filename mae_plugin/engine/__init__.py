"""Training engine: loops, hooks, optimizer wrappers, metrics, and safe file reading."""

from .hooks import CheckpointFitsHook, HalfGradientHook, LastValidationHook, MeanLossHook
from .layer_decay import GroupedOptimWrapperConstructor, LayerDecayOptimWrapperConstructor
from .loops import KeyedIterTrainLoop
from .metrics import MaskedReconstruction
from .optim_wrapper import AutocastOptimWrapper

__all__ = [
    'AutocastOptimWrapper', 'CheckpointFitsHook', 'GroupedOptimWrapperConstructor', 'HalfGradientHook',
    'KeyedIterTrainLoop', 'LastValidationHook', 'LayerDecayOptimWrapperConstructor', 'MaskedReconstruction',
    'MeanLossHook'
]
