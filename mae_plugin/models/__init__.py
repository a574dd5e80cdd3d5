"""Model parts, all registered under the scope ``mae_plugin``."""

from .attentive_pooling import AttentivePooling
from .batch_norm_map import BatchNormMap
from .corruptions import Corruption, GaussianNoise, MaskingNoise, SaltAndPepper
from .cross_decoder import CrossMAEDecoder
from .data_preprocessor import MAEDataPreprocessor
from .feature_target import FeatureTarget
from .federated_loss import FederatedLoss
from .hog_target import HOGTarget
from .linear_decoder import LinearDecoder
from .mae_decoder import MAEDecoder
from .mae_head import PixelReconstructionHead, ReconstructionHead
from .mask_token_vit import MaskTokenViT
from .masked_autoencoder import MaskedAutoencoder
from .masking import Masking, NoMasking, PatchMask, RandomMasking
from .masks import BlockMasking, FileMasking, GridMasking, MapMasking, RegionMasking
from .pca_target import PCATarget
from .pretrained import MAEPretrained
from .rel_pos import DecomposedRelPos, RelPosBias
from .simple_feature_pyramid import SimpleFeaturePyramid, TapPyramid
from .targets import PixelTarget, Target
from .timm_vit import TimmViT
from .token_target import TokenPredictionHead, TokenTarget
from .vit import PlainViT

__all__ = [
    'AttentivePooling', 'BatchNormMap', 'BlockMasking', 'Corruption', 'CrossMAEDecoder', 'DecomposedRelPos',
    'FeatureTarget', 'FederatedLoss', 'FileMasking', 'GaussianNoise', 'GridMasking', 'HOGTarget', 'LinearDecoder',
    'MAEDataPreprocessor', 'MAEDecoder', 'MAEPretrained', 'MapMasking', 'MaskTokenViT', 'MaskedAutoencoder',
    'Masking', 'MaskingNoise', 'NoMasking', 'PCATarget', 'PatchMask', 'PixelReconstructionHead', 'PixelTarget',
    'PlainViT', 'RandomMasking', 'ReconstructionHead', 'RegionMasking', 'RelPosBias', 'SaltAndPepper',
    'SimpleFeaturePyramid', 'TapPyramid', 'Target', 'TimmViT', 'TokenPredictionHead', 'TokenTarget'
]
