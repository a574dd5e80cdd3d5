"""Data sets, transforms and samplers, registered under the scope ``mae_plugin``."""

from .label_map_checks import CheckLabelMap
from .load_image import LoadImage
from .sample_key import SampleKey, generator
from .samplers import KeyedSampler, RepeatFactorSampler
from .timm_transforms import LoopFreeRandomResizedCrop, TimmTransform
from .transforms import KeyedRandomFlip, KeyedRandomResizedCrop, PackUnlabelled, ResizeCenterCrop
from .unlabelled import UnlabelledImages

__all__ = [
    'CheckLabelMap', 'KeyedRandomFlip', 'KeyedRandomResizedCrop', 'KeyedSampler', 'LoadImage',
    'LoopFreeRandomResizedCrop', 'PackUnlabelled', 'RepeatFactorSampler', 'ResizeCenterCrop', 'SampleKey',
    'TimmTransform', 'UnlabelledImages', 'generator'
]
