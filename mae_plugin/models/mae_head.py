"""Loss of a masked autoencoder."""

from collections.abc import Sequence

from torch import Tensor, nn

from ..registry import MODELS
from .layers import at_least_float32
from .masking import PatchMask


@MODELS.register_module()
class PixelReconstructionHead(nn.Module):
    """Mean squared error between prediction and target, on hidden patches only (MAE, section 3).

    Args:
        target: Config of the target, e.g. ``dict(type='mae_plugin.PixelTarget', norm_pix=True)``.
    """

    def __init__(self, target: dict | nn.Module) -> None:
        super().__init__()
        self.target = MODELS.build(target) if isinstance(target, dict) else target

    def loss(self, pred: Tensor, imgs: Tensor, mask: PatchMask, data_samples: Sequence | None = None) -> dict:
        """``dict(loss=scalar)`` of predictions (B, P, D) for ``mask.ids_pred``, in at least float32.

        ``data_samples`` are there for heads of one's own; this one does not look at them.
        """
        return dict(loss=self.loss_per_image(pred, imgs, mask).mean())

    def loss_per_image(self, pred: Tensor, imgs: Tensor, mask: PatchMask) -> Tensor:
        """(B,): the loss of each image, the mean over its predicted patches."""
        return (at_least_float32(pred) - self.target(imgs, mask)).square().mean(dim=(1, 2))
