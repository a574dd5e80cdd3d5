"""Loss of a masked autoencoder."""

from abc import ABC, abstractmethod

import torch.nn.functional as F
from torch import Tensor, nn

from ..registry import MODELS
from .layers import at_least_float32
from .masking import PatchMask, Samples

LOSS_TYPES = ('l2', 'l1', 'smooth_l1')


class ReconstructionHead(nn.Module, ABC):
    """The mean error over what is predicted and has data; the error is to be written by a subclass.

    Args:
        target: Config of the target, e.g. ``dict(type='mae_plugin.PixelTarget', norm_pix=True)``.
    """

    def __init__(self, target: dict | nn.Module) -> None:
        super().__init__()
        self.target = MODELS.build(target) if isinstance(target, dict) else target

    def loss(self, pred: Tensor, imgs: Tensor, mask: PatchMask, data_samples: Samples = None) -> dict:
        """``dict(loss=scalar)`` of predictions (B, P, D) for ``mask.ids_pred``, in at least float32.

        What has no data adds nothing, and still counts in the divisor: so each number with data weighs the same,
        however the batch is divided among processes. ``data_samples`` are there for heads of one's own; this one does
        not look at them.
        """
        errors, weights = self._errors_and_weights(pred, imgs, mask)
        return dict(loss=(errors if weights is None else errors * weights).mean())

    def loss_per_image(self, pred: Tensor, imgs: Tensor, mask: PatchMask) -> Tensor:
        """(B,): the loss of each image, the mean over its predicted patches with data; NaN if there are none."""
        errors, weights = self._errors_and_weights(pred, imgs, mask)
        if weights is None:
            return errors.mean(dim=(1, 2))
        return (errors * weights).sum(dim=(1, 2)) / weights.sum(dim=(1, 2))

    @abstractmethod
    def errors(self, pred: Tensor, target: Tensor) -> Tensor:
        """Error of each number, (B, P, D), or of each patch, (B, P, 1), of predictions (B, P, D).

        Raises:
            ValueError: If this head has no error for such a target; the message names both.
        """

    def _errors_and_weights(self, pred: Tensor, imgs: Tensor, mask: PatchMask) -> tuple[Tensor, Tensor | None]:
        errors, weights = self.errors(at_least_float32(pred), self.target(imgs, mask)), self.target.weights(mask)
        return errors, None if weights is None else weights.expand_as(errors)


@MODELS.register_module()
class PixelReconstructionHead(ReconstructionHead):
    """Distance between numbers that are predicted and their target, on predicted patches only (MAE, section 3).

    Args:
        target: Config of the target, e.g. ``dict(type='mae_plugin.PixelTarget', norm_pix=True)``.
        loss_type: ``l2``, the squared error, as in MAE; ``l1``, the absolute one; or ``smooth_l1``, half the square
            over ``beta`` below ``beta``, and above it the absolute error minus ``beta / 2`` (Girshick, 2015).
        beta: Where ``smooth_l1`` turns from one into the other.

    Raises:
        ValueError: If ``loss_type`` is another or ``beta`` is not above zero.
    """

    def __init__(self, target: dict | nn.Module, loss_type: str = 'l2', beta: float = 1.) -> None:
        super().__init__(target)
        if loss_type not in LOSS_TYPES:
            raise ValueError(f"head.loss_type='{loss_type}' is not one of {LOSS_TYPES}")
        if not beta > 0:
            raise ValueError(f'head.beta={beta} is not above 0; where it is 0, loss_type is l1')
        self.loss_type, self.beta = loss_type, beta

    def errors(self, pred: Tensor, target: Tensor) -> Tensor:
        """(B, P, D), see :meth:`ReconstructionHead.errors`."""
        if target.shape != pred.shape or not target.is_floating_point():
            raise ValueError(
                f'{type(self).__name__} compares numbers of one shape: the decoder predicts {tuple(pred.shape)}, '
                f'{type(self.target).__name__} wants {tuple(target.shape)} of {target.dtype}; '
                'the head of a TokenTarget is mae_plugin.TokenPredictionHead')
        if self.loss_type == 'l2':
            return (pred - target).square()
        if self.loss_type == 'l1':
            return (pred - target).abs()
        return F.smooth_l1_loss(pred, target, reduction='none', beta=self.beta)
