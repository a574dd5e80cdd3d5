import torch

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
