"""tools/browse_dataset.py: what it shows is what training takes, and no model is built for it."""

import re

import numpy as np
import pytest
import torch
from PIL import Image
from tiny.generated import make_images
from tiny.tools import CONFIG, ROOT, TINY, run_tool  # noqa: F401

from mae_plugin.datasets import KeyedSampler, UnlabelledImages
from mae_plugin.models import PlainViT
from mae_plugin.registry import MODELS
from mae_plugin.utils.run_config import fill_in_data, load_config
from mae_plugin.visualization.browse import browse

PRETRAIN = TINY / 'tiny_mae.py'


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """With eight images, of 120x90 pixels."""
    make_images(tmp_path / 'data/images')
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_samples_in_the_order_of_training(folder, run_tool):  # noqa: F811
    code, out, err = run_tool('browse_dataset', PRETRAIN, '--num', 5, '--cfg-options', 'randomness.seed=3')
    assert code == 0, err
    cfg = load_config(PRETRAIN)
    fill_in_data(cfg)
    dataset = UnlabelledImages('data/images', cfg.train_dataloader.dataset.pipeline)
    expected = []
    for key, _ in zip(KeyedSampler(dataset, seed=3), range(5), strict=False):
        left, top, right, bottom = dataset.pipeline.transforms[0].box(120, 90, key)
        expected.append(f'{dataset.path(key.index)}: 120x90, crop {right - left}x{bottom - top}+{left}+{top}, '
                        f'key seed=3 epoch=0 index={key.index}')
    assert re.findall(r'.*: 120x90, .*', out) == expected
    assert '5 samples in browse/train.png' in out and Image.open('browse/train.png').width > 100


def test_pictures_are_what_the_encoder_gets(folder):
    """Compared with the parts of the model as training builds them."""
    cfg = load_config(PRETRAIN)
    sheet, lines = browse(cfg, 'train', 100)
    assert len(lines) == len(sheet.groups) == 8  # there are no more
    model = MODELS.build(cfg.model)
    dataset = UnlabelledImages('data/images', cfg.train_dataloader.dataset.pipeline)
    sampler = iter(KeyedSampler(dataset, seed=0))
    for crop, seen in sheet.groups:
        sample = dataset[next(sampler)]
        original = sample['inputs'].permute(1, 2, 0).numpy()
        np.testing.assert_array_equal(np.asarray(crop.image.resize((32, 32), Image.BOX)).mean(), pytest.approx(
            original.mean(), abs=2))
        mask = model.masking(sample['inputs'][None].float(), (4, 4), [sample['data_samples']]).mask[0].view(4, 4)
        middles = np.asarray(seen.image)[30::60, 30::60]  # of the patches
        assert ((middles == [124, 116, 104]).all(-1) == mask.bool().numpy()).all()


def test_validation_is_shown_in_its_order(folder, run_tool):  # noqa: F811
    code, out, err = run_tool('browse_dataset', PRETRAIN, '--split', 'val', '--num', 2, '--out', 'x')
    assert code == 0, err
    assert re.findall(r'key .*', out) == ['key seed=0 epoch=0 index=0', 'key seed=0 epoch=0 index=1']
    assert 'crop' not in out and (folder / 'x/val.png').is_file()


def test_no_model_is_built(folder, monkeypatch):
    """Of the backbone, which tells its facts, no number exists; decoder and target are not made."""
    cfg = load_config(PRETRAIN, ['model.neck.type=NoSuchDecoder', 'model.head.target.type=NoSuchTarget'])
    built, init = [], PlainViT.__init__
    monkeypatch.setattr(PlainViT, '__init__', lambda self, *args, **kwargs: built.append(self) or init(
        self, *args, **kwargs))
    browse(cfg, 'train', 2)
    backbone, = built
    weights = [parameter for name, parameter in backbone.named_parameters() if name != 'pos_embed']
    assert weights and all(parameter.is_meta for parameter in weights)


def test_corruption_and_its_clean_image(folder, monkeypatch):
    class Black(torch.nn.Module):
        def forward(self, imgs, data_samples):
            return imgs - 100

    monkeypatch.setitem(MODELS.module_dict, 'Black', Black)
    cfg = load_config(PRETRAIN, ['model.masking={"type":"mae_plugin.NoMasking"}',
                                 '+model.corruption={"type":"mae_plugin.Black"}'])
    (crop, seen), = browse(cfg, 'train', 1)[0].groups
    assert np.asarray(seen.image).max() == 0 and np.asarray(crop.image).max() > 100


@pytest.mark.parametrize('path, message', [
    ('configs/classification/vit-mini_digits.py', 'mmpretrain has a tool for it, tools/visualization/'),
    ('configs/detection/vitdet_faster-rcnn_vit-mini_digits.py', 'mmdet has a tool for it, tools/analysis_tools/'),
    ('configs/segmentation/upernet_vit-mini_digits.py', 'mmseg has a tool for it, tools/misc/browse_dataset.py'),
    (CONFIG, 'is no config of pretraining')])
def test_configs_of_tasks_have_tools_of_their_own(run_tool, path, message):  # noqa: F811
    code, _, err = run_tool('browse_dataset', ROOT / path)
    assert code == 1 and message in err and err.count('\n') == 1


@pytest.mark.parametrize('options, message', [
    (['--num', '0'], '--num 0 is not at least 1'), (['--split', 'val'], 'has no val_dataloader'),
    (['--bands', '0', '1'], 'bands=[0, 1]')])
def test_settings_that_cannot_be(folder, run_tool, options, message):  # noqa: F811
    code, _, err = run_tool('browse_dataset', PRETRAIN, *options, '--cfg-options', 'val_dataloader=None',
                            'test_dataloader=None')
    assert code == 1 and message in err
