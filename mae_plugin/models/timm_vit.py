"""Plain vision transformers of timm, by name, as backbones for pretraining and every task after it."""

from collections.abc import Sequence

import timm
import torch
import torch.nn.functional as F
import torch.utils.checkpoint
from mmengine.model.weight_init import initialize
from timm.layers import PatchEmbed, resample_abs_pos_embed, to_2tuple
from timm.models import VisionTransformer
from torch import Tensor, nn

from ..registry import MODELS
from ..utils.cli import nearest
from .backbone import ViTBackbone
from .layers import init_transformer, patchify
from .masking import PatchMask
from .pos_embed import sincos_pos_embed

# Arguments of timm's that this adapter decides itself, or whose effect it would leave out in silence.
_OURS = ('num_classes', 'global_pool', 'fc_norm', 'final_norm', 'patch_drop_rate', 'dynamic_img_size',
         'dynamic_img_pad', 'pretrained_cfg', 'checkpoint_path', 'weight_init')


@MODELS.register_module()
class TimmViT(ViTBackbone):
    """A plain vision transformer of timm, by its name, with registers, SwiGLU, layer scale or what else it has.

    The modules are timm's, and so are the names of the parameters, behind ``backbone.``. The forward pass is ours: with
    a mask only the visible patches are embedded and processed; the others are dropped as pixels. Without, the tokens
    are those of timm's ``forward_features``. Positions are resampled to other image sizes as timm does with
    ``dynamic_img_size=True``.

    What can be taken is timm's class ``VisionTransformer`` with patches cut by one convolution and a position embedding
    of its own: a token of it depends on where its patch lies, and on no neighbour. Rotary and relative positions,
    windows and convolutional stems are something else.

    Args:
        name: Of timm; a tag behind a dot (``vit_base_patch16_224.augreg_in21k``) says which weights ``pretrained=True``
            takes.
        img_size: Image size (one number or (H, W)) of *pretraining*; it sets the grid of ``pos_embed``.
        patch_size: Patch size in pixels, one number or a pair; None for that of the name.
        in_chans: Channels of the image.
        out_type: What ``forward`` returns, as in :class:`PlainViT`. The prefix tokens (class, registers) come first in
            ``raw``; ``avg_featmap`` and ``featmap`` are of the patches alone.
        out_indices: As in :class:`PlainViT`.
        drop_path_rate: Stochastic depth of the last block, rising linearly from 0 at the first.
        freeze_pos_embed: Keep the position embedding fixed. Trained from scratch it is then MAE's table of sines and
            cosines; else timm's start, normal with a standard deviation of 0.02, which is learned.
        trainable_blocks: As in :class:`PlainViT`, for partial fine-tuning and linear probing.
        with_cp: Activation checkpointing of every block, as in :class:`PlainViT`.
        pretrained: Start from timm's weights of this name, which timm downloads: short for
            ``init_cfg=dict(type='mae_plugin.MAEPretrained', checkpoint='timm://NAME')``.
        init_cfg: Usually ``dict(type='mae_plugin.MAEPretrained', checkpoint=...)``.
        **model_args: Further arguments of timm's ``VisionTransformer``, such as ``depth``, ``embed_dim``,
            ``num_heads``, ``reg_tokens``, ``init_values``.

    Attributes:
        num_heads, activation: What no tensor tells of the blocks, so that a checkpoint's card says it: attention heads,
            and the name of the MLP's nonlinearity.

    Raises:
        ValueError: If timm has no such model, it is none that can be taken, or an argument does not fit.
    """

    def __init__(self,
                 name: str,
                 img_size: int | Sequence[int],
                 patch_size: int | Sequence[int] | None = None,
                 in_chans: int = 3,
                 out_type: str = 'raw',
                 out_indices: Sequence[int] = (-1, ),
                 drop_path_rate: float = 0.,
                 freeze_pos_embed: bool = False,
                 trainable_blocks: float | None = None,
                 with_cp: bool = False,
                 pretrained: bool = False,
                 init_cfg: dict | None = None,
                 **model_args) -> None:
        if pretrained and init_cfg:
            raise ValueError(f'backbone.pretrained=True starts from timm://{name}, and init_cfg from another file: '
                             'leave out one of them')
        if pretrained:
            init_cfg = dict(type='mae_plugin.MAEPretrained', checkpoint=f'timm://{name}')
        super().__init__(init_cfg)
        sizes = dict(img_size=to_2tuple(img_size), in_chans=in_chans, drop_path_rate=drop_path_rate)
        if patch_size is not None:
            sizes['patch_size'] = to_2tuple(patch_size)
        vit = _create(name, out_type, sizes | model_args)
        self.img_size, self.patch_size = sizes['img_size'], tuple(vit.patch_embed.patch_size)
        self.in_chans, self.embed_dim, self.depth = in_chans, vit.embed_dim, len(vit.blocks)
        self.num_prefix_tokens, self.out_type, self.with_cp = vit.num_prefix_tokens, out_type, with_cp
        self.out_indices = self._block_indexes('out_indices', out_indices)
        self._check_outputs()
        if out_type == 'cls_token' and not vit.has_class_token:
            raise ValueError(f"out_type='cls_token' needs a class token, which {name} has not: take 'avg_featmap'")
        self.grid = self._grid_of(*self.img_size)
        self.freeze_pos_embed = freeze_pos_embed

        # timm's modules become our own, not those of a part, so that names are timm's.
        self.patch_embed, self.pos_drop, self.norm_pre, self.blocks = (
            vit.patch_embed, vit.pos_drop, vit.norm_pre, vit.blocks)
        self.cls_token, self.reg_token = vit.cls_token, vit.reg_token  # each may be None
        self.pos_embed = vit.pos_embed.requires_grad_(not freeze_pos_embed)
        self._freeze_unused_blocks()  # likewise only the norm that the output uses exists
        if out_type in ('raw', 'cls_token'):
            self.norm = vit.norm
        elif out_type == 'avg_featmap':
            self.fc_norm = vit.fc_norm
        if trainable_blocks is not None:
            self._freeze(trainable_blocks)
        vars(self).update(facts_of_blocks(vit.blocks))
        # A CUDA graph cannot record that the state of a generator is kept, so checkpointing keeps it only if needed.
        self._draws = any(getattr(part, 'drop_prob', 0) or isinstance(part, nn.Dropout) and part.p
                          for part in vit.blocks.modules())

    @property
    def pos_slots(self) -> int:
        """Positions before those of the patches: one for each prefix token, or none."""
        return self.pos_embed.size(1) - self.grid[0] * self.grid[1]

    def _embed(self, imgs: Tensor, grid: tuple[int, int], mask: PatchMask | None) -> Tensor:
        ids = None if mask is None else mask.ids_keep
        proj, slots = self.patch_embed.proj, self.pos_slots
        pos_embed = resample_abs_pos_embed(self.pos_embed, grid, self.grid, num_prefix_tokens=slots)
        patch_pos = pos_embed[:, slots:] if mask is None else pos_embed[0, slots:][ids]
        x = patchify(imgs, self.patch_size, ids, channels_first=True)
        x = self.patch_embed.norm(F.linear(x, proj.weight.flatten(1), proj.bias)) + patch_pos
        prefix = [token for token in (self.cls_token, self.reg_token) if token is not None]
        if prefix:
            prefix = torch.cat(prefix, dim=1) + (pos_embed[:, :slots] if slots else 0)
            x = torch.cat([prefix.expand(x.size(0), -1, -1), x], dim=1)
        return self.norm_pre(self.pos_drop(x))

    def _block(self, block: nn.Module, x: Tensor, grid: tuple[int, int]) -> Tensor:
        if self.with_cp and self.training and torch.is_grad_enabled():
            # To stop a compiled block early would look like a failure of the compiler to FastStepHook.
            with torch.utils.checkpoint.set_checkpoint_early_stop(block._compiled_call_impl is None):
                return torch.utils.checkpoint.checkpoint(block, x, use_reentrant=False, preserve_rng_state=self._draws)
        return block(x)

    def init_weights(self) -> None:
        """Initialise as MAE does, then apply ``init_cfg``, which thus has the last word.

        Layer scales and norms keep what timm starts them with. timm's own ``init_weights`` are not called.
        """
        init_transformer(self)
        nn.init.xavier_uniform_(self.patch_embed.proj.weight.flatten(1))
        for token in (self.cls_token, self.reg_token):
            if token is not None:
                nn.init.normal_(token, std=.02)
        if self.freeze_pos_embed:
            with torch.no_grad():
                self.pos_embed.zero_()[:, self.pos_slots:] = sincos_pos_embed(self.embed_dim, self.grid)[:, 1:]
        if self.init_cfg:
            initialize(self, self.init_cfg)
        self._is_init = True


