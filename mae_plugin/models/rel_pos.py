"""Relative positions for dense tasks: a bias on the attention logits, zero at the start and absent in pretraining."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..registry import MODELS


def _relative_index(size: int, device: torch.device) -> Tensor:
    """(size, size) matrix of query position minus key position, shifted to start at 0."""
    place = torch.arange(size, device=device)
    return place[:, None] - place[None, :] + size - 1


def resample_side(table: Tensor, size: int) -> Tensor:
    """Resize the table of one side, (2 * old - 1, head_dim), linearly to a side of ``size`` patches."""
    if table.size(0) == 2 * size - 1:
        return table
    dtype = torch.promote_types(table.dtype, torch.float32)
    return F.interpolate(table.t()[None].to(dtype), size=2 * size - 1, mode='linear')[0].t()


def resample_offsets(offsets: Tensor, old_grid: tuple[int, int], new_grid: tuple[int, int]) -> Tensor:
    """Resize biases of all offsets on ``old_grid``, ((2 * h - 1) * (2 * w - 1), heads), bilinearly to ``new_grid``."""
    if tuple(old_grid) == tuple(new_grid):
        return offsets
    old, new = (tuple(2 * size - 1 for size in grid) for grid in (old_grid, new_grid))
    dtype = torch.promote_types(offsets.dtype, torch.float32)
    resized = F.interpolate(offsets.t().reshape(1, -1, *old).to(dtype), size=new, mode='bilinear')
    return resized[0].flatten(1).t()


@MODELS.register_module()
class DecomposedRelPos(nn.Module):
    """Decomposed relative position of MViTv2 and ViTDet (Li et al., 2022, section 3): one table a side.

    The bias of query q at (y, x) and key (y', x') is ``q . table_h[y - y'] + q . table_w[x - x']``, with the query
    *before* its scaling by ``head_dim ** -0.5``. Other grids than ``grid`` resize the tables linearly.

    Args:
        num_heads: Attention heads (unused: the tables are shared by the heads).
        head_dim: Channels of a head.
        grid: (h, w) the tables are made for.
        with_cls_token: Must be False: a class token has no place on the grid.

    Raises:
        ValueError: If there is a class token.
    """

    def __init__(self, num_heads: int, head_dim: int, grid: tuple[int, int], with_cls_token: bool = False) -> None:
        super().__init__()
        if with_cls_token:
            raise ValueError('DecomposedRelPos needs with_cls_token=False')
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * grid[0] - 1, head_dim))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * grid[1] - 1, head_dim))

    @staticmethod
    def _table(table: Tensor, size: int) -> Tensor:
        """(size, size, head_dim): the row of ``table`` for each pair of query and key."""
        return resample_side(table, size)[_relative_index(size, table.device)]

    def forward(self, q: Tensor, grid: tuple[int, int]) -> Tensor:
        """Bias (B, heads, h * w, h * w) for unscaled queries (B, heads, h * w, head_dim) on ``grid`` (h, w)."""
        h, w = grid
        q = q.unflatten(2, grid)
        bias_h = torch.einsum('bnhwc,hkc->bnhwk', q, self._table(self.rel_pos_h, h).to(q.dtype))
        bias_w = torch.einsum('bnhwc,wkc->bnhwk', q, self._table(self.rel_pos_w, w).to(q.dtype))
        bias = bias_h[..., :, None] + bias_w[..., None, :]  # (B, heads, h, w, h, w)
        return bias.reshape(*bias.shape[:2], h * w, h * w)


@MODELS.register_module()
class RelPosBias(nn.Module):
    """Relative position bias of BEiT (Bao et al., 2022), as the published MAE number on ADE20K uses it.

    One learned number for each head and offset between two patches and, where there is a class token, three for pairs
    with it. Other grids than ``grid`` resize the table bilinearly.

    Args:
        num_heads: Attention heads.
        head_dim: Channels of a head (unused: the bias does not look at the query).
        grid: (h, w) the table is made for.
        with_cls_token: Whether a class token precedes the patches.
    """

    def __init__(self, num_heads: int, head_dim: int, grid: tuple[int, int], with_cls_token: bool = True) -> None:
        super().__init__()
        self.grid, self.with_cls_token = tuple(grid), with_cls_token
        # Rows: all offsets, then class token to patch, patch to class token, class token to itself.
        offsets = (2 * grid[0] - 1) * (2 * grid[1] - 1)
        self.table = nn.Parameter(torch.zeros(offsets + 3 * with_cls_token, num_heads))

    def forward(self, q: Tensor, grid: tuple[int, int]) -> Tensor:
        """Bias (1, heads, N, N) for ``grid`` (h, w), N = h * w, one more with a class token; ``q`` gives the type."""
        h, w = grid
        offsets = self.table[:-3] if self.with_cls_token else self.table
        offsets = resample_offsets(offsets, self.grid, grid)
        rows, columns = _relative_index(h, offsets.device), _relative_index(w, offsets.device)
        index = rows[:, None, :, None] * (2 * w - 1) + columns[None, :, None, :]
        bias = offsets[index.reshape(h * w, h * w)]  # (L, L, heads)
        if self.with_cls_token:
            cls_to_patch, patch_to_cls, cls_to_cls = self.table[-3:]
            top = torch.cat([cls_to_cls.expand(1, 1, -1), cls_to_patch.expand(1, h * w, -1)], dim=1)
            bias = torch.cat([top, torch.cat([patch_to_cls.expand(h * w, 1, -1), bias], dim=1)])
        return bias.permute(2, 0, 1).unsqueeze(0).to(q.dtype)
