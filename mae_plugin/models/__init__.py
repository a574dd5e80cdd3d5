"""Model parts, all registered under the scope ``mae_plugin``."""

from .attentive_pooling import AttentivePooling
from .batch_norm_map import BatchNormMap
from .corruptions import Corruption, GaussianNoise, MaskingNoise, SaltAndPepper
from .data_preprocessor import MAEDataPreprocessor
from .federated_loss import FederatedLoss
from .mae_decoder import MAEDecoder
from .mae_head import PixelReconstructionHead, ReconstructionHead
from .masked_autoencoder import MaskedAutoencoder
from .masking import Masking, NoMasking, PatchMask, RandomMasking
from .masks import BlockMasking, FileMasking, GridMasking, MapMasking, RegionMasking
from .pretrained import MAEPretrained
from .rel_pos import DecomposedRelPos, RelPosBias
from .simple_feature_pyramid import SimpleFeaturePyramid, TapPyramid
from .targets import PixelTarget, Target
from .vit import PlainViT

__all__ = [
    'AttentivePooling', 'BatchNormMap', 'BlockMasking', 'Corruption', 'DecomposedRelPos', 'FederatedLoss',
    'FileMasking', 'GaussianNoise', 'GridMasking', 'MAEDataPreprocessor', 'MAEDecoder', 'MAEPretrained', 'MapMasking',
    'MaskedAutoencoder', 'Masking', 'MaskingNoise', 'NoMasking', 'PatchMask', 'PixelReconstructionHead', 'PixelTarget',
    'PlainViT', 'RandomMasking', 'ReconstructionHead', 'RegionMasking', 'RelPosBias', 'SaltAndPepper',
    'SimpleFeaturePyramid', 'TapPyramid', 'Target'
]
