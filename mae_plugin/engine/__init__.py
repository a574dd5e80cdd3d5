"""Training engine: loops, hooks, optimizers with their wrappers, and metrics."""

from .bad_images import BadImagesHook
from .checkpoint_hooks import CheckpointCardHook, CheckpointFitsHook, PlainCheckpointHook
from .distributed import DistributedDataParallel, FSDPStrategy
from .fast_step import FastStepHook
from .float8 import Float8Hook
from .graphed_step import CUDAGraphRecorder, GraphedStep
from .hooks import HalfGradientHook, LastValidationHook, MeanLossHook
from .knn import KNNHook, knn_accuracy, knn_scores
from .lars import Lars
from .layer_decay import GroupedOptimWrapperConstructor, LayerDecayOptimWrapperConstructor
from .loops import KeyedIterTrainLoop
from .mask_ratio import MaskRatioHook
from .metrics import MaskedReconstruction
from .optim_wrapper import AutocastOptimWrapper
from .reconstruction_hook import ReconstructionHook
from .robustness import MeanCorruptionError, SynsetAccuracy
from .throughput import ThroughputHook

__all__ = [
    'AutocastOptimWrapper', 'BadImagesHook', 'CUDAGraphRecorder', 'CheckpointCardHook', 'CheckpointFitsHook',
    'DistributedDataParallel', 'FSDPStrategy', 'FastStepHook', 'Float8Hook', 'GraphedStep',
    'GroupedOptimWrapperConstructor', 'HalfGradientHook', 'KNNHook', 'KeyedIterTrainLoop', 'Lars', 'LastValidationHook',
    'LayerDecayOptimWrapperConstructor', 'MaskRatioHook', 'MaskedReconstruction', 'MeanCorruptionError', 'MeanLossHook',
    'PlainCheckpointHook', 'ReconstructionHook', 'SynsetAccuracy', 'ThroughputHook', 'knn_accuracy', 'knn_scores'
]