def facts_of_blocks(blocks: nn.Sequential) -> dict[str, int | str]:
    """``num_heads`` and ``activation`` of timm's blocks, whatever parts these are in."""
    parts = [*blocks[0].named_modules()]
    return dict(num_heads=next(part.num_heads for _, part in parts if hasattr(part, 'num_heads')),
                activation=next(type(part).__name__ for path, part in parts if path.endswith('act')))


def _create(name: str, out_type: str, model_args: dict) -> VisionTransformer:
    """Build timm's model without classifier, with the norm that ``out_type`` wants."""
    ours = [key for key in _OURS if key in model_args]
    if ours:
        raise ValueError(f'backbone.{ours[0]} is not for a config to set: mae_plugin.TimmViT gives it to timm, '
                         'according to out_type')
    if not timm.is_model(name):
        near = nearest(name.partition('.')[0], timm.list_models(['vit_*', 'deit*', '*_patch*']), 5)
        raise ValueError(f"backbone.name='{name}' is no model of timm {timm.__version__}"
                         + (f'; did you mean {" or ".join(near)}?' if near else "; timm.list_models('vit_*') has them"))
    norms = dict(global_pool='', fc_norm=out_type == 'avg_featmap')
    if out_type == 'featmap':
        norms['final_norm'] = False
    try:
        vit = timm.create_model(name, num_classes=0, **norms, **model_args)
        reason = _why_not(vit)
    except (TypeError, AssertionError) as error:  # arguments that its class does not know: is it the wrong one?
        with torch.device('meta'):
            reason = _why_not(timm.create_model(name))
        reason = reason or f'timm does not build it with {", ".join(model_args)} ({error or type(error).__name__})'
    if reason:
        raise ValueError(f"backbone.name='{name}': {reason}; mae_plugin.TimmViT takes timm's VisionTransformer, with "
                         'one convolution for patches and a position embedding, such as vit_base_patch16_224 or '
                         'vit_base_patch16_reg4_gap_256')
    return vit


def _why_not(vit: nn.Module) -> str | None:
    """Why ``vit`` is no backbone for masks; None if it is one."""
    if type(vit) is not VisionTransformer:
        return f'it is of the class {type(vit).__name__}'
    stem = vit.patch_embed
    if not isinstance(stem, PatchEmbed) or stem.proj.kernel_size != stem.proj.stride:
        return f'its {type(stem).__name__} sees more than a patch, so that hidden pixels would leak'
    if vit.pos_embed is None:
        return 'it has no position embedding'
    return None
