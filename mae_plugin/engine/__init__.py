"""Training engine: loops, hooks, optimizers with their wrappers, and metrics."""

from .hooks import CheckpointFitsHook, HalfGradientHook, LastValidationHook, MeanLossHook
from .knn import KNNHook, knn_accuracy, knn_scores
from .lars import Lars
from .layer_decay import GroupedOptimWrapperConstructor, LayerDecayOptimWrapperConstructor
from .loops import KeyedIterTrainLoop
from .metrics import MaskedReconstruction
from .optim_wrapper import AutocastOptimWrapper
from .robustness import MeanCorruptionError, SynsetAccuracy

__all__ = [
    'AutocastOptimWrapper', 'CheckpointFitsHook', 'GroupedOptimWrapperConstructor', 'HalfGradientHook', 'KNNHook',
    'KeyedIterTrainLoop', 'Lars', 'LastValidationHook', 'LayerDecayOptimWrapperConstructor', 'MaskedReconstruction',
    'MeanCorruptionError', 'MeanLossHook', 'SynsetAccuracy', 'knn_accuracy', 'knn_scores'
]
