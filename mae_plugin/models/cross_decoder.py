"""CrossMAE's decoder: mask tokens that look at the encoder's features, and not at each other."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..registry import MODELS
from .layers import LAYER_NORM_EPS, Block, residual_stream
from .mae_decoder import MAEDecoder, missing_tokens
from .masking import PatchMask
from .pos_embed import resample_pos_embed


class CrossBlock(Block):
    """Pre-norm block of cross-attention and MLP, each with a residual connection; arguments as in :class:`Block`.

    What is attended to has a norm of its own, ``norm_context``.
    """

    def __init__(self, dim: int, num_heads: int, mlp_ratio: float = 4., with_cp: bool = False) -> None:
        super().__init__(dim, num_heads, mlp_ratio, with_cp=with_cp)
        self.norm_context = nn.LayerNorm(dim, eps=LAYER_NORM_EPS)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """Tokens ``x`` (B, N, dim), each of which asks ``context`` (B, M, dim) alone: (B, N, dim)."""
        return self._checkpointed(x, context)

    def _forward(self, x: Tensor, context: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x), context=self.norm_context(context))
        return x + self.mlp(self.norm2(x))


@MODELS.register_module()
class CrossMAEDecoder(MAEDecoder):
    """Decoder of CrossMAE (Fu et al., "Rethinking Patch Dependence for Masked Autoencoders", 2024, arXiv 2401.14391).

    A mask token for each predicted patch, with its position, is the query; the encoder's tokens are keys and values.
    Mask tokens do not see each other, so a prediction does not depend on which others are made, and a masking with
    ``pred_ratio`` saves what it leaves out. Where the backbone gives the tokens of several blocks
    (``PlainViT(out_type='raw', out_indices=...)``), each block of the decoder reads a learned weighted sum of them
    (inter-block attention): of features f_i the block j reads sum_i w_ij f_i, normalised.

    Not stated in what was at hand of the paper, and so of our making: all features go through one ``decoder_embed``, as
    in MAE; they get no second position, as the encoder gave them theirs; w_ij starts from N(0, 1 / n) for n features.

    Args:
        img_size: As in :class:`MAEDecoder`, as all that follow.
        patch_size: See there.
        embed_dim: See there.
        out_dim: See there.
        num_prefix_tokens: See there.
        decoder_embed_dim: Width of the decoder.
        decoder_depth: Number of blocks, 12 in the paper.
        decoder_num_heads: Attention heads.
        mlp_ratio: See there.
        num_taps: Of how many blocks of the encoder the tokens come; the algorithm passes the backbone's
            ``len(out_indices)``.
        with_cp: See there.
        bf16_residual: See there.
    """

    block_class = CrossBlock

    def __init__(self,
                 img_size: int | Sequence[int],
                 patch_size: int | Sequence[int],
                 embed_dim: int,
                 out_dim: int,
                 num_prefix_tokens: int = 1,
                 decoder_embed_dim: int = 512,
                 decoder_depth: int = 12,
                 decoder_num_heads: int = 16,
                 mlp_ratio: float = 4.,
                 num_taps: int = 1,
                 with_cp: bool = False,
                 bf16_residual: bool = False,
                 init_cfg: dict | None = None) -> None:
        super().__init__(img_size, patch_size, embed_dim, out_dim, num_prefix_tokens, decoder_embed_dim, decoder_depth,
                         decoder_num_heads, mlp_ratio, with_cp, bf16_residual, init_cfg)
        self.num_taps = num_taps
        if self.num_taps > 1:
            self.decoder_feature_weights = nn.Parameter(torch.zeros(decoder_depth, self.num_taps))

    def forward(self, latents: tuple[Tensor, ...], mask: PatchMask) -> Tensor:
        """Predict (B, P, out_dim) for ``mask.ids_pred`` from all of ``latents``, each as in :class:`MAEDecoder`.

        Raises:
            ValueError: If there are more or fewer than ``num_taps``, or the last one has another number of tokens.
        """
        if len(latents) != self.num_taps:
            raise ValueError(f'the backbone gives the tokens of {len(latents)} blocks, the decoder is made for those '
                             f'of {self.num_taps}: set model.neck.num_taps={len(latents)}')
        missing_tokens(latents[-1], mask, self.num_prefix_tokens)
        features = self._features(latents)
        pos_embed = resample_pos_embed(self.decoder_pos_embed, self.grid, mask.grid)[0, 1:]
        x = residual_stream((self.mask_token[0] + pos_embed)[mask.ids_pred], self.bf16_residual)
        for block, context in zip(self.decoder_blocks, features, strict=True):
            x = block(x, context)
        return self.decoder_pred(self.decoder_norm(x))

    def _features(self, latents: tuple[Tensor, ...]) -> Sequence[Tensor]:
        """What each block reads, (B, N, decoder_embed_dim): of n features the weighted sum, embedded."""
        if self.num_taps == 1:
            return [self.decoder_embed(latents[0])] * len(self.decoder_blocks)
        embedded = self.decoder_embed(torch.stack(latents))
        return (self.decoder_feature_weights @ embedded.flatten(1)).unflatten(1, embedded.shape[1:]).unbind()

    def init_weights(self) -> None:
        """As :class:`MAEDecoder`; the weights of the features as the class says."""
        if self.num_taps > 1:
            nn.init.normal_(self.decoder_feature_weights, std=self.num_taps**-.5)
        super().init_weights()
