"""Histograms of oriented gradients as target."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from timm.layers import to_2tuple
from torch import Tensor

from ..registry import MODELS
from .layers import at_least_float32, patchify
from .masking import PatchMask
from .targets import Target

_EPS = 1e-6  # of the norm of a histogram: below what one level of grey makes, above rounding


@MODELS.register_module()
class HOGTarget(Target):
    """Histograms of oriented gradients (Dalal & Triggs, 2005) of a patch's cells, as in MaskFeat (Wei et al., 2022).

    Of each channel the gradient by central differences, without smoothing; each pixel votes with its magnitude for the
    bin of its orientation, which is without sign, 0 to 180 degrees; the histogram of a cell is divided by its l2 norm.
    It knows neither brightness nor contrast. Gradients are those of the whole image; at its border, and where a
    neighbour has no data, they are zero.

    D runs over (row of cells, column of cells, channel, bin).

    Args:
        patch_size: Patch size in pixels; the algorithm passes the backbone's.
        in_chans: Channels of the image; the algorithm passes the backbone's.
        bins: Orientations.
        cell: Size of a cell in pixels; None for half of the patch's sides, which is 8x8 for patches of 16, as in
            MaskFeat.

    Raises:
        ValueError: If cells do not fill a patch, or ``bins`` is below 1.
    """

    def __init__(self, patch_size: int | Sequence[int], in_chans: int = 3, bins: int = 9,
                 cell: int | Sequence[int] | None = None) -> None:
        super().__init__(patch_size, in_chans)
        (p, q), (y, x) = self.patch_size, [max(side // 2, 1) for side in self.patch_size] if cell is None else (
            to_2tuple(cell))
        if bins < 1 or min(y, x) < 1 or p % y or q % x:
            raise ValueError(f'head.target: cells of {y}x{x} pixels and {bins} bins are asked for; set cell to a size '
                             f'that divides the patch, {p}x{q}, and bins to at least 1')
        self.bins, self.cell, self.cells = bins, (y, x), (p // y, q // x)
        self.dim = self.cells[0] * self.cells[1] * in_chans * bins

    def forward(self, imgs: Tensor, mask: PatchMask) -> Tensor:
        """See :meth:`Target.forward`."""
        return patchify(self.histograms(imgs, mask.valid), self.cells, mask.ids_pred)

    def histograms(self, imgs: Tensor, valid: Tensor | None = None) -> Tensor:
        """Of all cells of ``imgs`` (B, C, H, W): (B, C * bins, H / cell, W / cell); see ``PatchMask.valid``."""
        imgs = at_least_float32(imgs)
        dy = F.pad(imgs[:, :, 2:] - imgs[:, :, :-2], (0, 0, 1, 1))
        dx = F.pad(imgs[:, :, :, 2:] - imgs[:, :, :, :-2], (1, 1, 0, 0))
        if valid is not None:
            dy = dy * F.pad(valid[:, :, 2:] & valid[:, :, :-2], (0, 0, 1, 1))
            dx = dx * F.pad(valid[:, :, :, 2:] & valid[:, :, :, :-2], (1, 1, 0, 0))
        magnitude = (dx.square() + dy.square()).sqrt()
        orientation = (torch.atan2(dy, dx) * (self.bins / math.pi)).floor().remainder(self.bins)
        # A pass for each bin: all at once takes bins times the memory, and scattering adds up in no fixed order.
        votes = [F.avg_pool2d(magnitude * (orientation == b), self.cell) for b in range(self.bins)]
        return F.normalize(torch.stack(votes, dim=2), dim=2, eps=_EPS).flatten(1, 2)
