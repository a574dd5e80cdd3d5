"""Numbers of configs that no published recipe pins, or not all of them: what makes each what its docstring says."""

import pytest
import torch
from mmengine import Config
from tiny.tools import ROOT

from mae_plugin.models import TapPyramid

COSINE = dict(type='CosineAnnealingLR', eta_min=0., by_epoch=False, begin=461)
WARMUP = dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=461)

VALUES = [
    ('classification/partial-half-block_vit-large_in1k', 'model.backbone.trainable_blocks', .5),
    ('classification/partial-1-block_vit-large_in1k', 'model.backbone.trainable_blocks', 1),
    ('classification/partial-4-blocks_vit-large_in1k', 'model.backbone.trainable_blocks', 4),
    ('classification/vit-base_in1k', 'randomness.diff_rank_seed', True),
    ('classification/vit-base_in1k-c', 'test_dataloader.dataset.pipeline.1.crop_pct', 1.),
    ('classification/vit-base_in1k-c', 'test_dataloader.dataset.pipeline.1.input_size', 224),
    *[(f'classification/vit-base_in1k-{test}', 'test_dataloader.dataset.pipeline.1.crop_pct', 224 / 256)
      for test in ('a', 'r', 'sketch')],
    *[(f'detection/vitdet_{head}_vit-huge_{data}', 'model.backbone.init_cfg.resize', True)
      for head in ('mask-rcnn', 'cascade') for data in ('coco', 'lvis')],
    ('detection/vitdet_mask-rcnn_vit-base_coco-conv', 'model.backbone.conv_block_indexes', (2, 5, 8, 11)),
    ('detection/vitdet_mask-rcnn_vit-base_coco-conv', 'model.backbone.window_block_indexes', [*range(12)]),
    ('detection/vitdet_mask-rcnn_vit-base_coco-conv', 'model.backbone.rel_pos', None),
    ('detection/vitdet_mask-rcnn_vit-base_coco-none', 'model.backbone.window_block_indexes', [*range(12)]),
    ('detection/vitdet_mask-rcnn_vit-base_coco-none', 'model.backbone.rel_pos', None),
    ('detection/vitdet_mask-rcnn_vit-base_coco-global', 'model.backbone.window_block_indexes',
     (0, 1, 3, 4, 6, 7, 9, 10)),
    ('detection/vitdet_mask-rcnn_vit-base_coco-global', 'model.backbone.rel_pos', None),
    *[(f'detection/mask-rcnn-fpn_vit-{size}_coco', key, value) for size in ('base', 'large') for key, value in [
        ('sync_bn', 'torch'), ('param_scheduler', [WARMUP, COSINE]), ('train_cfg.max_iters', 184_375),
        ('model.roi_head.bbox_head.norm_cfg', dict(type='BN')), ('model.roi_head.mask_head.norm_cfg', dict(type='BN')),
        ('model.neck.1.norm_cfg', dict(type='BN')), ('model.backbone.window_size', 16),
        ('model.backbone.rel_pos', dict(type='mae_plugin.RelPosBias', size=64))]],
    ('detection/mask-rcnn-fpn_vit-base_coco', 'model.backbone.out_indices', (2, 5, 8, 11)),
    ('detection/mask-rcnn-fpn_vit-base_coco', 'model.backbone.drop_path_rate', .1),
    ('detection/mask-rcnn-fpn_vit-large_coco', 'model.backbone.out_indices', (5, 11, 17, 23)),
    ('detection/mask-rcnn-fpn_vit-large_coco', 'model.backbone.drop_path_rate', .2),
    ('segmentation/upernet_vit-large_ade20k-512x512', 'model.backbone.out_indices', (7, 11, 15, 23)),
    ('segmentation/upernet_vit-large_ade20k-512x512', 'model.backbone.drop_path_rate', .2),
    ('segmentation/upernet_vit-large_ade20k-512x512', 'model.decode_head.channels', 1024),
    ('segmentation/upernet_vit-large_ade20k-512x512', 'optim_wrapper.optimizer.lr', 2e-5),
    ('segmentation/upernet_vit-large_ade20k-512x512', 'optim_wrapper.paramwise_cfg.layer_decay_rate', .95),
    ('segmentation/linear_vit-base_ade20k-512x512', 'model.backbone.out_indices', (11, )),
    ('segmentation/linear_vit-base_ade20k-512x512', 'model.backbone.trainable_blocks', 0),
]


def load(name):
    return Config.fromfile(ROOT / 'configs' / f'{name}.py')


@pytest.mark.parametrize('name, key, value', VALUES, ids=lambda part: part if isinstance(part, str) else '')
def test_values(name, key, value):
    found = load(name)
    for part in key.split('.'):
        found = found[int(part) if part.isdigit() else part]
    assert found == value


@pytest.mark.parametrize('test', ['a', 'c', 'r', 'sketch'])
def test_configs_for_testing_change_nothing_else(test):
    """And name no recipe: these tests are not its."""
    found, base = (load(name).to_dict() for name in (f'classification/vit-base_in1k-{test}',
                                                     'classification/vit-base_in1k'))
    changed = {key for key in base if found[key] != base[key]}
    assert found.keys() == base.keys()
    assert changed - {'test_pipeline'} == {'recipe', 'test_dataloader', 'test_evaluator'}
    assert found['recipe'] == dict(batch_size=1024)


def test_taps_are_normalised_in_32_groups():
    """64 channels are 32 pairs: constant maps of 1 and 3, 11 and 13, ... all become -1 and 1."""
    level = TapPyramid(64).levels[0]
    with torch.no_grad():
        level[0].weight.zero_()
        level[0].bias.copy_((torch.arange(32.)[:, None] * 10 + torch.tensor([1., 3.])).flatten())
    found = level[1](level[0](torch.randn(1, 64, 2, 2)))
    torch.testing.assert_close(found[0, :, 0, 0], torch.tensor([-1., 1.]).repeat(32), atol=1e-4, rtol=0)
