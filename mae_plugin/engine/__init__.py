"""Training engine: loops, hooks, optimizers with their wrappers, and metrics."""

from .checkpoint_hooks import CheckpointCardHook, CheckpointFitsHook, PlainCheckpointHook
from .distributed import DistributedDataParallel, FSDPStrategy
from .float8 import Float8Hook
from .hooks import HalfGradientHook, LastValidationHook, MeanLossHook
from .knn import KNNHook, knn_accuracy, knn_scores
from .lars import Lars
from .layer_decay import GroupedOptimWrapperConstructor, LayerDecayOptimWrapperConstructor
from .loops import KeyedIterTrainLoop
from .metrics import MaskedReconstruction
from .optim_wrapper import AutocastOptimWrapper
from .robustness import MeanCorruptionError, SynsetAccuracy

__all__ = [
    'AutocastOptimWrapper', 'CheckpointCardHook', 'CheckpointFitsHook', 'DistributedDataParallel', 'FSDPStrategy',
    'Float8Hook', 'GroupedOptimWrapperConstructor', 'HalfGradientHook', 'KNNHook', 'KeyedIterTrainLoop', 'Lars',
    'LastValidationHook', 'LayerDecayOptimWrapperConstructor', 'MaskedReconstruction', 'MeanCorruptionError',
    'MeanLossHook', 'PlainCheckpointHook', 'SynsetAccuracy', 'knn_accuracy', 'knn_scores'
]
