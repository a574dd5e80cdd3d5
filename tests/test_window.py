import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from mae_plugin.models import DecomposedRelPos, RelPosBias
from mae_plugin.models.layers import Attention
from mae_plugin.models.window import window_partition, window_unpartition


def test_unpartition_undoes_partition_on_any_grid():
    for h, w in ((6, 6), (5, 7), (2, 9)):
        x = torch.randn(2, h, w, 3)
        windows, padded = window_partition(x, 3)
        assert windows.shape[1:] == (3, 3, 3) and padded == (-(-h // 3) * 3, -(-w // 3) * 3)
        assert torch.equal(window_unpartition(windows, padded, (h, w)), x)


def test_windows_hold_neighbours_and_zeros_fill_up():
    x = torch.arange(1., 21).reshape(1, 4, 5, 1)
    windows, _ = window_partition(x, 3)
    assert windows[0, ..., 0].tolist() == [[1, 2, 3], [6, 7, 8], [11, 12, 13]]
    assert windows[3, ..., 0].tolist() == [[19, 20, 0], [0, 0, 0], [0, 0, 0]]


def attend_in_padded_windows(attn, x, grid, size):
    """As ViTDet does: zero tokens fill up the windows before everything else."""
    windows, padded = window_partition(x.unflatten(1, grid), size)
    windows = attn(windows.flatten(1, 2), (size, size)).unflatten(1, (size, size))
    return window_unpartition(windows, padded, grid).flatten(1, 2)


def attention(rel_pos=None, grid=(5, 7)):
    torch.manual_seed(0)
    attn = Attention(24, 2, rel_pos and rel_pos(2, 12, (3, 3), with_cls_token=False)).double()
    for parameter in attn.parameters():
        torch.nn.init.normal_(parameter, std=.3)
    return attn, torch.randn(2, grid[0] * grid[1], 24, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize('grid', [(6, 6), (5, 6), (5, 7), (2, 2)])
@pytest.mark.parametrize('rel_pos', [None, DecomposedRelPos, RelPosBias])
def test_what_fills_up_a_window_answers_as_a_zero_token(rel_pos, grid):
    attn, x = attention(rel_pos, grid)
    found, expected = attn(x, grid, window_size=3), attend_in_padded_windows(attn, x, grid, 3)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    seed, inputs = torch.randn_like(found), [x, *attn.parameters()]
    torch.testing.assert_close(torch.autograd.grad(found, inputs, seed), torch.autograd.grad(expected, inputs, seed),
                               rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize('grid', [(6, 6), (5, 7)])
def test_what_fills_up_a_window_costs_no_projection(grid):
    attn, x = attention(grid=grid)
    with FlopCounterMode(display=False) as counter:
        attn(x, grid, window_size=3)
    assert counter.get_flop_counts()['Global'][torch.ops.aten.addmm] == 2 * grid[0] * grid[1] * 8 * 24**2


def test_a_map_that_needs_no_filling_is_not_copied():
    x = torch.randn(1, 3, 3, 2)
    assert window_partition(x, 3)[0].data_ptr() == x.data_ptr()
