"""Attentive probing: one feature from all tokens by a learned query."""

from mmengine.model import BaseModule
from timm.layers import AttentionPoolLatent
from torch import Tensor

from ..registry import MODELS


@MODELS.register_module()
class AttentivePooling(BaseModule):
    """Neck that pools tokens by cross-attention with a learned query, and an MLP: timm's ``AttentionPoolLatent``.

    Between a frozen encoder of ``out_type='raw'`` and a linear head this is an attentive probe. MAE spreads what it
    knows over the patch tokens, of which the class token of a linear probe sees little.

    Args:
        embed_dim: Width of a token.
        num_heads: Attention heads, a divisor of it.
        init_cfg: As of any MMEngine module.

    Raises:
        ValueError: ``num_heads`` does not divide ``embed_dim``.
    """

    def __init__(self, embed_dim: int, num_heads: int, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        if embed_dim % num_heads:
            raise ValueError(f'AttentivePooling: num_heads={num_heads} does not divide embed_dim={embed_dim}')
        self.pool = AttentionPoolLatent(embed_dim, num_heads=num_heads)

    def forward(self, feats: tuple[Tensor, ...]) -> tuple[Tensor]:
        """From tokens (B, N, C), the last of the tuple, to one feature (B, C)."""
        return (self.pool(feats[-1]), )
