import torch

from mae_plugin.models import BatchNormMap


def test_the_last_map_is_normalised_and_nothing_is_trained():
    torch.manual_seed(0)
    maps = torch.randn(2, 3, 4, 5), 100 * torch.randn(2, 3, 4, 5) + 7
    neck = BatchNormMap(3)
    assert not list(neck.parameters())
    normalised, = neck(maps)
    flat = normalised.transpose(0, 1).flatten(1)
    torch.testing.assert_close(flat.mean(1), torch.zeros(3), atol=1e-6, rtol=0)
    torch.testing.assert_close(flat.var(1, unbiased=False), torch.ones(3), atol=1e-5, rtol=0)
    for _ in range(200):
        neck(maps)
    tested, = neck.eval()(maps)  # by the means of training, whose variance is the unbiased one of 40 values
    torch.testing.assert_close(tested, normalised * (39 / 40) ** .5, atol=1e-4, rtol=1e-4)
