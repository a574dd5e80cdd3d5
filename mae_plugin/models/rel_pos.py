"""Relative positions for dense tasks: a bias on the attention logits, zero at the start and absent in pretraining.

Each takes queries and keys (B, heads, N, d) and the ``grid`` (h, w) of their patches, and returns ``(q, k, bias)`` such
that the logits are ``q k' / sqrt(d) + bias``: either other queries and keys, or a bias.
"""

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

    def forward(self, q: Tensor, k: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor, None]:
        """Wider queries and keys (B, heads, h * w, head_dim + h + w or more), whose products hold the bias.

        ``q . table_h[y - y'] + q . table_w[x - x']`` is itself a product of two vectors: the h + w numbers that the
        query has for all rows and columns, and ones at the row and the column of the key. A matrix of all pairs, which
        fused attention does without, is never made. The width is filled up to a multiple of 8, as CUDA kernels ask.
        """
        (h, w), d = grid, q.size(-1)
        fill = -(d + h + w) % 8
        # Whatever divides the logits by sqrt(head_dim) divides the bias too.
        rows, columns = (resample_side(table, size)[_relative_index(size, table.device)] * d**.5
                         for table, size in ((self.rel_pos_h, h), (self.rel_pos_w, w)))
        q_map = q.unflatten(2, grid)
        by_row = torch.einsum('bnhwc,hkc->bnhwk', q_map, rows.to(q.dtype)).flatten(2, 3)
        by_column = torch.einsum('bnhwc,wkc->bnhwk', q_map, columns.to(q.dtype)).flatten(2, 3)
        row, column = (torch.eye(size, dtype=k.dtype, device=k.device) for size in grid)
        places = torch.cat([row.repeat_interleave(w, dim=0), column.repeat(h, 1), row.new_zeros(h * w, fill)], dim=1)
        q = torch.cat([q, by_row, F.pad(by_column, (0, fill))], dim=-1)
        return q, torch.cat([k, places.expand(*k.shape[:2], -1, -1)], dim=-1), None


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

    def forward(self, q: Tensor, k: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
        """Queries and keys as they are, bias (1, heads, N, N) in their type; N = h * w, one more with a class token."""
        h, w = grid
        rows, columns = _relative_index(h, q.device), _relative_index(w, q.device)
        index = (rows[:, None, :, None] * (2 * w - 1) + columns[None, :, None, :]).reshape(h * w, h * w)
        offsets, others = self.table.tensor_split([-3 if self.with_cls_token else len(self.table)])
        table = torch.cat([resample_offsets(offsets, self.grid, grid), others]).t()  # (heads, offsets and others)
        if self.with_cls_token:
            first = table.size(1) - 3
            index = F.pad(F.pad(index, (1, 0), value=first + 1), (0, 0, 1, 0), value=first)
            index[0, 0] = first + 2
        # Heads first, so that the keys lie side by side: on CUDA, fused kernels take no other bias.
        return q, k, table.index_select(1, index.flatten()).view(1, -1, *index.shape).to(q.dtype)
