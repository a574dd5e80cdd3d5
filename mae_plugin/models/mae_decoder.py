"""The small decoder that predicts the hidden patches."""

from collections.abc import Sequence

import torch
from mmengine.model import BaseModule
from mmengine.model.weight_init import initialize
from timm.layers import to_2tuple
from torch import Tensor, nn

from ..registry import MODELS
from .layers import LAYER_NORM_EPS, Block, init_transformer, residual_stream
from .masking import PatchMask
from .pos_embed import resample_pos_embed, sincos_pos_embed


@MODELS.register_module()
class MAEDecoder(BaseModule):
    """Decoder of MAE (section 3): sees the latents and a mask token for each hidden patch, predicts what the mask says.

    Two things make it cheaper than the paper's words, with the same result. Attention does not care for the order of
    tokens, so they stay in the mask's order (class token, visible, hidden) and nothing is sorted back. And the last
    block computes queries, projection and MLP only for tokens that the loss reads.

    To what an encoder makes of all patches, the hidden ones too (MAE, Table 1c; denoising), no mask tokens are added.

    Args:
        img_size: Image size of pretraining; the algorithm passes the backbone's, as the next two.
        patch_size: Patch size in pixels.
        embed_dim: Width of the latents.
        out_dim: Numbers to predict for a patch; the algorithm passes the target's.
        num_prefix_tokens: Tokens of the latents before the patches; the algorithm passes the backbone's.
        decoder_embed_dim: Width of the decoder.
        decoder_depth: Number of blocks.
        decoder_num_heads: Attention heads.
        mlp_ratio: Hidden width of the MLPs over ``decoder_embed_dim``.
        with_cp: Activation checkpointing of every block, as in :class:`PlainViT`.
        bf16_residual: A residual stream in bfloat16, as in :class:`PlainViT`.

    Raises:
        ValueError: If ``decoder_depth`` is below one, or ``decoder_num_heads`` does not divide the width.
    """

    block_class = Block

    def __init__(self,
                 img_size: int | Sequence[int],
                 patch_size: int | Sequence[int],
                 embed_dim: int,
                 out_dim: int,
                 num_prefix_tokens: int = 1,
                 decoder_embed_dim: int = 512,
                 decoder_depth: int = 8,
                 decoder_num_heads: int = 16,
                 mlp_ratio: float = 4.,
                 with_cp: bool = False,
                 bf16_residual: bool = False,
                 init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        if decoder_depth < 1:
            raise ValueError(f'decoder_depth={decoder_depth}: a decoder has at least one block')
        (H, W), (p, q) = to_2tuple(img_size), to_2tuple(patch_size)
        self.grid, self.bf16_residual = (H // p, W // q), bf16_residual
        self.num_prefix_tokens = num_prefix_tokens
        self.decoder_embed = nn.Linear(embed_dim, decoder_embed_dim)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, decoder_embed_dim))
        self.decoder_pos_embed = nn.Parameter(sincos_pos_embed(decoder_embed_dim, self.grid), requires_grad=False)
        self.decoder_blocks = nn.ModuleList(
            self.block_class(decoder_embed_dim, decoder_num_heads, mlp_ratio, with_cp=with_cp)
            for _ in range(decoder_depth))
        self.decoder_norm = nn.LayerNorm(decoder_embed_dim, eps=LAYER_NORM_EPS)
        self.decoder_pred = nn.Linear(decoder_embed_dim, out_dim)

    def forward(self, latents: tuple[Tensor, ...], mask: PatchMask) -> Tensor:
        """Predict (B, P, out_dim) for ``mask.ids_pred`` from the last of ``latents``.

        That is (B, T + K, embed_dim), T prefix tokens and the visible patches, or (B, T + L, embed_dim), with the
        hidden patches after them.

        Raises:
            ValueError: If it has another number of tokens.
        """
        x = self.decoder_embed(latents[-1])
        num_hidden = missing_tokens(x, mask, self.num_prefix_tokens)
        x = torch.cat([x, self.mask_token.to(x.dtype).expand(x.size(0), num_hidden, -1)], dim=1)
        x = residual_stream(x + self._positions(mask), self.bf16_residual)
        for block in self.decoder_blocks[:-1]:
            x = block(x)
        x = self.decoder_blocks[-1](x, num_queries=mask.ids_pred.size(1))
        return self.decoder_pred(self.decoder_norm(x))

    def _positions(self, mask: PatchMask) -> Tensor:
        """(B, T + L, C): positions of prefix tokens, zeros, and of the patches in the order of the mask."""
        pos_embed = resample_pos_embed(self.decoder_pos_embed, self.grid, mask.grid)[0]
        prefix = mask.ids_shuffle.new_zeros(mask.ids_shuffle.size(0), self.num_prefix_tokens)
        return pos_embed[torch.cat([prefix, mask.ids_shuffle + 1], dim=1)]

    def init_weights(self) -> None:
        """Initialise as MAE does, then apply ``init_cfg``."""
        init_transformer(self)
        nn.init.normal_(self.mask_token, std=.02)
        if self.init_cfg:
            initialize(self, self.init_cfg)
        self._is_init = True


def missing_tokens(latents: Tensor, mask: PatchMask, num_prefix_tokens: int) -> int:
    """How many hidden patches are not among ``latents`` (B, N, C): L - K, or 0 after an encoder that sees all of them.

    Raises:
        ValueError: If N fits neither.
    """
    L = mask.ids_shuffle.size(1)
    patches = latents.size(1) - num_prefix_tokens
    if patches not in (mask.num_keep, L):
        raise ValueError(
            f'the backbone gives {latents.size(1)} tokens, the decoder wants {num_prefix_tokens} before the patches, '
            f'then the {mask.num_keep} visible ones or all {L}')
    return L - patches
