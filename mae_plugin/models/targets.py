"""What a masked autoencoder predicts."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from timm.layers import to_2tuple
from torch import Tensor, nn

from ..registry import MODELS
from .layers import at_least_float32, patchify
from .masking import PatchMask

_EPS = 1e-6  # inside the square root of the patch normalisation


class Target(nn.Module, ABC):
    """What is to be predicted of each patch: D numbers.

    Args:
        patch_size: Patch size in pixels; the algorithm passes the backbone's.
        in_chans: Channels of the image; the algorithm passes the backbone's.

    Attributes:
        dim: What the decoder has to predict for a patch, D numbers; of a strategy of your own, set in its constructor.
        invertible: Whether :meth:`inverse` makes pixels of predictions.
        files: SHA-256 of the files it is made of, by the name of the argument. The card of a checkpoint has them in
            place of the path, so that a run does not go on with another file.
    """

    dim: int
    invertible = False
    files: Mapping[str, str] = MappingProxyType({})

    def __init__(self, patch_size: int | Sequence[int], in_chans: int = 3) -> None:
        super().__init__()
        self.patch_size, self.in_chans = tuple(to_2tuple(patch_size)), in_chans

    @abstractmethod
    def forward(self, imgs: Tensor, mask: PatchMask) -> Tensor:
        """Target (B, P, D) of ``mask.ids_pred`` in normalised ``imgs`` (B, C, H, W), in at least float32.

        Where ``mask.valid`` is False, ``imgs`` are zero.
        """

    def weights(self, mask: PatchMask) -> Tensor | None:
        """How much each number of the target counts, (B, P, D) or (B, P, 1) from 0 to 1; None if all count alike.

        Here: the share of the patch that has data.
        """
        valid = self._valid(mask)
        return None if valid is None else valid.mean(dim=-1, keepdim=True)

    def inverse(self, pred: Tensor, imgs: Tensor, mask: PatchMask) -> Tensor:
        """Predictions (B, P, D) as pixels (B, P, p * q * C) of the scale of ``imgs``, if ``invertible``."""
        raise NotImplementedError(f'{type(self).__name__} cannot be turned back into pixels')

    def patches(self, imgs: Tensor, mask: PatchMask) -> Tensor:
        """(B, P, p * q * C): the predicted patches, each in the order (row, column, channel)."""
        return patchify(at_least_float32(imgs), self.patch_size, mask.ids_pred)

    def _valid(self, mask: PatchMask) -> Tensor | None:
        """(B, P, p * q * C), 1 where there is data; None if there is everywhere."""
        return None if mask.valid is None else patchify(mask.valid.float(), self.patch_size, mask.ids_pred)


@MODELS.register_module()
class PixelTarget(Target):
    """Pixels of the predicted patches (MAE, section 3, "reconstruction target"); D runs over (row, column, channel).

    Args:
        patch_size: Patch size in pixels; the algorithm passes the backbone's.
        in_chans: Channels of the image; the algorithm passes the backbone's.
        norm_pix: Normalise each patch by its own mean and (unbiased) standard deviation, of the pixels with data.
    """

    invertible = True

    def __init__(self, patch_size: int | Sequence[int], in_chans: int = 3, norm_pix: bool = True) -> None:
        super().__init__(patch_size, in_chans)
        self.dim = self.patch_size[0] * self.patch_size[1] * in_chans
        self.norm_pix = norm_pix

    def forward(self, imgs: Tensor, mask: PatchMask) -> Tensor:
        """See :meth:`Target.forward`."""
        patches = self.patches(imgs, mask)
        if not self.norm_pix:
            return patches
        mean, std = self._statistics(patches, mask)
        return (patches - mean) / std

    def weights(self, mask: PatchMask) -> Tensor | None:
        """(B, P, D): 1 for a pixel with data, 0 without."""
        return self._valid(mask)

    def inverse(self, pred: Tensor, imgs: Tensor, mask: PatchMask) -> Tensor:
        """See :meth:`Target.inverse`.

        A normalised prediction says nothing of a patch's brightness and contrast: those are taken from ``imgs``.
        """
        if not self.norm_pix:
            return at_least_float32(pred)
        mean, std = self._statistics(self.patches(imgs, mask), mask)
        return at_least_float32(pred) * std + mean

    def _statistics(self, patches: Tensor, mask: PatchMask) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation (B, P, 1) of each patch."""
        valid = self._valid(mask)
        if valid is None:
            return patches.mean(dim=-1, keepdim=True), (patches.var(dim=-1, keepdim=True) + _EPS).sqrt()
        count = valid.sum(dim=-1, keepdim=True)
        mean = (patches * valid).sum(dim=-1, keepdim=True) / count.clamp(min=1)
        var = ((patches - mean) * valid).square().sum(dim=-1, keepdim=True) / (count - 1).clamp(min=1)
        return mean, (var + _EPS).sqrt()
