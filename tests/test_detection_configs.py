"""Detection recipes number by number: learning rates and decay of each parameter, and what must equal detectron2's."""

import re

import pytest
import torch
from mmengine import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from tiny.tools import ROOT

from mae_plugin.models import TapPyramid

CONFIGS = ROOT / 'configs' / 'detection'


def load(name):
    return Config.fromfile(CONFIGS / f'{name}.py')


def thin(name):
    """The config and its model, narrow, with all its blocks."""
    pytest.importorskip('mmdet')
    cfg = load(name)
    cfg.model.backbone.update(embed_dim=16, num_heads=2, init_cfg=None)
    if isinstance(cfg.model.neck, list):
        cfg.model.backbone.update(embed_dim=32)
        cfg.model.neck[0].in_channels, cfg.model.neck[1].in_channels = 32, [32] * 4
    else:
        cfg.model.neck.in_channels = 16
    cfg.model.roi_head.bbox_head.fc_out_channels = 8
    with DefaultScope.overwrite_default_scope('mmdet'):
        from mmdet.registry import MODELS
        return cfg, MODELS.build(cfg.model)


def settings_of(cfg, model):
    """Learning rate and weight decay of each parameter by name."""
    cfg.optim_wrapper.dtype = 'float32'
    with DefaultScope.overwrite_default_scope('mmdet'):
        groups = build_optim_wrapper(model, cfg.optim_wrapper).optimizer.param_groups
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {names[id(parameter)]: (group['lr'], group['weight_decay'])
            for group in groups for parameter in group['params']}


SIZES = dict(base=(12, .7), large=(24, .8), huge=(32, .9))


@pytest.mark.parametrize('data, lr', [('coco', dict(base=1e-4, large=1e-4, huge=1e-4)),
                                      ('lvis', dict(base=2e-4, large=2e-4, huge=1e-4))])
@pytest.mark.parametrize('head', ['mask-rcnn', 'cascade'])
@pytest.mark.parametrize('size', SIZES)
def test_learning_rates_and_decay_by_hand(head, size, data, lr):
    """detectron2: positions and patches are layer 0, block i is i + 1, all else last; B and L spare norms, H none."""
    if (head, data) == ('cascade', 'lvis') and size != 'base':
        pytest.skip('the same optimizer as of its Mask R-CNN')
    depth, rate = SIZES[size]
    found = settings_of(*thin(f'vitdet_{head}_vit-{size}_{data}'))
    for name, (found_lr, found_decay) in found.items():
        block = re.match(r'backbone\.blocks\.(\d+)\.', name)
        layer = int(block[1]) + 1 if block else 0 if name.startswith('backbone.') else depth + 1
        spared = size != 'huge' and (name == 'backbone.pos_embed' or re.search(r'blocks\.\d+\.norm[12]\.', name))
        assert found_lr == pytest.approx(lr[size] * rate**(depth + 1 - layer), rel=1e-9), name
        assert found_decay == (0 if spared else .1), name
    first, last = lr[size] * dict(base=.00968890, large=.00377789, huge=.03090315)[size], lr[size]
    spared = 0. if size != 'huge' else .1
    box_head = 'roi_head.bbox_head.2' if head == 'cascade' else 'roi_head.bbox_head'
    for name, expected_lr, expected_decay in [
            ('backbone.pos_embed', first, spared), ('backbone.patch_embed.proj.weight', first, .1),
            ('backbone.patch_embed.proj.bias', first, .1), ('backbone.blocks.0.norm1.weight', first / rate, spared),
            ('backbone.blocks.1.attn.qkv.bias', first / rate**2, .1),
            ('backbone.blocks.1.attn.rel_pos.rel_pos_h', first / rate**2, .1),
            (f'backbone.blocks.{depth - 1}.norm2.bias', last * rate, spared),
            (f'backbone.blocks.{depth - 1}.mlp.fc2.weight', last * rate, .1),
            ('neck.levels.0.1.weight', last, .1),  # a LayerNorm2d, which detectron2 decays
            ('rpn_head.rpn_cls.bias', last, .1), (f'{box_head}.fc_cls.weight', last, .1),
            (f'{box_head}.shared_convs.0.ln.weight', last, .1), ('roi_head.mask_head.conv_logits.bias', last, .1)]:
        assert found[name] == pytest.approx((expected_lr, expected_decay), rel=1e-5), name


def test_convolutions_between_windows_learn_as_new_layers_do():
    found = settings_of(*thin('vitdet_mask-rcnn_vit-base_coco-conv'))
    assert found['backbone.blocks.2.residual.conv1.weight'] == (1e-4, .1)
    assert found['backbone.blocks.2.residual.norm1.weight'] == (1e-4, .1)
    assert 'backbone.blocks.3.residual.conv1.weight' not in found
    assert not any('rel_pos' in name for name in found)


