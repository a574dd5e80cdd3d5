"""What a masked autoencoder predicts."""

from collections.abc import Sequence

from timm.layers import to_2tuple
from torch import Tensor, nn

from ..registry import MODELS
from .layers import at_least_float32, patchify
from .masking import PatchMask

_EPS = 1e-6  # inside the square root of the patch normalisation


@MODELS.register_module()
class PixelTarget(nn.Module):
    """The pixels of the predicted patches (MAE, section 3, "reconstruction target").

    Args:
        patch_size: Patch size in pixels; the algorithm passes the backbone's.
        in_chans: Channels of the image; the algorithm passes the backbone's.
        norm_pix: Normalise each patch by its own mean and (unbiased) standard deviation.
    """

    def __init__(self, patch_size: int | Sequence[int], in_chans: int = 3, norm_pix: bool = True) -> None:
        super().__init__()
        self.patch_size = tuple(to_2tuple(patch_size))
        self.dim = self.patch_size[0] * self.patch_size[1] * in_chans
        self.norm_pix = norm_pix

    def forward(self, imgs: Tensor, mask: PatchMask) -> Tensor:
        """Target (B, P, D) of ``mask.ids_pred`` in ``imgs`` (B, C, H, W); D runs over (row, column, channel)."""
        patches = self._patches(imgs, mask)
        if not self.norm_pix:
            return patches
        mean, std = self._statistics(patches)
        return (patches - mean) / std

    def inverse(self, pred: Tensor, imgs: Tensor, mask: PatchMask) -> Tensor:
        """Predictions (B, P, D) as pixels of the scale of ``imgs``.

        A normalised prediction says nothing of a patch's brightness and contrast: those are taken from ``imgs``.
        """
        if not self.norm_pix:
            return at_least_float32(pred)
        mean, std = self._statistics(self._patches(imgs, mask))
        return at_least_float32(pred) * std + mean

    def _patches(self, imgs: Tensor, mask: PatchMask) -> Tensor:
        return patchify(at_least_float32(imgs), self.patch_size, mask.ids_pred)

    @staticmethod
    def _statistics(patches: Tensor) -> tuple[Tensor, Tensor]:
        return patches.mean(dim=-1, keepdim=True), (patches.var(dim=-1, keepdim=True) + _EPS).sqrt()
