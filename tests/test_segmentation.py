"""The configs of segmentation: they train and test on data of ADE20K's shape, with the optimizer that was published."""

import json

import numpy as np
import pytest
import torch
from mmengine import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, PARAM_SCHEDULERS
from PIL import Image
from tiny.generated import make_ade
from tiny.tools import ROOT

from mae_plugin.weights.safe_load import load_file

mmseg = pytest.importorskip('mmseg')
pytest_plugins = ['tiny.tools']

CONFIGS = ROOT / 'configs/segmentation'
ADE = sorted(path.stem for path in CONFIGS.glob('*_ade20k-*.py'))
BASE, LARGE = (f'upernet_vit-{size}_ade20k-512x512' for size in ('base', 'large'))


def reduced(name):
    """A config of full depth and an eighth of the image size, 48 wide, that runs two iterations on a CPU."""
    cfg = Config.fromfile(CONFIGS / f'{name}.py')
    model = cfg.model
    model.data_preprocessor.update(size=(64, 64), test_cfg=dict(size=(64, 64)))
    model.backbone.update(img_size=64, embed_dim=48, num_heads=3, init_cfg=None)
    model.test_cfg.update(crop_size=(64, 64), stride=(43, 43))
    linear = model.decode_head.type == 'FCNHead'
    if linear:
        model.neck.in_channels = model.decode_head.in_channels = model.decode_head.channels = 48
    else:
        for part in (model.neck, model.decode_head, model.auxiliary_head):
            part.norm_cfg = dict(type='BN')
        model.neck.embed_dim = model.auxiliary_head.in_channels = 48
        model.decode_head.update(in_channels=[48] * 4, channels=16)
        model.auxiliary_head.channels = 16
    for split in ('train', 'val', 'test'):
        loader = cfg[f'{split}_dataloader']
        loader.update(batch_size=2 if split == 'train' else 1, num_workers=0, persistent_workers=False,
                      pin_memory=False)
        for transform in loader.dataset.pipeline:
            if 'scale' in transform:
                transform.scale = tuple(side // 8 for side in transform.scale)
            if 'crop_size' in transform:
                transform.crop_size = (64, 64)
    for transform in cfg.tta_pipeline[1].transforms[0]:
        transform.scale = tuple(side // 8 for side in transform.scale)
    cfg.optim_wrapper.dtype = 'float32'
    cfg.train_cfg.update(max_iters=2, val_interval=2)
    cfg.recipe = None  # two images a batch are not what it says
    cfg.default_hooks.logger.interval = 1
    return cfg


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """ADE20K, and the same pictures as a set of one's own, below ``data``."""
    top = tmp_path_factory.mktemp('segmentation')
    root = make_ade(top)
    for split, own in (('training', 'train'), ('validation', 'val')):
        for kind in ('images', 'annotations'):
            (top / 'data/my_images' / kind).mkdir(parents=True, exist_ok=True)
        (top / 'data/my_images/images' / own).symlink_to(root / 'images' / split)
        (top / 'data/my_images/annotations' / own).mkdir()
        for file in (root / 'annotations' / split).iterdir():
            labels = np.asarray(Image.open(file)) == 150
            Image.fromarray(labels.astype(np.uint8)).save(top / 'data/my_images/annotations' / own / file.name)
    return top


@pytest.fixture
def run(run_tool, folder, monkeypatch):
    """``run(tool, config, *arguments)`` beside the data; returns what was printed."""
    monkeypatch.chdir(folder)

    def checked(*arguments):
        code, out, err = run_tool(*arguments)
        assert code == 0, out + err
        return out + err

    return checked


@pytest.mark.parametrize('name', [*ADE, 'upernet_vit-base_custom'])
def test_trains_and_tests(run, tmp_path, name):
    reduced(name).dump(tmp_path / 'small.py')
    run('train', tmp_path / 'small.py', '--work-dir', tmp_path / 'run')
    run('test', tmp_path / 'small.py', tmp_path / 'run/iter_2.pth', '--work-dir', tmp_path / 'test',
        '--out', tmp_path / 'metrics.json')
    metrics = json.loads((tmp_path / 'metrics.json').read_text())
    assert 0 <= metrics['mIoU'] <= 100
    logged = [json.loads(line) for file in (tmp_path / 'run').glob('*/vis_data/scalars.json')
              for line in file.read_text().splitlines()]
    assert len([line for line in logged if 'loss' in line]) == 2
    assert metrics['mIoU'] == next(line['mIoU'] for line in logged if 'mIoU' in line)
    trained = load_file(tmp_path / 'run/iter_2.pth')['state_dict']
    assert all(torch.isfinite(value).all() for value in trained.values())


class Colours(torch.nn.Module):
    """An "encoder" whose map is the image: what is predicted depends on neither scale nor window."""

    def forward(self, imgs):
        return (imgs, )


def test_multi_scale_is_really_multi_scale(run, tmp_path, monkeypatch):
    """Six scales, each also mirrored, and mirrored back before they are averaged."""
    monkeypatch.setitem(MODELS.module_dict, 'Colours', Colours)
    cfg = reduced(BASE)
    cfg.model = dict(
        type='EncoderDecoder',
        data_preprocessor=cfg.model.data_preprocessor,
        backbone=dict(type='mmengine.Colours'),
        decode_head=dict(type='FCNHead', in_channels=3, channels=3, num_convs=0, concat_input=False, dropout_ratio=0.,
                         num_classes=150),
        test_cfg=cfg.model.test_cfg)
    cfg.dump(tmp_path / 'colours.py')
    weight, bias = torch.zeros(150, 3, 1, 1), torch.full((150, ), -100.)
    weight[0, 0] = weight[149, 2] = 1.  # red is the first class, blue the last
    bias[[0, 149]] = 0.
    torch.save(dict(state_dict={'decode_head.conv_seg.weight': weight, 'decode_head.conv_seg.bias': bias}),
               tmp_path / 'colours.pth')
    shapes, halves = [], []
    slide = mmseg.models.EncoderDecoder.slide_inference

    def spy(self, inputs, metas):
        shapes.append(tuple(metas[0]['img_shape'][:2]))
        halves.append(bool(inputs[0, 0, :8, :8].mean() > inputs[0, 2, :8, :8].mean()))
        assert inputs.shape[2] >= 64 and inputs.shape[3] >= 64  # no window is smaller than in training
        return slide(self, inputs, metas)

    monkeypatch.setattr(mmseg.models.EncoderDecoder, 'slide_inference', spy)
    found = []
    for options in ([], ['--tta']):
        shapes.clear()
        halves.clear()
        run('test', tmp_path / 'colours.py', tmp_path / 'colours.pth', *options, '--work-dir', tmp_path / 'test',
            '--out', tmp_path / 'metrics.json')
        found.append((json.loads((tmp_path / 'metrics.json').read_text())['mIoU'], [*shapes], [*halves]))
    (plain, plain_shapes, _), (augmented, tta_shapes, sides) = found
    assert plain == augmented == 100.
    assert plain_shapes == [(64, 96)] * 4
    sizes = [(int(64 * ratio), int(96 * ratio)) for ratio in (.5, .75, 1, 1.25, 1.5, 1.75) for _ in range(2)]
    assert tta_shapes == sizes * 4
    assert sides == [True, False] * 24


def test_linear_probe_trains_its_layer_only():
    mmseg.utils.register_all_modules(init_default_scope=True)
    model = MODELS.build(reduced('linear_vit-base_ade20k-512x512').model)
    assert [name for name, parameter in model.named_parameters() if parameter.requires_grad] == [
        'decode_head.conv_seg.weight', 'decode_head.conv_seg.bias']


def test_positions_are_resized_when_they_are_loaded(tmp_path):
    """As the reproduction does: 14x14 of pretraining become 32x32, and are trained so."""
    from mae_plugin.models import PlainViT
    from mae_plugin.models.pos_embed import resample_pos_embed
    settings = dict(embed_dim=48, depth=12, num_heads=3)
    start = PlainViT(224, **settings)
    torch.nn.init.normal_(start.pos_embed)
    torch.save(dict(model=start.state_dict()), tmp_path / 'pretrained.pth')
    cfg = Config.fromfile(CONFIGS / f'{BASE}.py').model.backbone
    cfg.update(**settings)
    cfg.init_cfg.checkpoint = str(tmp_path / 'pretrained.pth')
    model = MODELS.build(cfg)
    model.init_weights()
    assert model.pos_embed.shape == (1, 1 + 32 * 32, 48)
    torch.testing.assert_close(model.pos_embed, resample_pos_embed(start.pos_embed, (14, 14), (32, 32)))
    assert torch.equal(model.blocks[0].attn.qkv.weight, start.blocks[0].attn.qkv.weight)
    assert not model.blocks[0].attn.rel_pos.table.any() and (model.blocks[0].ls1.gamma == 1).all()
    assert model.blocks[0].attn.rel_pos.table.shape == (63 * 63 + 3, 3)


def published_rate(name, lr, rate, depth):
    """The learning rate of a parameter by BEiT's rule, as the reproduction runs it."""
    layer = depth + 1
    if name in ('backbone.cls_token', 'backbone.pos_embed') or name.startswith('backbone.patch_embed'):
        layer = 0
    elif name.startswith('backbone.blocks.'):
        layer = int(name.split('.')[2]) + 1
    return lr * rate ** (depth + 1 - layer)


@pytest.mark.parametrize('name, lr, rate, depth, numbers', [
    (BASE, 1e-4, .65, 12, {'backbone.pos_embed': 3.6972e-7, 'backbone.patch_embed.proj.weight': 3.6972e-7,
                           'backbone.blocks.0.attn.qkv.weight': 5.6880e-7, 'backbone.blocks.11.mlp.fc2.bias': 6.5e-5,
                           'neck.upsample_4x.0.weight': 1e-4, 'decode_head.conv_seg.weight': 1e-4}),
    (LARGE, 2e-5, .95, 24, {'backbone.cls_token': 5.5478e-6, 'backbone.blocks.0.ls1.gamma': 5.8398e-6,
                            'backbone.blocks.23.attn.rel_pos.table': 1.9e-5, 'auxiliary_head.conv_seg.bias': 2e-5}),
])
def test_learning_rates_and_decay_of_every_parameter(name, lr, rate, depth, numbers):
    cfg = reduced(name)
    mmseg.utils.register_all_modules(init_default_scope=True)
    model = MODELS.build(cfg.model)
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper).optimizer
    names = {parameter: name for name, parameter in model.named_parameters()}
    settings = {names[parameter]: (group['lr'], group['weight_decay'])
                for group in optimizer.param_groups for parameter in group['params']}
    assert settings.keys() == set(names.values())
    assert len(optimizer.param_groups) == 2 * (depth + 2)
    for parameter, found in names.items():
        assert settings[found][0] == pytest.approx(published_rate(found, lr, rate, depth), rel=1e-12)
        assert settings[found][1] == (.05 if parameter.ndim > 1 else 0.), found
    for found, number in numbers.items():
        assert settings[found][0] == pytest.approx(number, rel=1e-4), found
    for found in ('pos_embed', 'cls_token', 'blocks.0.attn.rel_pos.table'):  # also decayed in the run of 48.15
        assert settings[f'backbone.{found}'][1] == .05
    assert settings['backbone.blocks.0.ls1.gamma'][1] == 0.


def test_learning_rate_is_the_reproductions():
    """mmcv 0.x: a line to 0 at iteration 160,000, times the warm-up's factor, 1e-6 to 1 in 1,500 iterations."""
    cfg = Config.fromfile(CONFIGS / f'{BASE}.py')
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1e-4)
    schedulers = [PARAM_SCHEDULERS.build(dict(dict(end=cfg.train_cfg.max_iters) | part, optimizer=optimizer))
                  for part in cfg.param_scheduler]
    optimizer.step()
    found = []
    for _ in range(160_000):
        found.append(optimizer.param_groups[0]['lr'])
        for scheduler in schedulers:
            scheduler.step()
    for iteration in (0, 1, 750, 1499, 1500, 1501, 80_000, 159_000, 159_999):
        warm_up = min(1., 1e-6 + (1 - 1e-6) * iteration / 1500)
        expected = 1e-4 * (1 - iteration / 160_000) * warm_up
        assert found[iteration] == pytest.approx(expected, rel=1e-3, abs=1e-9), iteration
