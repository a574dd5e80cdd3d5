import math

import pytest
import torch

from mae_plugin.models.pos_embed import resample_pos_embed, sincos_pos_embed


def test_first_half_encodes_the_column_second_half_the_row():
    table = sincos_pos_embed(16, (3, 4), torch.float64)[0]
    assert torch.equal(table[0], torch.zeros(16, dtype=torch.float64))
    row, column = 2, 3
    omega = [10000 ** (-i / 4) for i in range(4)]
    expected = [f(x * w) for x in (column, row) for f in (math.sin, math.cos) for w in omega]
    torch.testing.assert_close(table[1 + row * 4 + column], torch.tensor(expected, dtype=torch.float64))


def test_width_must_be_a_multiple_of_four():
    with pytest.raises(ValueError, match='multiple of 4, not 18'):
        sincos_pos_embed(18, (2, 2))


def test_resampling_to_the_same_grid_is_the_identity():
    pos = torch.randn(1, 13, 8)
    assert resample_pos_embed(pos, (3, 4), (3, 4)) is pos


def test_resampling_keeps_the_class_slot_and_a_constant_and_orientation():
    pos = torch.zeros(1, 1 + 12, 4)
    pos[:, 0] = 7
    pos[:, 1:, 0] = 3
    pos[:, 1:, 1] = torch.arange(3.).repeat_interleave(4)  # the row
    out = resample_pos_embed(pos, (3, 4), (6, 4))
    assert out.shape == (1, 25, 4)
    assert torch.equal(out[:, 0], pos[:, 0])
    torch.testing.assert_close(out[0, 1:, 0], torch.full((24, ), 3.))
    rows = out[0, 1:, 1].reshape(6, 4)
    assert (rows.diff(dim=0) > 0).all()
    torch.testing.assert_close(rows, rows[:, :1].expand(-1, 4))


def test_resampling_of_half_precision_is_done_in_single():
    pos = torch.randn(1, 17, 8).bfloat16()
    expected = resample_pos_embed(pos.float(), (4, 4), (5, 3)).bfloat16()
    assert torch.equal(resample_pos_embed(pos, (4, 4), (5, 3)), expected)
