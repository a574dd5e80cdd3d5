"""Discrete tokens as target, and their loss."""

from abc import abstractmethod

import torch.nn.functional as F
from torch import Tensor

from ..registry import MODELS
from .mae_head import ReconstructionHead
from .masking import PatchMask
from .targets import Target


class TokenTarget(Target):
    """One of ``dim`` tokens for each patch (BEiT, Bao et al., 2022; MAE, Table 1d), for :class:`TokenPredictionHead`.

    A tokenizer of one's own sets ``dim``, the size of its vocabulary, and overrides :meth:`tokens`.

    Args:
        patch_size: Patch size in pixels; the algorithm passes the backbone's.
        in_chans: Channels of the image; the algorithm passes the backbone's.
    """

    def forward(self, imgs: Tensor, mask: PatchMask) -> Tensor:
        """Tokens (B, P), int64, of ``mask.ids_pred``."""
        return self.tokens(imgs, mask.grid).gather(1, mask.ids_pred)

    @abstractmethod
    def tokens(self, imgs: Tensor, grid: tuple[int, int]) -> Tensor:
        """(B, L), int64 from 0 to ``dim`` - 1, of all patches of normalised ``imgs`` (B, C, H, W), L = h * w."""


@MODELS.register_module()
class TokenPredictionHead(ReconstructionHead):
    """Cross-entropy of the tokens of predicted patches (BEiT, equation 4; MAE, Table 1d).

    Args:
        target: Config of a :class:`TokenTarget`, e.g. ``dict(type='mae_plugin.DALLETarget', checkpoint=...)``.
    """

    def errors(self, pred: Tensor, target: Tensor) -> Tensor:
        """(B, P, 1), see :meth:`ReconstructionHead.errors`."""
        if target.shape != pred.shape[:2] or target.is_floating_point():
            raise ValueError(
                f'{type(self).__name__} wants a token for each patch, whole numbers {tuple(pred.shape[:2])}; '
                f'{type(self.target).__name__} gives {tuple(target.shape)} of {target.dtype}: take '
                'mae_plugin.PixelReconstructionHead for it, or a TokenTarget as head.target')
        return F.cross_entropy(pred.flatten(0, 1), target.flatten(), reduction='none').view(*target.shape, 1)
