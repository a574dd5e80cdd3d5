"""What a user can get wrong: one message that names the thing and the way on, exit code 1, no traceback."""

import numpy as np
import pytest
import torch
from PIL import Image
from tiny.tools import ROOT

pytest_plugins = ['tiny.tools']

PRETRAIN = """
_base_ = [{base!r}]
_crop = [dict(type='mae_plugin.ResizeCenterCrop', size=32), dict(type='mae_plugin.PackUnlabelled')]
model = dict(
    backbone=dict(img_size=32, patch_size=8, embed_dim=48, depth=2, num_heads=3),
    neck=dict(decoder_embed_dim=32, decoder_depth=1, decoder_num_heads=4))
train_dataloader = dict(
    batch_size=4, num_workers=0, pin_memory=False, dataset=dict(data_root='images', holdout=0.3, pipeline=_crop))
val_dataloader = dict(batch_size=4, num_workers=0, dataset=dict(data_root='images', holdout=0.3, pipeline=_crop))
test_dataloader = val_dataloader
param_scheduler = []
train_cfg = dict(max_iters=2, val_interval=2)
default_hooks = dict(logger=dict(interval=1))
"""
TASK = """
_base_ = [{base!r}]
custom_imports = dict(imports=['tiny_encoder'])
model = dict(
    _delete_=True,
    type='TinyEncoder',
    backbone=dict(
        type='mae_plugin.PlainViT', img_size=32, patch_size=8, embed_dim=48, depth=2, num_heads=3,
        out_type='avg_featmap', init_cfg=dict(type='mae_plugin.MAEPretrained', checkpoint='run/iter_2.pth')))
"""


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Images, configs, and what is no image."""
    folder = tmp_path_factory.mktemp('bad_input')
    for name in ('images', 'empty', 'texts'):
        (folder / name).mkdir()
    draw = np.random.default_rng(0)
    for i in range(12):
        Image.fromarray(draw.integers(0, 256, (40, 48, 3), dtype=np.uint8)).save(folder / 'images' / f'{i}.png')
        (folder / 'texts' / f'{i}.jpg').write_text('no image')
    (folder / 'pretrain.py').write_text(
        PRETRAIN.format(base=str(ROOT / 'configs' / 'pretrain' / 'mae_vit-small-p16_images.py')))
    (folder / 'task.py').write_text(TASK.format(base=str(folder / 'pretrain.py')))
    return folder


@pytest.fixture
def run(run_tool, folder, monkeypatch):
    monkeypatch.chdir(folder)
    return run_tool


@pytest.fixture
def pretrained(run, folder):
    """``run/iter_2.pth``, made when it is first needed."""
    if not (folder / 'run' / 'iter_2.pth').is_file():
        code, _, err = run('train', 'pretrain.py', '--work-dir', 'run')
        assert code == 0, err
    return folder / 'run' / 'iter_2.pth'


def refused(result, *texts):
    code, out, err = result
    assert code == 1 and 'Traceback' not in out + err, out + err
    message = err[err.index('error: '):]
    assert message.count('\n') == 1, message
    for text in texts:
        assert text in message, f'{text!r} is not in: {message}'


@pytest.mark.parametrize('options, texts', [
    (['train_dataloader.dataset.data_root=nowhere'], ['nowhere', 'data_root']),
    (['train_dataloader.dataset.data_root=empty'], ['empty', 'no image']),
    (['train_dataloader.dataset.data_root=texts'], ['texts', '.jpg']),
    (['model.backbone.patch_size=7'], ['32', '7']),
    (['model.masking.mask_ratio=1.0'], ['mask_ratio', '1.0']),
    (['model.masking.mask_ratio=-0.5'], ['mask_ratio', '-0.5']),
    (['+model.neck.patch_size=16'], ['patch_size', '16', '8']),
    (['+model.head.target.patch_size=16'], ['patch_size', '16', '8']),
    (['+model.neck.embed_dim=64'], ['embed_dim', '64', '48']),
    (['model.backbone.num_heads=5'], ['48', '5']),
    (['model.neck.decoder_num_heads=5'], ['32', '5']),
    (['model.backbone.type=PlainViT'], ["'PlainViT'", 'mae_plugin.PlainViT']),
    (['model.type=MaskedAutoencoder'], ["'MaskedAutoencoder'", 'mae_plugin.MaskedAutoencoder']),
    (['model.backbone.type=mae_plugin.PlainVit'], ['mae_plugin.PlainViT']),
    (['model.backbone.depht=3'], ['depht', 'model.backbone.depth']),
    (['+model.backbone.depht=3'], ['depht']),
    (['optim_wrapper.optimizer.type=AdanW'], ['AdanW', 'AdamW']),
])
def test_settings(run, folder, options, texts):
    refused(run('train', 'pretrain.py', '--work-dir', folder / 'never', '--cfg-options', *options), *texts)
    assert not list((folder / 'never').glob('*.pth'))


def test_a_head_of_another_width(run, folder):
    refused(run('train', ROOT / 'configs/classification/vit-mini_digits.py', '--work-dir', folder / 'never',
                '--cfg-options', 'model.head.in_channels=192', 'prepare_data=None'),
            'model.head.in_channels=192', 'model.backbone.embed_dim=128')


@pytest.mark.parametrize('size', [36, 40])
def test_images_of_another_size(run, folder, size):
    """Also where the patch divides it: the positions in the checkpoint would belong to another grid."""
    pipeline = f"[{{'type': 'mae_plugin.ResizeCenterCrop', 'size': {size}}}, {{'type': 'mae_plugin.PackUnlabelled'}}]"
    refused(run('train', 'pretrain.py', '--work-dir', folder / 'never', '--cfg-options',
                f'train_dataloader.dataset.pipeline={pipeline}'), f'{size}x{size}', '32x32', 'crops')


def test_a_second_run(run, folder, pretrained):
    refused(run('train', 'pretrain.py', '--work-dir', 'run'), 'run', 'iter_2.pth', '--resume', '--work-dir')


@pytest.mark.parametrize('content, texts', [
    (None, ['other.pth', 'does not exist']),
    ('text', ['other.pth', 'is not a checkpoint']),
    ({}, ['other.pth']),
    (dict(state_dict={'fc.weight': torch.zeros(2, 2)}), ['other.pth', 'another model']),
])
@pytest.mark.parametrize('arguments', [
    ['test', 'pretrain.py', 'other.pth'], ['train', 'pretrain.py', '--resume', 'other.pth'],
    ['train', 'task.py', '--cfg-options', 'model.backbone.init_cfg.checkpoint=other.pth'],
], ids=['test', 'resume', 'init_cfg'])
def test_other_checkpoints(run, folder, content, texts, arguments):
    other = folder / 'other.pth'
    other.unlink(missing_ok=True)
    if content == 'text':
        other.write_text('hello')
    elif content is not None:
        torch.save(content, other)
    if content is None and '--resume' in arguments:
        texts = ['other.pth', 'no such file']
    elif '--resume' in arguments and content != 'text':
        texts = ['other.pth', 'optimizer']
    tool, config, *arguments = arguments
    refused(run(tool, config, '--work-dir', folder / 'never', *arguments), *texts)


@pytest.mark.parametrize('change, text', [
    ('model.backbone.embed_dim=96', 'embed_dim'), ('model.backbone.depth=3', 'depth'),
    ('model.backbone.depth=1', 'depth'), ('model.backbone.patch_size=16', 'patch'),
    ('model.backbone.img_size=64', 'img_size'),
])
@pytest.mark.parametrize('tool', ['test', 'train'])
def test_checkpoints_of_another_size(run, folder, pretrained, tool, change, text):
    if tool == 'train':
        result = run('train', 'task.py', '--work-dir', folder / 'never', '--cfg-options', change)
        refused(result, 'iter_2.pth', text)
    elif change != 'model.backbone.depth=1':  # what a file holds beyond the model is only warned of
        crop = int(change.rpartition('=')[2]) if 'img_size' in change else 32
        result = run('test', 'pretrain.py', pretrained, '--work-dir', folder / 'never', '--cfg-options', change,
                     f'test_dataloader.dataset.pipeline.0.size={crop}')
        refused(result, 'iter_2.pth', 'another model')


def test_the_pretraining_file_is_needed_once(run, folder, pretrained):
    """A run that started from it is resumed without it."""
    once = folder / 'once.pth'
    once.write_bytes(pretrained.read_bytes())
    options = ['--no-validate', '--cfg-options', f'model.backbone.init_cfg.checkpoint={once}']
    code, out, err = run('train', 'task.py', '--work-dir', 'once', *options)
    assert code == 0 and 'PlainViT: loaded' in out + err, err
    once.unlink()
    refused(run('train', 'task.py', '--work-dir', 'again', *options), 'once.pth', 'does not exist')
    code, _, err = run('train', 'task.py', '--work-dir', 'once', '--resume', *options, 'train_cfg.max_iters=3')
    assert code == 0 and (folder / 'once' / 'iter_3.pth').is_file(), err
