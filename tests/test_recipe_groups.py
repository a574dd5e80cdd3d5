"""Learning rate and weight decay of every parameter, as the recipes publish them, for ViT-B, L and H."""

import importlib.util

import pytest
import torch
from mmengine import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope
from tiny.tools import ROOT

# name, blocks, learning rate and layer decay (the authors' FINETUNE.md; He et al., 2022, Table 9)
FINE_TUNING = [('vit-base_in1k', 12, 5e-4, 0.65), ('vit-large_in1k', 24, 1e-3, 0.75), ('vit-huge_in1k', 32, 1e-3, 0.75),
               ('vit-base_in1k-raw', 12, 1e-3, 0.75), ('vit-large_in1k-raw', 24, 1e-3, 0.75),
               ('vit-huge_in1k-raw', 32, 1e-3, 0.75)]


def settings(path):
    """(learning rate, weight decay) of each trained parameter of a config's model, which takes no memory."""
    cfg = Config.fromfile(ROOT / 'configs' / path)
    scope = cfg.get('default_scope', 'mmengine')
    if scope != 'mmengine' and importlib.util.find_spec(scope) is None:
        pytest.skip(f'needs {scope}')
    with DefaultScope.overwrite_default_scope(scope):
        with torch.device('meta'):
            model = MODELS.build(cfg.model)
        wrapper = build_optim_wrapper(model, dict(cfg.optim_wrapper, dtype='float32'))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = {names[id(parameter)]: (group['lr'], group['weight_decay'])
             for group in wrapper.optimizer.param_groups for parameter in group['params']}
    assert set(found) == {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    return found, dict(model.named_parameters())


@pytest.mark.parametrize('size', ['base-p16', 'large-p16', 'huge-p14'])
def test_pretraining(size):
    found, parameters = settings(f'pretrain/mae_vit-{size}_in1k.py')
    for name, setting in found.items():
        decayed = name.endswith(('weight', 'cls_token', 'mask_token')) and 'norm' not in name
        assert setting == (1.5e-4, 0.05 if decayed else 0.), name
    assert set(parameters) - set(found) == {'backbone.pos_embed', 'neck.decoder_pos_embed'}


@pytest.mark.parametrize('name, depth, lr, decay', FINE_TUNING)
def test_fine_tuning(name, depth, lr, decay):
    """Embeddings are layer 0, block i is i + 1, what follows is the last; biases, norms and embeddings do not decay."""
    found, parameters = settings(f'classification/{name}.py')
    assert set(found) == set(parameters)
    layers = {'backbone.cls_token': 0, 'backbone.pos_embed': 0, 'backbone.patch_embed.proj.weight': 0,
              'backbone.patch_embed.proj.bias': 0, 'backbone.fc_norm.weight': depth + 1,
              'backbone.fc_norm.bias': depth + 1, 'head.fc.weight': depth + 1, 'head.fc.bias': depth + 1}
    for block in range(depth):
        for part in ('norm1', 'attn.qkv', 'attn.proj', 'norm2', 'mlp.fc1', 'mlp.fc2'):
            for kind in ('weight', 'bias'):
                layers[f'backbone.blocks.{block}.{part}.{kind}'] = block + 1
    assert set(found) == set(layers)
    for parameter, layer in layers.items():
        decayed = parameter.endswith('weight') and 'norm' not in parameter
        assert found[parameter] == (pytest.approx(lr * decay ** (depth + 1 - layer), rel=1e-12),
                                    0.05 if decayed else 0.), parameter
