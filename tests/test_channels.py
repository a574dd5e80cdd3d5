"""Any number of channels and any shape, from the files through pretraining to a task; pixels without data."""

import argparse
import importlib.util
import logging

import numpy as np
import pytest
import torch
from mmengine.logging import MMLogger
from tiny.tiny_mae import __file__ as TINY_MAE
from tiny.tools import ROOT, run_tool  # noqa: F401

from mae_plugin.datasets import UnlabelledImages
from mae_plugin.datasets.channel_stats import channel_stats
from mae_plugin.datasets.spectral_scenes import ensure_spectral_scenes
from mae_plugin.models import MAEDataPreprocessor
from mae_plugin.registry import MODELS
from mae_plugin.utils import run_config
from mae_plugin.weights.safe_load import load_file

CONFIG = str(ROOT / 'configs/parts/channels_13-rectangular.py')
CLASSIFY = str(ROOT / 'configs/classification/vit-mini_multispectral.py')
IMAGES = str(ROOT / 'configs/pretrain/mae_vit-small-p16_images.py')


def prepared(config, *options):
    parser = argparse.ArgumentParser()
    parser.add_argument('config')
    run_config.add_arguments(parser)
    cfg = run_config.load_config(config, options)
    run_config.prepare(cfg, parser.parse_args([config]))
    return cfg


@pytest.fixture(scope='module')
def scenes(tmp_path_factory):
    pytest.importorskip('sklearn')
    top = tmp_path_factory.mktemp('scenes')
    ensure_spectral_scenes(top / 'data/spectral_scenes', train=20, val=10)
    return top


SHORT = ['prepare_data=None', 'train_dataloader.num_workers=0', 'val_dataloader.num_workers=0', 'param_scheduler=[]',
         'train_dataloader.batch_size=4', 'val_dataloader.batch_size=10', 'default_hooks.logger.interval=1',
         'train_cfg.max_iters=3', 'train_cfg.val_interval=3', 'default_hooks.checkpoint.interval=3',
         'val_dataloader.persistent_workers=False', 'train_dataloader.persistent_workers=False']