def test_the_protocol_of_mae_has_one_learning_rate():
    cfg, model = thin('mask-rcnn-fpn_vit-base_coco')
    found = settings_of(cfg, model)
    assert {lr for lr, _ in found.values()} == {1.6e-4}
    spared = {name for name, (_, decay) in found.items() if not decay}
    assert spared >= {'backbone.pos_embed', 'backbone.blocks.3.norm1.weight', 'backbone.blocks.2.attn.rel_pos.table',
                      'neck.0.levels.0.1.weight', 'neck.1.fpn_convs.0.bn.bias',
                      'roi_head.bbox_head.shared_convs.0.bn.weight'}
    assert found['backbone.blocks.3.attn.qkv.bias'] == found['neck.1.fpn_convs.0.conv.weight'] == (1.6e-4, .2)
    tables = [tuple(block.attn.rel_pos.grid) for block in model.backbone.blocks]
    assert tables == [(16, 16), (16, 16), (64, 64)] * 4
    assert model.roi_head.bbox_head.shared_convs[0].bn.eps == 1e-5
    levels = model.neck(tuple(torch.randn(1, 32, 4, 4) for _ in range(4)))
    assert [tuple(level.shape) for level in levels] == [(1, 256, size, size) for size in (16, 8, 4, 2, 1)]


def test_taps_are_resized_each_on_its_own():
    neck = TapPyramid(32)
    maps = [torch.randn(2, 32, 3, 5) for _ in range(4)]
    levels = neck(tuple(maps))
    assert [tuple(level.shape[2:]) for level in levels] == [(12, 20), (6, 10), (3, 5), (1, 2)]
    assert torch.equal(levels[2], maps[2]) and torch.equal(levels[3], torch.nn.functional.max_pool2d(maps[3], 2))
    maps[0] = maps[0] + 1
    assert [torch.equal(a, b) for a, b in zip(levels, neck(tuple(maps)), strict=True)] == [False, True, True, True]


@pytest.mark.parametrize('size, depth, blocks, drop_path', [
    ('base', 12, (2, 5, 8, 11), (.1, .1)), ('large', 24, (5, 11, 17, 23), (.4, .4)),
    ('huge', 32, (7, 15, 23, 31), (.5, .4))])
def test_global_blocks_and_drop_path(size, depth, blocks, drop_path):
    for data, rate in zip(('coco', 'lvis'), drop_path, strict=True):
        for head in ('mask-rcnn', 'cascade'):
            backbone = load(f'vitdet_{head}_vit-{size}_{data}').model.backbone
            assert backbone.depth == depth and backbone.drop_path_rate == rate
            assert set(range(depth)) - set(backbone.window_block_indexes) == set(blocks)
            assert backbone.patch_size == 16 and backbone.window_size == 14 and backbone.rel_pos['size'] == 64


@pytest.mark.parametrize('name, iterations, milestones', [
    ('base_coco', 184_375, [163_889, 177_546]), ('large_coco', 184_375, [163_889, 177_546]),
    ('huge_coco', 138_281, [122_916, 133_159]), ('base_lvis', 156_250, [138_889, 150_463]),
    ('large_lvis', 156_250, [138_889, 150_463]), ('huge_lvis', 156_250, [138_889, 150_463])])
def test_schedules(name, iterations, milestones):
    for head in ('mask-rcnn', 'cascade'):
        cfg = load(f'vitdet_{head}_vit-{name}')
        warmup, steps = cfg.param_scheduler
        assert cfg.train_cfg.max_iters == iterations and steps.milestones == milestones and steps.gamma == .1
        assert (warmup.start_factor, warmup.end) == (.001, 250)
        size, data = name.split('_')
        assert cfg.recipe == dict(name=f'vitdet/{head}/{size}/{data}', batch_size=64)
        assert 'clip_grad' not in cfg.optim_wrapper and cfg.optim_wrapper.dtype == 'float16'


def test_initial_weights_of_the_heads():
    """As detectron2's: RPN 0.01, box regression 0.001, its fully connected layer uniform within sqrt(3 / inputs)."""
    cfg, model = thin('vitdet_cascade_vit-base_coco')
    model.init_weights()
    for module in (*[layer.conv for layer in model.rpn_head.rpn_conv], model.rpn_head.rpn_cls, model.rpn_head.rpn_reg):
        assert module.weight.std().item() == pytest.approx(.01, rel=.1) and not module.bias.any()
    for head in model.roi_head.bbox_head:
        assert head.fc_cls.weight.std().item() == pytest.approx(.01, rel=.2)
        assert head.fc_reg.weight.std().item() == pytest.approx(.001, rel=.4)
        assert head.shared_fcs[0].weight.abs().max().item() == pytest.approx((3 / (256 * 49))**.5, rel=.01)
        conv = head.shared_convs[0]
        assert conv.conv.weight.std().item() == pytest.approx((2 / (256 * 9))**.5, rel=.02) and conv.conv.bias is None
        assert conv.ln.eps == 1e-6
    assert model.roi_head.mask_head.conv_logits.weight.std().item() == pytest.approx(.001, rel=.05)
    assert len({head.fc_cls.weight.sum().item() for head in model.roi_head.bbox_head}) == 3
