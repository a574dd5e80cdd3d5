"""An encoder that sees mask tokens: the ablation of MAE, Table 1c."""

from functools import wraps

import torch
from torch import Tensor, nn

from ..registry import MODELS
from .masking import PatchMask
from .pos_embed import resample_pos_embed
from .vit import PlainViT


@MODELS.register_module()
class MaskTokenViT(PlainViT):
    """:class:`PlainViT` that encodes all patches, the hidden ones as mask tokens (MAE, Table 1c; as BEiT and SimMIM).

    With a mask the output has 1 + L tokens, those of the hidden patches after those of the visible ones, in the order
    of ``mask.ids_shuffle``. Without one it is :class:`PlainViT`, and its checkpoint starts one: ``mask_token`` is left
    behind. The arguments are those of :class:`PlainViT`.
    """

    @wraps(PlainViT.__init__)  # with its signature, of which cards take the defaults
    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, self.embed_dim))

    def _embed(self, imgs: Tensor, grid: tuple[int, int], mask: PatchMask | None) -> Tensor:
        x = super()._embed(imgs, grid, mask)
        if mask is None:
            return x
        patch_pos = resample_pos_embed(self.pos_embed, self.grid, grid)[0, 1:]
        hidden = (self.mask_token[0] + patch_pos)[mask.ids_shuffle[:, mask.num_keep:]]
        return torch.cat([x, hidden.to(x.dtype)], dim=1)

    def init_weights(self) -> None:
        """As :class:`PlainViT`, and the mask token as the class token."""
        nn.init.normal_(self.mask_token, std=.02)
        super().init_weights()