def test_from_pretraining_to_a_classifier(run_tool, scenes, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.chdir(scenes)
    code, out, err = run_tool('train', CONFIG, '--work-dir', tmp_path / 'mae', '--cfg-options', *SHORT)
    assert code == 0 and 'nan' not in (out + err).partition('Iter(train)')[2], out + err
    pretrained = tmp_path / 'mae/iter_3.pth'
    state = load_file(pretrained)['state_dict']
    assert state['backbone.patch_embed.proj.weight'].shape == (128, 13, 8, 16)
    assert state['backbone.pos_embed'].shape == (1, 1 + 8 * 6, 128)
    assert state['neck.decoder_pred.weight'].shape == (8 * 16 * 13, 64)
    assert 'far from data_preprocessor' not in out + err
    if importlib.util.find_spec('mmpretrain') is None:
        pytest.skip('needs mmpretrain')
    code, out, err = run_tool('train', CLASSIFY, '--work-dir', tmp_path / 'cls', '--cfg-options', *SHORT,
                              f'model.backbone.init_cfg.checkpoint={pretrained}')
    assert code == 0 and 'loaded 52 of 54 tensors' in out + err, out + err
    assert 'accuracy/top1' in out + err and 'loss: nan' not in out + err


def test_labelled_images_without_augmentation_are_those_of_pretraining(scenes, monkeypatch):
    """The mean of the classifier's pipeline is zero after normalisation, as what has no data is in pretraining."""
    monkeypatch.chdir(scenes)
    cfg, task = prepared(CONFIG), run_config.load_config(CLASSIFY)
    load = dict(task.train_dataloader.dataset.pipeline[0])
    assert load.pop('type') == 'mae_plugin.LoadImage'
    from mae_plugin.datasets import LoadImage
    images = UnlabelledImages('data/spectral_scenes/train', [dict(type='mae_plugin.PackUnlabelled')], mode='array',
                              channels=13, arrays=dict(nodata=0))
    index = next(i for i in range(len(images)) if images[i]['inputs'].isnan().any())
    found = torch.from_numpy(LoadImage(**load)(dict(img_path=images.path(index)))['img']).permute(2, 0, 1)
    preprocessor = MODELS.build(cfg.model.data_preprocessor)
    seen, expected = (preprocessor(dict(inputs=[imgs]))['inputs'] for imgs in (found, images[index]['inputs']))
    assert preprocessor.nodata and expected.isnan().any()
    torch.testing.assert_close(seen, expected.nan_to_num(0))
    assert task.model.data_preprocessor.mean == cfg.model.data_preprocessor.mean


@pytest.fixture
def folders(tmp_path):
    """The same images twice; where they have no data, one has 0 and the other 65535."""
    random = np.random.default_rng(0)
    for number in range(6):
        values = random.integers(1000, 2000, (40, 40, 4)).astype(np.uint16)
        margin = np.arange(40) < random.integers(5, 25, 40)[:, None]
        for nodata in (0, 65535):
            values[margin] = nodata
            (tmp_path / str(nodata)).mkdir(exist_ok=True)
            np.save(tmp_path / str(nodata) / f'{number}.npy', values)
    return tmp_path


@pytest.mark.parametrize('crop', ['mae_plugin.KeyedRandomResizedCrop', 'mae_plugin.ResizeCenterCrop'])
def test_what_stands_where_there_is_no_data_changes_nothing(folders, crop):
    results = []
    for nodata in (0, 65535):
        cfg = prepared(TINY_MAE, 'model.backbone.in_chans=4', 'model.data_preprocessor.mean=[1500,1500,1500,1500]',
                       'model.data_preprocessor.std=[300,300,300,300]', '+train_dataloader.dataset.channels=4',
                       'train_dataloader.dataset.mode=array', f'+train_dataloader.dataset.arrays.nodata={nodata}',
                       f'train_dataloader.dataset.data_root={folders / str(nodata)}')
        assert cfg.model.data_preprocessor.nodata
        assert cfg.val_dataloader.dataset.arrays == dict(nodata=nodata)
        torch.manual_seed(0)
        model = MODELS.build(cfg.model)
        settings = dict(cfg.train_dataloader.dataset, pipeline=[
            dict(type=crop, size=32), dict(type='mae_plugin.KeyedRandomFlip'), dict(type='mae_plugin.PackUnlabelled')])
        settings.pop('type')
        images = UnlabelledImages(**settings)
        samples = images.__getitems__(range(6))
        data = model.data_preprocessor(dict(inputs=[sample['inputs'] for sample in samples],
                                            data_samples=[sample['data_samples'] for sample in samples]), True)
        loss = model(**data, mode='loss')['loss']
        loss.backward()
        tokens = model(**data, mode='tensor')
        moments = list(channel_stats(images))[-1][0]
        results.append([data['inputs'], loss, tokens, model.backbone.patch_embed.proj.weight.grad,
                        *map(torch.from_numpy, moments)])
    assert results[0][0].isnan().any() and results[0][1].isfinite() and results[0][2].isfinite().all()
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize('options, message', [
    (['model.backbone.in_chans=4'], r'model.data_preprocessor.mean=\[123.675, 116.28, 103.53\] disagrees with '
     'model.backbone.in_chans=4: 3 instead of 4 channels'),
    (['+train_dataloader.dataset.channels=1'], 'train_dataloader.dataset.channels=1 disagrees with '
     'model.backbone.in_chans=3: 1 instead of 3'),
    (['model.data_preprocessor.std=[1,2]'], r'data_preprocessor.std=\[1, 2\] disagrees')])
def test_channels_that_disagree_stop_the_run_before_it_starts(run_tool, tmp_path, options, message):  # noqa: F811
    cfg = prepared(IMAGES, *options)
    with pytest.raises(ValueError, match=message), run_config.build_runner(cfg, strict=False):
        pass


def test_channels_of_labelled_images_are_compared():
    cfg = prepared(CLASSIFY, 'val_dataloader.dataset.pipeline.0.channels=12')
    with pytest.raises(ValueError, match=r'val_dataloader.dataset.pipeline.0.channels=12 disagrees .*in_chans=13'), \
            run_config.build_runner(cfg, strict=False):
        pass


@pytest.mark.parametrize('options', [
    ['+model.data_preprocessor.nodata=False'], ['val_dataloader.dataset.arrays=None'],
    ['train_dataloader.dataset.arrays=None', '+model.data_preprocessor.nodata=True']])
def test_one_says_no_data_and_the_other_does_not(options):
    with pytest.raises(ValueError, match='^model.data_preprocessor.nodata=.* disagrees with (train|val)_dataloader'):
        prepared(CONFIG, *options)


def test_without_pixels_without_data_nothing_is_set():
    assert 'nodata' not in prepared(IMAGES).model.data_preprocessor


@pytest.mark.parametrize('channels', [1, 4, 13])
def test_other_channels_start_from_weights_of_colour_images(run_tool, tmp_path, monkeypatch, channels):  # noqa: F811
    from tiny.generated import make_images
    monkeypatch.chdir(tmp_path)
    make_images(tmp_path / 'data/images')
    for number in range(4):
        values = np.random.default_rng(number).integers(0, 4000, (40, 50, channels)).astype(np.uint16)
        (tmp_path / 'tiles').mkdir(exist_ok=True)
        np.save(tmp_path / 'tiles' / f'{number}.npy', values)
    one = ['train_cfg.max_iters=1', 'val_dataloader=None', 'val_evaluator=None', 'val_cfg=None']
    code, out, err = run_tool('train', TINY_MAE, '--work-dir', 'rgb', '--cfg-options', *one)
    assert code == 0, out + err
    options = [f'model.backbone.in_chans={channels}', f'model.data_preprocessor.mean={[2000] * channels}',
               f'model.data_preprocessor.std={[1200] * channels}', 'train_dataloader.dataset.data_root=tiles',
               'train_dataloader.dataset.mode=array', f'+train_dataloader.dataset.channels={channels}',
               '+model.backbone.init_cfg.type=mae_plugin.MAEPretrained', '+model.backbone.init_cfg.resize=True',
               '+model.backbone.init_cfg.checkpoint=rgb/iter_1.pth', 'optim_wrapper.optimizer.lr=0']
    options = [option.replace(' ', '') for option in options]
    code, out, err = run_tool('train', TINY_MAE, '--work-dir', 'new', '--cfg-options', *one, *options)
    assert code == 0 and f'Resized: patch filters 3x8x8 to {channels}x8x8' in out + err, out + err
    rgb, new = (load_file(f'{run}/iter_1.pth')['state_dict']['backbone.patch_embed.proj.weight']
                for run in ('rgb', 'new'))
    torch.testing.assert_close(new.sum(1), rgb.sum(1))
    for i in range(channels if channels > 3 else 0):
        torch.testing.assert_close(new[:, i], rgb[:, i % 3] / len(range(i % 3, channels, 3)))


@pytest.fixture
def warnings():
    """What is logged."""
    lines, handler = [], logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    logger = MMLogger.get_instance('test_channels')
    logger.addHandler(handler)
    yield lines
    logger.removeHandler(handler)


@pytest.mark.parametrize('scale, far', [(1, False), (.02, False), (257, True), (1 / 255, True), (0, False)])
def test_a_first_batch_far_from_the_statistics_is_warned_of_once(warnings, scale, far):
    preprocessor = MAEDataPreprocessor(mean=[128, 128], std=[70, 70], nodata=True)
    imgs = scale * torch.rand(2, 2, 30, 30) * 255
    imgs[0, :, :5] = torch.nan
    preprocessor(dict(inputs=imgs))
    assert not warnings  # not training
    for _ in range(2):
        preprocessor(dict(inputs=imgs), True)
    assert len(warnings) == far
    if far:
        assert 'channel 0' in warnings[0] and 'tools/channel_stats.py' in warnings[0]
