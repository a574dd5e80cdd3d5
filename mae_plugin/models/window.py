"""Cutting a token map into windows and putting it together again (ViTDet, Li et al., 2022, section 3)."""

import torch.nn.functional as F
from torch import Tensor


def window_partition(x: Tensor, size: int) -> tuple[Tensor, tuple[int, int]]:
    """Cut a map into windows of ``size`` x ``size``, zeros filling the last row and column of windows.

    Args:
        x: (B, h, w, C).
        size: Side of a window, in patches.

    Returns:
        Windows (B * n, size, size, C) and the padded grid (h', w').
    """
    B, h, w, C = x.shape
    H, W = h + -h % size, w + -w % size
    if (H, W) != (h, w):  # filling nothing would copy all the same
        x = F.pad(x, (0, 0, 0, W - w, 0, H - h))
    x = x.view(B, H // size, size, W // size, size, C).transpose(2, 3)
    return x.reshape(-1, size, size, C), (H, W)


def window_unpartition(windows: Tensor, padded: tuple[int, int], grid: tuple[int, int]) -> Tensor:
    """Undo :func:`window_partition`: (B * n, size, size, C) back to (B, h, w, C) without the padding."""
    size, C = windows.shape[2:]
    H, W = padded
    x = windows.view(-1, H // size, W // size, size, size, C).transpose(2, 3)
    return x.reshape(-1, H, W, C)[:, :grid[0], :grid[1]]
