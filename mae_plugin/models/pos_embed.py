"""Position embeddings: the fixed sin-cos table and its resampling to another grid."""

import torch
import torch.nn.functional as F
from torch import Tensor


def sincos_pos_embed(dim: int, grid: tuple[int, int], dtype: torch.dtype = torch.float32) -> Tensor:
    """Fixed 2-D sin-cos position embedding, with a zero first slot for the class token.

    The first half of the channels encodes the column (x), the second half the row (y); each half is a block of sines
    and a block of cosines at temperature 10000. MAE (He et al., 2022, appendix A.1) uses this table, and files trained
    with it depend on the order of the halves.

    Args:
        dim: Channels, a multiple of 4.
        grid: Patch grid (h, w).
        dtype: Type of the result; the table is computed in float64.

    Returns:
        (1, 1 + h * w, dim), rows first.

    Raises:
        ValueError: If ``dim`` is not a multiple of 4.
    """
    if dim % 4:
        raise ValueError(f'sin-cos positions need a width that is a multiple of 4, not {dim}')
    h, w = grid
    rows, columns = torch.meshgrid(
        torch.arange(h, dtype=torch.float64), torch.arange(w, dtype=torch.float64), indexing='ij')
    omega = 10000 ** -(torch.arange(dim // 4, dtype=torch.float64) / (dim // 4))
    halves = []
    for coordinate in (columns, rows):
        angle = coordinate.reshape(-1, 1) * omega  # (L, dim / 4)
        halves += [angle.sin(), angle.cos()]
    table = torch.cat(halves, dim=1)
    return torch.cat([torch.zeros(1, dim, dtype=torch.float64), table]).unsqueeze(0).to(dtype)


def resample_pos_embed(pos_embed: Tensor, old_grid: tuple[int, int], new_grid: tuple[int, int]) -> Tensor:
    """Resize the patch positions of ``pos_embed`` to another grid; the slots before them, of a class token, stay.

    Bicubic without antialias, as the published fine-tuning recipes do, in at least float32.

    Args:
        pos_embed: (1, T + h * w, C) on ``old_grid``.
        old_grid: (h, w) of ``pos_embed``.
        new_grid: (h, w) wanted.

    Returns:
        (1, T + h' * w', C).
    """
    if tuple(old_grid) == tuple(new_grid):
        return pos_embed
    slots = pos_embed.size(1) - old_grid[0] * old_grid[1]
    slot_pos, patch_pos = pos_embed[:, :slots], pos_embed[:, slots:]
    dtype = torch.promote_types(pos_embed.dtype, torch.float32)
    patch_pos = patch_pos.reshape(1, *old_grid, -1).permute(0, 3, 1, 2).to(dtype)
    patch_pos = F.interpolate(patch_pos, size=new_grid, mode='bicubic', align_corners=False)
    patch_pos = patch_pos.flatten(2).transpose(1, 2).to(pos_embed.dtype)
    return torch.cat([slot_pos, patch_pos], dim=1)
