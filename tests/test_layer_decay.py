import pytest
import torch
from mmengine.optim import build_optim_wrapper

from mae_plugin.models import PlainViT, SimpleFeaturePyramid


class Task(torch.nn.Module):
    def __init__(self, **backbone):
        super().__init__()
        self.backbone = PlainViT(64, embed_dim=48, depth=3, num_heads=3, **backbone)
        self.head = torch.nn.Linear(48, 5)


def groups_of(model, constructor, **paramwise):
    wrapper = build_optim_wrapper(model, dict(
        type='OptimWrapper', optimizer=dict(type='AdamW', lr=1., weight_decay=.05),
        constructor=f'mae_plugin.{constructor}', paramwise_cfg=paramwise))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return wrapper.optimizer.param_groups, {
        names[id(parameter)]: (group['lr'], group['weight_decay'])
        for group in wrapper.optimizer.param_groups for parameter in group['params']}


def test_layer_decay_by_hand():
    model = Task()
    groups, settings = groups_of(model, 'LayerDecayOptimWrapperConstructor', layer_decay_rate=.5)
    assert set(settings) == {name for name, _ in model.named_parameters()}
    expected = {
        'backbone.cls_token': (.0625, 0.), 'backbone.pos_embed': (.0625, 0.),
        'backbone.patch_embed.proj.weight': (.0625, .05), 'backbone.patch_embed.proj.bias': (.0625, 0.),
        'backbone.blocks.0.attn.qkv.weight': (.125, .05), 'backbone.blocks.0.norm1.weight': (.125, 0.),
        'backbone.blocks.2.mlp.fc2.weight': (.5, .05), 'backbone.blocks.2.mlp.fc2.bias': (.5, 0.),
        'backbone.norm.weight': (1., 0.), 'head.weight': (1., .05), 'head.bias': (1., 0.)}
    assert {name: settings[name] for name in expected} == expected
    assert len(groups) == 10  # five depths, decayed or not


def test_pretraining_decays_the_tokens_and_has_two_groups(tiny_mae):
    groups, settings = groups_of(tiny_mae, 'GroupedOptimWrapperConstructor')
    assert len(groups) == 2
    assert settings['backbone.cls_token'] == settings['neck.mask_token'] == (1., .05)
    assert settings['backbone.blocks.0.attn.qkv.bias'] == settings['backbone.norm.weight'] == (1., 0.)
    assert 'backbone.pos_embed' not in settings and 'neck.decoder_pos_embed' not in settings


NAMES = ('cls_token', 'pos_embed', 'blocks.0.norm1.weight', 'blocks.0.attn.qkv.bias', 'blocks.0.attn.qkv.weight',
         'blocks.0.attn.rel_pos.table')


@pytest.mark.parametrize('no_decay, undecayed', [
    ((), set()), (('norm', ), {2}), (('1d', ), {2, 3}), (('pos_embed', 'norm'), {1, 2}),
    (('cls_token', 'rel_pos'), {0, 5})])
def test_kinds_without_weight_decay(no_decay, undecayed):
    model = Task(rel_pos=dict(type='mae_plugin.RelPosBias'))
    _, settings = groups_of(model, 'LayerDecayOptimWrapperConstructor', no_decay=no_decay)
    assert {i for i, name in enumerate(NAMES) if not settings[f'backbone.{name}'][1]} == undecayed


def test_maps_norms_are_decayed_as_in_detectron2():
    model = torch.nn.Sequential(SimpleFeaturePyramid(8, 8, scales=(4, )), torch.nn.LayerNorm(8))
    _, settings = groups_of(model, 'GroupedOptimWrapperConstructor', no_decay=('norm', ))
    assert [name for name, (_, decay) in settings.items() if not decay] == ['1.weight', '1.bias']


def test_unknown_keys_and_strange_models_are_named():
    with pytest.raises(ValueError, match=r"unknown keys \['layer_decay'\].*knows \['layer_decay_rate', 'no_decay'\]"):
        groups_of(Task(), 'LayerDecayOptimWrapperConstructor', layer_decay=.5)
    with pytest.raises(ValueError, match=r"unknown kinds \['bias'\]; there are \['1d', 'norm'"):
        groups_of(Task(), 'GroupedOptimWrapperConstructor', no_decay=('1d', 'bias'))
    with pytest.raises(ValueError, match='NoneType has not'):
        groups_of(torch.nn.Linear(2, 2), 'LayerDecayOptimWrapperConstructor')
