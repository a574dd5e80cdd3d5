import pytest
import torch

from mae_plugin.models import PatchMask, PixelTarget
from mae_plugin.models.layers import patchify, unpatchify


def test_patch_is_row_column_channel():
    imgs = torch.arange(2 * 3 * 4 * 6.).reshape(2, 3, 4, 6)
    patches = patchify(imgs, (2, 3))
    assert patches.shape == (2, 4, 18)
    assert torch.equal(patches[1, 2].reshape(2, 3, 3), imgs[1, :, 2:4, 0:3].permute(1, 2, 0))
    assert torch.equal(unpatchify(patches, (2, 3), (2, 2)), imgs)


@pytest.mark.parametrize('channels_first', [False, True])
def test_patchify_takes_the_patches_it_is_asked_for(channels_first):
    imgs = torch.randn(2, 3, 4, 9)
    ids = torch.tensor([[5, 0, 2], [1, 1, 3]])
    found = patchify(imgs, (2, 3), ids, channels_first)
    assert torch.equal(found, patchify(imgs, (2, 3), channels_first=channels_first)[[[0], [1]], ids])


def test_normalised_target_by_hand():
    imgs = torch.rand(1, 3, 4, 4, dtype=torch.float64)
    mask = PatchMask.from_scores(torch.tensor([[0., 1, 2, 3]]), 2, (2, 2))
    target = PixelTarget(2, 3, norm_pix=True)(imgs, mask)
    patch = imgs[0, :, 2:, :2].permute(1, 2, 0).flatten()  # patch 2
    expected = (patch - patch.mean()) / (((patch - patch.mean()) ** 2).sum() / 11 + 1e-6).sqrt()
    torch.testing.assert_close(target[0, 0], expected)
    assert target.shape == (1, 2, 12)


def test_inverse_undoes_both_targets():
    imgs = torch.rand(2, 3, 8, 8)
    mask = PatchMask.from_scores(torch.rand(2, 16), 4, (4, 4))
    raw = PixelTarget(2, 3, norm_pix=False)(imgs, mask)
    for norm_pix in (False, True):
        target = PixelTarget(2, 3, norm_pix)
        torch.testing.assert_close(target.inverse(target(imgs, mask), imgs, mask), raw)
