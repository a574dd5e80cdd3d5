"""What comes out of the pyramid is what mmdet's heads can read; its numbers are compared in test_golden.py."""

import pytest
import torch

from mae_plugin.models import SimpleFeaturePyramid
from mae_plugin.models.layers import LayerNorm2d


def test_layer_norm_of_maps():
    x = torch.randn(2, 6, 3, 5, generator=torch.Generator().manual_seed(0))
    norm = LayerNorm2d(6)
    expected = (x - x.mean(1, keepdim=True)) / (x.var(1, unbiased=False, keepdim=True) + 1e-6).sqrt()
    torch.testing.assert_close(norm(x), expected)
    for layout in (torch.contiguous_format, torch.channels_last):
        assert norm(x.to(memory_format=layout)).is_contiguous()


@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last])
def test_regions_of_its_levels_are_read_rightly(layout):
    """mmcv's RoIAlign takes any memory for a contiguous one: with another layout it mixes channels and positions."""
    ops = pytest.importorskip('mmcv.ops')
    torchvision_ops = pytest.importorskip('torchvision.ops')
    torch.manual_seed(0)
    levels = SimpleFeaturePyramid(16, 8)((torch.randn(2, 16, 6, 10).to(memory_format=layout), ))
    regions = torch.tensor([[0, 3., 5, 60, 40], [1, 20., 0, 159, 95]])
    for level, stride in zip(levels, (4, 8, 16, 32, 64), strict=True):
        expected = torchvision_ops.roi_align(level.contiguous(), regions, 7, 1 / stride, aligned=True)
        torch.testing.assert_close(ops.RoIAlign(7, 1 / stride)(level, regions), expected)


def test_unknown_scales_are_refused():
    with pytest.raises(ValueError, match='scale 3 is not one of'):
        SimpleFeaturePyramid(16, 8, scales=(4, 3))
