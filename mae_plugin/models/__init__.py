"""Model parts, all registered under the scope ``mae_plugin``."""

from .attentive_pooling import AttentivePooling
from .batch_norm_map import BatchNormMap
from .data_preprocessor import MAEDataPreprocessor
from .feature_target import FeatureTarget
from .federated_loss import FederatedLoss
from .hog_target import HOGTarget
from .mae_decoder import MAEDecoder
from .mae_head import PixelReconstructionHead, ReconstructionHead
from .masked_autoencoder import MaskedAutoencoder
from .masking import Masking, NoMasking, PatchMask, RandomMasking
from .pca_target import PCATarget
from .pretrained import MAEPretrained
from .rel_pos import DecomposedRelPos, RelPosBias
from .simple_feature_pyramid import SimpleFeaturePyramid, TapPyramid
from .targets import PixelTarget, Target
from .timm_vit import TimmViT
from .token_target import TokenPredictionHead, TokenTarget
from .vit import PlainViT

__all__ = [
    'AttentivePooling', 'BatchNormMap', 'DecomposedRelPos', 'FeatureTarget', 'FederatedLoss', 'HOGTarget',
    'MAEDataPreprocessor', 'MAEDecoder', 'MAEPretrained', 'MaskedAutoencoder', 'Masking', 'NoMasking', 'PCATarget',
    'PatchMask', 'PixelReconstructionHead', 'PixelTarget', 'PlainViT', 'RandomMasking', 'ReconstructionHead',
    'RelPosBias', 'SimpleFeaturePyramid', 'TapPyramid', 'Target', 'TimmViT', 'TokenPredictionHead',
    'TokenTarget'
]
