"""Data sets, transforms and samplers, registered under the scope ``mae_plugin``."""

from .sample_key import SampleKey, generator
from .samplers import KeyedSampler
from .timm_transforms import LoopFreeRandomResizedCrop, TimmTransform
from .transforms import KeyedRandomFlip, KeyedRandomResizedCrop, PackUnlabelled, ResizeCenterCrop
from .unlabelled import UnlabelledImages

__all__ = [
    'KeyedRandomFlip', 'KeyedRandomResizedCrop', 'KeyedSampler', 'LoopFreeRandomResizedCrop', 'PackUnlabelled',
    'ResizeCenterCrop', 'SampleKey', 'TimmTransform', 'UnlabelledImages', 'generator'
]
