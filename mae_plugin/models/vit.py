"""The one backbone: a plain vision transformer for pretraining and every task after it."""

import re
from collections.abc import Sequence

import torch
from mmengine.model.weight_init import initialize
from timm.layers import to_2tuple
from torch import Tensor, nn

from ..registry import MODELS
from .backbone import ViTBackbone
from .layers import LAYER_NORM_EPS, Block, PatchEmbed, init_transformer, residual_stream
from .masking import PatchMask
from .pos_embed import resample_pos_embed, sincos_pos_embed


@MODELS.register_module()
class PlainViT(ViTBackbone):
    """Plain vision transformer with the parameter names of timm and of the authors' MAE.

    With a mask it is the encoder of MAE (section 3): only visible patches are embedded and processed. Without, it is
    the backbone of a classifier (mmpretrain), a detector (mmdet, as ViTDet with windows) or a segmenter (mmseg).

    Args:
        img_size: Image size (one number or (H, W)) of *pretraining*; it sets the grid of ``pos_embed``, which is
            resampled in ``forward`` to any other size, so a downstream task keeps the pretraining value.
        patch_size: Patch size in pixels, one number or a pair.
        in_chans: Channels of the image.
        embed_dim: Width of a token.
        depth: Number of blocks.
        num_heads: Attention heads.
        mlp_ratio: Hidden width of the MLPs over ``embed_dim``.
        out_type: What ``forward`` returns, always in a tuple: ``raw`` all tokens (B, 1 + L, C) after each of
            ``out_indices``, the last of which is the last block, followed by the final norm; ``cls_token`` (B, C) the
            class token after that norm; ``avg_featmap`` (B, C) the mean of the patch tokens, then ``fc_norm``;
            ``featmap`` a map (B, C, h, w) for each of ``out_indices``, without norm.
        out_indices: Blocks (from 0, negative from the end) whose output ``featmap`` and ``raw`` return.
        with_cls_token: Whether to run the class token along. Windows need it off.
        drop_path_rate: Stochastic depth of the last block, rising linearly from 0 at the first.
        drop_path_skips: Do not compute the branches of samples that stochastic depth drops, instead of multiplying them
            by zero: the same distribution, drawn by the host, in less time. Parity was never measured on a GPU. Where
            ``torch.compile`` or a CUDA graph needs the same shapes at each step, nothing is skipped.
        init_values: Start value of layer scale, None for none.
        window_size: Side, in patches, of the windows of the blocks ``window_block_indexes``; 0 for none.
        window_block_indexes: Blocks that attend within windows; all others see everything.
        conv_block_indexes: Blocks after which a residual bottleneck of convolutions carries information from window to
            window, the alternative to global blocks (ViTDet, section 3). They begin as the identity.
        rel_pos: Relative position, ``dict(type='mae_plugin.DecomposedRelPos', size=None)`` or
            ``dict(type='mae_plugin.RelPosBias')``. ``size`` is the grid (one number or a pair) the tables of the
            global blocks are made for, by default that of ``pos_embed``; windowed blocks use ``window_size``.
        freeze_pos_embed: Keep the position embedding fixed, as pretraining does; fine-tuning trains it.
        trainable_blocks: Partial fine-tuning (MAE, section 4.3): train only the last so many blocks and the final norm.
            0.5 is half a block, the MLP of the last one with its norm; 0 freezes the whole encoder, as linear probing
            does; None trains all. What pretraining does not have (``fc_norm``, relative position, layer scale,
            convolutions between windows) is always trained.
        with_cp: Activation checkpointing of every block: less memory, a third more computation, the same numbers.
        bf16_residual: Under autocast, keep the sum that the blocks add to in bfloat16: fewer bytes to move, but not the
            authors' numerics, who keep it in float32. Its effect on accuracy was not measured.
        bf16: Compute the encoder in bfloat16, with float32 weights and outputs, in training and testing, whatever the
            precision of the run: for models of which another part needs float32, as mmcv's RoIAlign does.
        init_cfg: Usually ``dict(type='mae_plugin.MAEPretrained', checkpoint=...)``.

    Raises:
        ValueError: If sizes do not divide, an option is unknown, or options contradict each other.
    """

    activation = 'GELU'  # for a checkpoint's card, for no tensor tells it
    # Relative positions, layer scale, convolutions between windows and the norm of the pooled features; and the mask
    # token of a MaskTokenViT, which most files have not.
    added_by_tasks = re.compile(r'blocks\.\d+\.(attn\.rel_pos\.|ls[12]\.|residual\.)|fc_norm\.|mask_token$')

    def __init__(self,
                 img_size: int | Sequence[int] = 224,
                 patch_size: int | Sequence[int] = 16,
                 in_chans: int = 3,
                 embed_dim: int = 768,
                 depth: int = 12,
                 num_heads: int = 12,
                 mlp_ratio: float = 4.,
                 out_type: str = 'raw',
                 out_indices: Sequence[int] = (-1, ),
                 with_cls_token: bool = True,
                 drop_path_rate: float = 0.,
                 drop_path_skips: bool = False,
                 init_values: float | None = None,
                 window_size: int = 0,
                 window_block_indexes: Sequence[int] = (),
                 conv_block_indexes: Sequence[int] = (),
                 rel_pos: dict | None = None,
                 freeze_pos_embed: bool = False,
                 trainable_blocks: float | None = None,
                 with_cp: bool = False,
                 bf16_residual: bool = False,
                 bf16: bool = False,
                 init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        self.img_size, self.patch_size = tuple(to_2tuple(img_size)), tuple(to_2tuple(patch_size))
        self.in_chans, self.embed_dim, self.depth = in_chans, embed_dim, depth
        self.out_type, self.with_cls_token = out_type, with_cls_token
        self.bf16_residual, self.bf16 = bf16_residual, bf16
        self.out_indices = self._block_indexes('out_indices', out_indices)
        windowed = self._block_indexes('window_block_indexes', window_block_indexes)
        convolved = self._block_indexes('conv_block_indexes', conv_block_indexes)
        self._check_outputs()
        self._check_options(windowed, window_size, convolved)
        self.grid = self._grid_of(*self.img_size)
        self.num_prefix_tokens = int(with_cls_token)

        self.patch_embed = PatchEmbed(self.patch_size, in_chans, embed_dim)
        if with_cls_token:
            self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        # The first slot is the class token's, and stays without one, so that files are equal.
        self.pos_embed = nn.Parameter(sincos_pos_embed(embed_dim, self.grid), requires_grad=not freeze_pos_embed)

        drop_path = torch.linspace(0, drop_path_rate, depth, device='cpu').tolist()
        self.blocks = nn.ModuleList(
            Block(embed_dim, num_heads, mlp_ratio, drop_path[i], init_values,
                  window_size if i in windowed else 0,
                  self._build_rel_pos(rel_pos, num_heads, window_size if i in windowed else 0),
                  residual_conv=i in convolved,
                  with_cp=with_cp,
                  drop_path_skips=drop_path_skips)
            for i in range(depth))
        self._freeze_unused_blocks()  # likewise only the norm that the output uses exists
        if out_type in ('raw', 'cls_token'):
            self.norm = nn.LayerNorm(embed_dim, eps=LAYER_NORM_EPS)
        elif out_type == 'avg_featmap':
            self.fc_norm = nn.LayerNorm(embed_dim, eps=LAYER_NORM_EPS)
        if trainable_blocks is not None:
            self._freeze(trainable_blocks)

    def _embed(self, imgs: Tensor, grid: tuple[int, int], mask: PatchMask | None) -> Tensor:
        if mask is not None and not self.with_cls_token:
            raise ValueError('with_cls_token=False has no masked form: pretraining needs the class token')
        pos_embed = resample_pos_embed(self.pos_embed, self.grid, grid)
        cls_pos, patch_pos = pos_embed[:, :1], pos_embed[:, 1:]
        if mask is None:
            x = self.patch_embed(imgs) + patch_pos
        else:
            x = self.patch_embed(imgs, mask.ids_keep) + patch_pos[0][mask.ids_keep]
        if self.with_cls_token:
            x = torch.cat([(self.cls_token + cls_pos).expand(x.size(0), -1, -1), x], dim=1)
        return residual_stream(x, self.bf16_residual)

    def _check_options(self, windowed: tuple[int, ...], window_size: int, convolved: tuple[int, ...]) -> None:
        if self.out_type == 'cls_token' and not self.with_cls_token:
            raise ValueError("out_type='cls_token' needs with_cls_token=True")
        if bool(windowed) != bool(window_size):
            raise ValueError(f'window_size={window_size} and window_block_indexes={list(windowed)}: '
                             f'give both or neither')
        if (windowed or convolved) and self.with_cls_token:
            raise ValueError('windows and convolutions hold patches only: use with_cls_token=False')

    def _build_rel_pos(self, cfg: dict | None, num_heads: int, window_size: int) -> nn.Module | None:
        if cfg is None:
            return None
        cfg = dict(cfg)
        size = cfg.pop('size', None)
        grid = to_2tuple(window_size or size or self.grid)
        return MODELS.build(dict(cfg, num_heads=num_heads, head_dim=self.embed_dim // num_heads, grid=grid,
                                 with_cls_token=self.with_cls_token))

    def init_weights(self) -> None:
        """Initialise as MAE does, then apply ``init_cfg``, which thus has the last word."""
        init_transformer(self)
        for block in self.blocks:
            if block.residual is not None:
                block.residual.init_weights()
        if self.with_cls_token:
            nn.init.normal_(self.cls_token, std=.02)
        if self.init_cfg:
            initialize(self, self.init_cfg)
        self._is_init = True
