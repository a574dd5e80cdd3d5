"""The smallest decoder: one linear layer."""

from mmengine.model import BaseModule
from mmengine.model.weight_init import initialize
from torch import Tensor, nn

from ..registry import MODELS
from .layers import init_transformer
from .mae_decoder import missing_tokens
from .masking import PatchMask


@MODELS.register_module()
class LinearDecoder(BaseModule):
    """Predict each patch from its own token by one linear layer, as SimMIM does (Xie et al., 2022, section 3.3).

    So it needs the tokens of the patches that it predicts: an encoder with mask tokens (:class:`MaskTokenViT`), or one
    from which nothing is hidden (:class:`NoMasking`).

    Args:
        embed_dim: Width of the latents; the algorithm passes the backbone's.
        out_dim: Numbers to predict for a patch; the algorithm passes the target's.
        num_prefix_tokens: Tokens of the latents before the patches; the algorithm passes the backbone's.
    """

    def __init__(self, embed_dim: int, out_dim: int, num_prefix_tokens: int = 1, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        self.num_prefix_tokens = num_prefix_tokens
        self.decoder_pred = nn.Linear(embed_dim, out_dim)

    def forward(self, latents: tuple[Tensor, ...], mask: PatchMask) -> Tensor:
        """Predict (B, P, out_dim) for ``mask.ids_pred`` from the last of ``latents``, (B, T + L, embed_dim).

        Raises:
            ValueError: If the hidden patches are not among them.
        """
        x = latents[-1]
        if missing_tokens(x, mask, self.num_prefix_tokens):
            raise ValueError(
                f'model.neck is a LinearDecoder, which predicts a patch from its own token, but model.backbone encodes '
                f'only the {mask.num_keep} visible ones of {mask.ids_shuffle.size(1)} patches: take '
                "model.backbone.type='mae_plugin.MaskTokenViT', or another decoder")
        return self.decoder_pred(x[:, -mask.ids_pred.size(1):])

    def init_weights(self) -> None:
        """Initialise as MAE does its linear layers, then apply ``init_cfg``."""
        init_transformer(self)
        if self.init_cfg:
            initialize(self, self.init_cfg)
        self._is_init = True
