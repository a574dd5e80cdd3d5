"""Data sets, transforms and samplers, registered under the scope ``mae_plugin``."""

from .augment import KeyedColorJitter, KeyedResizeCrop
from .batch import Batch, collate_batch
from .label_map_checks import CheckLabelMap
from .label_share import label_share
from .load_image import LoadImage
from .mask_map import LoadMaskMap
from .picture import Picture, open_picture
from .sample_key import SampleKey, generator
from .samplers import KeyedSampler, RepeatFactorSampler
from .timm_transforms import LoopFreeRandomResizedCrop, TimmTransform
from .transforms import KeyedRandomFlip, KeyedRandomResizedCrop, PackUnlabelled, ResizeCenterCrop
from .unlabelled import UnlabelledImages

__all__ = [
    'Batch', 'CheckLabelMap', 'KeyedColorJitter', 'KeyedRandomFlip', 'KeyedRandomResizedCrop', 'KeyedResizeCrop',
    'KeyedSampler', 'LoadImage', 'LoadMaskMap', 'LoopFreeRandomResizedCrop', 'PackUnlabelled', 'Picture',
    'RepeatFactorSampler', 'ResizeCenterCrop', 'SampleKey', 'TimmTransform', 'UnlabelledImages', 'collate_batch',
    'generator', 'label_share', 'open_picture'
]
