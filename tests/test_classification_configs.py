"""The configs of classification: their numbers and their models."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.registry import DefaultScope
from tiny.tools import ROOT

from mae_plugin.models.pos_embed import resample_pos_embed
from mae_plugin.registry import MODELS
from mae_plugin.utils.run_config import load_config

FOLDER = ROOT / 'configs' / 'classification'
NAMES = sorted(path.stem for path in FOLDER.glob('*.py') if 'digits' not in path.stem and 'neu' not in path.stem)
IMAGES = 1_281_167


def config(name):
    return load_config(FOLDER / f'{name}.py')


# name: layers, width, patch; epochs, of warm-up; batch; rate at that batch, least rate; layer decay, weight decay,
# drop path. He et al. (2022), Tables 9 and 11, and the authors' FINETUNE.md.
FINETUNING = {
    'vit-base_in1k': (12, 768, 16, 100, 5, 1024, 2e-3, 1e-6, .65, .05, .1),
    'vit-large_in1k': (24, 1024, 16, 50, 5, 1024, 4e-3, 1e-6, .75, .05, .2),
    'vit-huge_in1k': (32, 1280, 14, 50, 5, 1024, 4e-3, 1e-6, .75, .05, .3),
    'vit-huge_in1k-448px': (32, 1280, 14, 50, 5, 1024, 4e-3, 1e-6, .75, .05, .3),
    'vit-base_in1k-raw': (12, 768, 16, 100, 5, 1024, 4e-3, 1e-6, .75, .05, .1),
    'vit-large_in1k-raw': (24, 1024, 16, 50, 5, 1024, 4e-3, 1e-6, .75, .05, .1),
    'vit-huge_in1k-raw': (32, 1280, 14, 50, 5, 1024, 4e-3, 1e-6, .75, .05, .2),
    'partial-4-blocks_vit-large_in1k': (24, 1024, 16, 50, 5, 1024, 4e-3, 1e-6, .75, .05, .1),
    'scratch-vit-base_in1k': (12, 768, 16, 300, 20, 4096, 1.6e-3, 0, 1, .3, .1),
    'scratch-vit-large_in1k': (24, 1024, 16, 200, 20, 4096, 1.6e-3, 0, 1, .3, .2),
    'scratch-vit-huge_in1k': (32, 1280, 14, 200, 20, 4096, 1.6e-3, 0, 1, .3, .2),
}
# The same up to the least rate; then the momentum. Table 10.
PROBES = {
    'linear-probe_vit-base_in1k': (12, 768, 16, 90, 10, 16_384, 6.4),
    'linear-probe_vit-large_in1k': (24, 1024, 16, 50, 10, 16_384, 6.4),
    'linear-probe_vit-huge_in1k': (32, 1280, 14, 50, 10, 16_384, 6.4),
    'linear-probe-sgd_vit-base_in1k': (12, 768, 16, 90, 10, 4096, 1.6),
    'attentive-probe_vit-base_in1k': (12, 768, 16, 90, 10, 1024, 1e-3),
}


def schedule(cfg):
    """Epochs, those of warm-up, and the rate, of the batch the recipe names."""
    per_epoch = IMAGES // cfg.recipe.batch_size
    warmup, cosine = cfg.param_scheduler
    assert warmup.begin == 0 and warmup.end == cosine.begin and 'end' not in cosine
    assert warmup.start_factor == 1e-9 and not warmup.by_epoch and not cosine.by_epoch
    assert cfg.auto_scale_lr == dict(enable=True, base_batch_size=256)
    rate = cfg.optim_wrapper.optimizer.lr * cfg.recipe.batch_size / 256
    return cfg.train_cfg.max_iters / per_epoch, warmup.end / per_epoch, rate


def sizes(cfg):
    backbone = cfg.model.backbone
    assert cfg.model.head.in_channels == backbone.embed_dim
    assert backbone.img_size == cfg.train_pipeline[1].get('input_size', 224)
    assert backbone.num_heads == {768: 12, 1024: 16, 1280: 16}[backbone.embed_dim]
    return backbone.depth, backbone.embed_dim, backbone.patch_size


@pytest.mark.parametrize('name', FINETUNING)
def test_numbers_of_fine_tuning(name):
    cfg = config(name)
    *expected, rate, least, layer_decay, decay, drop_path = FINETUNING[name]
    epochs, warmup, base = schedule(cfg)
    assert [*sizes(cfg), epochs, warmup, cfg.recipe.batch_size] == expected and base == pytest.approx(rate)
    cosine, wrapper = cfg.param_scheduler[1], cfg.optim_wrapper
    assert cosine.get('eta_min', cosine.get('eta_min_ratio', 0) * rate) == pytest.approx(least)
    assert (wrapper.paramwise_cfg.layer_decay_rate, wrapper.optimizer.weight_decay) == (layer_decay, decay)
    assert wrapper.paramwise_cfg.no_decay == ('1d', 'pos_embed', 'cls_token') and 'clip_grad' not in wrapper
    assert (wrapper.optimizer.type, wrapper.optimizer.betas) == ('AdamW', (.9, .95 if 'scratch' in name else .999))
    assert cfg.model.backbone.drop_path_rate == drop_path and cfg.model.head.init_cfg.std == 2e-5
    assert ('EMAHook' in str(cfg.get('custom_hooks'))) == ('scratch' in name)
    assert (cfg.model.backbone.init_cfg is None) == ('scratch' in name)


@pytest.mark.parametrize('name', PROBES)
def test_numbers_of_probing(name):
    cfg = config(name)
    epochs, warmup, rate = schedule(cfg)
    assert (*sizes(cfg), epochs, warmup, cfg.recipe.batch_size, rate) == pytest.approx(PROBES[name])
    assert cfg.param_scheduler[1].eta_min == 0 and cfg.model.backbone.trainable_blocks == 0
    assert not cfg.model.backbone.get('drop_path_rate') and cfg.model.head.init_cfg.std == .01
    assert 'loss' not in cfg.model.head and cfg.model.data_preprocessor.type == 'ClsDataPreprocessor'
    if 'linear' in name:
        assert cfg.model.neck.input_features == cfg.model.backbone.embed_dim
        assert (cfg.optim_wrapper.optimizer.momentum, cfg.optim_wrapper.optimizer.weight_decay) == (.9, 0)


@pytest.mark.parametrize('name', [name for name in NAMES if config(name).get('recipe')])
def test_the_batch_is_that_of_the_recipe_on_eight_gpus(name):
    """Of H at 448 pixels on 32; and a name of a recipe goes with the size of its model."""
    cfg = config(name)
    assert cfg.train_dataloader.batch_size * (32 if '448' in name else 8) == cfg.recipe.batch_size
    size = {768: 'base', 1024: 'large', 1280: 'huge'}[cfg.model.backbone.embed_dim]
    assert size in (cfg.recipe.get('name') or size).removesuffix('-448').split('/')
    start = cfg.model.backbone.init_cfg
    assert start is None or f'vit-{size}' in start.checkpoint
    assert f'{name}.py' in Path(FOLDER / f'{name}.py').read_text()  # the command


@pytest.mark.parametrize('name, millions', [  # as mmpretrain counts its own (README of configs/mae)
    ('vit-base_in1k', 86.57), ('vit-large_in1k-raw', 304.32), ('vit-huge_in1k', 632.04)])
def test_models_have_the_published_size(name, millions):
    pytest.importorskip('mmpretrain')
    cfg, counts = config(name), []
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        for depth in (1, 2):
            model = MODELS.build(dict(cfg.model, backbone=dict(cfg.model.backbone, depth=depth)))
            counts.append(sum(parameter.numel() for parameter in model.parameters()))
    total = counts[0] + (cfg.model.backbone.depth - 1) * (counts[1] - counts[0])
    assert total / 1e6 == pytest.approx(millions, abs=.01)


def test_at_448_pixels_positions_of_224_are_resampled_when_they_are_loaded(tmp_path):
    cfg = config('vit-huge_in1k-448px').model.backbone
    small = dict(cfg, embed_dim=16, depth=1, num_heads=2)
    pretrained = MODELS.build(dict(small, img_size=224, init_cfg=None, out_type='raw'))
    torch.save(pretrained.state_dict(), tmp_path / 'pretrained.pth')
    model = MODELS.build(dict(small, init_cfg=dict(cfg.init_cfg, checkpoint=str(tmp_path / 'pretrained.pth'))))
    model.init_weights()
    expected = resample_pos_embed(pretrained.pos_embed, (16, 16), (32, 32))
    torch.testing.assert_close(model.pos_embed.data, expected.data)
    assert model.pos_embed.requires_grad


def test_the_lists_of_inaturalist_are_made_as_printed(tmp_path):
    command = re.search(r'\n    for part .*? done\n', (FOLDER / 'vit-base_inat2018.py').read_text(), re.DOTALL)[0]
    for part in ('train', 'val'):
        (tmp_path / f'{part}2018.json').write_text(json.dumps(dict(
            images=[dict(id=7, file_name='a/7.jpg'), dict(id=8, file_name=f'{part}/8.jpg')],
            annotations=[dict(image_id=8, category_id=3), dict(image_id=7, category_id=8141)])))
    path = f'{Path(sys.executable).parent}:{os.environ["PATH"]}'
    subprocess.run(['bash', '-ec', command], cwd=tmp_path, env=dict(os.environ, PATH=path), check=True)
    assert (tmp_path / 'val.txt').read_text() == 'val/8.jpg 3\na/7.jpg 8141\n'
    assert (tmp_path / 'train.txt').read_text() == 'train/8.jpg 3\na/7.jpg 8141\n'
