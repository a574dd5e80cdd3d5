import argparse

import pytest
from tiny.tools import ROOT

from mae_plugin.utils import run_config

IMAGES = str(ROOT / 'configs/pretrain/mae_vit-small-p16_images.py')


def prepared(config, *options):
    parser = argparse.ArgumentParser()
    parser.add_argument('config')
    run_config.add_arguments(parser)
    cfg = run_config.load_config(config, options)
    run_config.prepare(cfg, parser.parse_args([config]))
    return cfg


def test_held_out_images_come_from_where_the_training_images_do():
    cfg = prepared(IMAGES, 'train_dataloader.dataset.data_root=/my/images')
    for name in ('val_dataloader', 'test_dataloader'):
        assert cfg[name].dataset.data_root == '/my/images' and cfg[name].dataset.split == 'val'


def test_validation_images_that_are_named_stay():
    cfg = prepared(IMAGES.replace('small-p16_images', 'base-p16_in1k'), 'train_dataloader.dataset.data_root=/my/images')
    assert cfg.val_dataloader.dataset.data_root == 'data/imagenet/val'


@pytest.mark.parametrize('options, dtype', [
    ([], 'bfloat16'), (['optim_wrapper.dtype=float16'], 'float16'), (['optim_wrapper.dtype=float32'], 'bfloat16')])
def test_amp_keeps_a_half_precision_that_the_config_chose(options, dtype):
    cfg = run_config.load_config(IMAGES, options)
    run_config.set_amp(cfg)
    assert cfg.optim_wrapper.dtype == dtype and cfg.optim_wrapper.type == 'mae_plugin.AutocastOptimWrapper'
