"""Widths of a task's parts that disagree are found before the model is built."""

import copy

import pytest
from mmengine.config import Config
from tiny.tools import ROOT

from mae_plugin.utils.model_sizes import check_sizes
from mae_plugin.utils.overrides import apply_overrides

TASKS = [file for task in ('classification', 'detection', 'segmentation') for file in ROOT.glob(f'configs/{task}/*.py')]


@pytest.mark.parametrize('file', TASKS, ids=lambda file: file.stem)
def test_shipped_configs_agree(file):
    check_sizes(Config.fromfile(file).model)


@pytest.mark.parametrize('file, setting, value, source', [
    ('classification/vit-mini_digits', 'head.in_channels', 192, 'backbone.embed_dim=128'),
    ('detection/vitdet_faster-rcnn_vit-mini_digits', 'neck.in_channels', 192, 'backbone.embed_dim=128'),
    ('detection/vitdet_faster-rcnn_vit-mini_digits', 'neck.out_channels', 32, 'neck.out_channels=32'),
    ('detection/vitdet_faster-rcnn_vit-mini_digits', 'rpn_head.in_channels', 32, 'neck.out_channels=64'),
    ('detection/vitdet_faster-rcnn_vit-mini_digits', 'roi_head.bbox_roi_extractor.out_channels', 32,
     'neck.out_channels=64'),
    ('detection/vitdet_faster-rcnn_vit-mini_digits', 'roi_head.bbox_head.in_channels', 32, 'neck.out_channels=64'),
    ('detection/vitdet_mask-rcnn_vit-base_coco', 'roi_head.mask_head.in_channels', 32, 'neck.out_channels=256'),
    ('detection/vitdet_mask-rcnn_vit-base_coco', 'roi_head.mask_roi_extractor.out_channels', 32,
     'neck.out_channels=256'),
    ('detection/mask-rcnn-fpn_vit-base_coco', 'neck.0.in_channels', 32, 'backbone.embed_dim=768'),
    ('detection/mask-rcnn-fpn_vit-base_coco', 'neck.1.in_channels', 32, 'backbone.embed_dim=768'),
    ('detection/mask-rcnn-fpn_vit-base_coco', 'neck.1.out_channels', 32, 'neck.1.out_channels=32'),
    ('segmentation/upernet_vit-mini_digits', 'neck.embed_dim', 192, 'backbone.embed_dim=128'),
    ('segmentation/upernet_vit-mini_digits', 'decode_head.in_channels.1', 192, 'backbone.embed_dim=128'),
    ('segmentation/upernet_vit-mini_digits', 'auxiliary_head.in_channels', 192, 'backbone.embed_dim=128')])
def test_a_width_that_disagrees_is_named(file, setting, value, source):
    cfg = Config.fromfile(ROOT / f'configs/{file}.py')
    apply_overrides(cfg, [f'model.{setting}={value}'])
    with pytest.raises(ValueError) as error:
        check_sizes(cfg.model)
    assert f'disagrees with model.{source}' in str(error.value)
    assert setting.removesuffix('.1') in str(error.value) and str(value) in str(error.value)


def test_the_heads_of_a_cascade_are_each_compared():
    model = Config.fromfile(ROOT / 'configs/detection/vitdet_faster-rcnn_vit-mini_digits.py').model.to_dict()
    model['roi_head']['bbox_head'] = [copy.deepcopy(model['roi_head']['bbox_head']) for _ in range(3)]
    check_sizes(model)
    model['roi_head']['bbox_head'][2]['in_channels'] = 32
    with pytest.raises(ValueError, match='roi_head.bbox_head.2.in_channels=32'):
        check_sizes(model)


def test_other_backbones_are_left_to_themselves():
    check_sizes(dict(backbone=dict(type='Swin', embed_dim=96), head=dict(in_channels=768)))
