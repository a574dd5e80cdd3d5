"""The one place that changes the size of loaded tensors: patch filters, channels, positions, relative positions."""

import re
from collections.abc import Mapping
from math import isqrt

import torch
import torch.nn.functional as F
from torch import Tensor

from .layers import at_least_float32
from .pos_embed import resample_pos_embed
from .rel_pos import resample_offsets, resample_side

Grid = tuple[int, int]

_FILTERS = 'backbone.patch_embed.proj.weight'
_POSITIONS = ('backbone.pos_embed', 'neck.decoder_pos_embed')


def grid_of(num_patches: int, known: Grid | None = None) -> Grid | None:
    """Patch grid (h, w) of ``num_patches``: ``known``, as a card says it, if it fits, else the square one, or None."""
    if known is not None and known[0] * known[1] == num_patches:
        return tuple(known)
    side = isqrt(num_patches)
    return (side, side) if side * side == num_patches else None


def resize(state: dict[str, Tensor], wanted: Mapping[str, Tensor], new_grid: Grid, old_grid: Grid | None) -> list[str]:
    """Give tensors of ``state`` the sizes of ``wanted`` where that has a meaning; others stay as they are.

    Patch filters are resized bicubically (ViTDet takes ViT-H/14 to patches of 16 so), positions and biases of relative
    positions as in ``forward``. Where there are more channels than in the file, its filters are repeated in turn and
    each is divided by the number of its copies; where there are fewer, they are added in turn: an image whose channels
    are all alike gives the same tokens.

    Args:
        state: Tensors by our names; changed in place.
        wanted: Those of the model.
        new_grid: Patch grid (h, w) of the model's positions.
        old_grid: That of the file, None for the square one.

    Returns:
        What was resized, for the log.
    """
    done = {}
    for name, target in wanted.items():
        value = state.get(name)
        if value is None:
            continue
        new, what = value, name.removeprefix('backbone.').removeprefix('neck.')
        if name == _FILTERS and value.dim() == 4 and value.size(0) == target.size(0):
            new = _resize_filters(value, target.shape)
            what = f'patch filters {_size(value)} to {_size(target)}'
        elif name in _POSITIONS and value.dim() == 3 and value.size(2) == target.size(2):
            grid = grid_of(value.size(1) - target.size(1) + new_grid[0] * new_grid[1], old_grid)
            if grid is not None:
                new = resample_pos_embed(value, grid, new_grid)
                what = f'{what} {grid[0]}x{grid[1]} to {new_grid[0]}x{new_grid[1]}'
        elif value.shape != target.shape and value.shape[1:] == target.shape[1:]:
            if re.search(r'\.rel_pos\.rel_pos_[hw]$', name):
                new = resample_side(value, (target.size(0) + 1) // 2)
                what = 'relative positions of each side'
            elif name.endswith('.rel_pos.table'):
                new = _resize_table(value, target.size(0))
                what = 'tables of relative positions'
        if new is not value:
            state[name] = new
            done[what] = None
    return list(done)


def _resize_filters(filters: Tensor, shape: torch.Size) -> Tensor:
    """Filters (C', channels, height, width) as ``shape``."""
    old, new = filters.size(1), shape[1]
    if old != new:
        place = torch.arange(max(old, new)) % min(old, new)
        filters = at_least_float32(filters)
        if new > old:
            filters = filters[:, place] / place.bincount()[place, None, None]
        else:
            filters = filters.new_zeros(filters.size(0), new, *filters.shape[2:]).index_add(1, place, filters)
    if filters.shape[2:] != shape[2:]:
        filters = F.interpolate(at_least_float32(filters), size=tuple(shape[2:]), mode='bicubic')
    return filters


def _resize_table(table: Tensor, rows: int) -> Tensor:
    """Biases of all offsets on a square grid, then the class token's three if there is one, to ``rows`` rows."""
    for cls in (3, 0):
        old, new = isqrt(len(table) - cls), isqrt(rows - cls)
        if old % 2 and new % 2 and old * old == len(table) - cls and new * new == rows - cls:
            old, new = (old + 1) // 2, (new + 1) // 2
            offsets = resample_offsets(table[:len(table) - cls], (old, old), (new, new))
            return torch.cat([offsets, table[len(table) - cls:].to(offsets.dtype)])
    return table


def _size(filters: Tensor) -> str:
    return 'x'.join(map(str, filters.shape[1:]))
