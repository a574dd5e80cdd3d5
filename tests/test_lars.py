"""LARS of linear probing against steps computed by hand, and the linear probe's model."""

import pytest
import torch
from mmengine import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import OPTIMIZERS
from tiny.tools import ROOT
from torch import nn

from mae_plugin.engine import Lars
from mae_plugin.models import AttentivePooling


def test_two_steps_by_hand():
    """A matrix [3, 4] of norm 5 and a bias; the rate changes between the steps and acts on all of the momentum."""
    weight, bias = nn.Parameter(torch.tensor([[3., 4.]])), nn.Parameter(torch.tensor([2.]))
    optimizer = Lars([weight, bias], lr=.5, momentum=.9, trust_coeff=.01)
    weight.grad, bias.grad = torch.tensor([[0., 2.]]), torch.tensor([.1])
    optimizer.step()  # ratio .01 * 5 / 2 = .025: the buffer is [0, .05]; the bias has none
    torch.testing.assert_close(weight.detach(), torch.tensor([[3., 4 - .5 * .05]]))
    torch.testing.assert_close(bias.detach(), torch.tensor([2 - .5 * .1]))
    for group in optimizer.param_groups:
        group['lr'] = .2
    weight.grad, bias.grad = torch.tensor([[1., 0.]]), torch.tensor([.3])
    optimizer.step()
    ratio = .01 * (9 + 3.975**2)**.5
    torch.testing.assert_close(weight.detach(), torch.tensor([[3 - .2 * ratio, 3.975 - .2 * .9 * .05]]))
    torch.testing.assert_close(bias.detach(), torch.tensor([1.95 - .2 * (.9 * .1 + .3)]))


def test_without_a_gradient_or_a_weight_the_ratio_is_one():
    weight = nn.Parameter(torch.zeros(1, 2))
    optimizer = Lars([weight], lr=1.)
    weight.grad = torch.tensor([[1., -1.]])
    optimizer.step()
    assert weight.tolist() == [[-1., 1.]]
    weight.grad = torch.zeros(1, 2)
    optimizer.step()
    torch.testing.assert_close(weight.detach(), torch.tensor([[-1.9, 1.9]]))  # the momentum goes on


def test_decay_is_for_matrices_only_and_the_state_is_restored():
    layer = nn.Linear(3, 2)
    optimizer = Lars(layer.parameters(), lr=.1, weight_decay=.01)
    assert [(group['weight_decay'], [p.ndim for p in group['params']]) for group in optimizer.param_groups] == [
        (.01, [2]), (0., [1])]
    layer(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    other = Lars(nn.Linear(3, 2).parameters(), lr=.1)
    other.load_state_dict(optimizer.state_dict())
    assert other.param_groups[0]['weight_decay'] == .01 and len(other.state) == 2


def probe(name):
    """The model of a config, small, with its optimizer."""
    pytest.importorskip('mmpretrain')
    from mmengine.registry import DefaultScope
    from mmpretrain.registry import MODELS
    cfg = Config.fromfile(ROOT / 'configs' / 'classification' / f'{name}.py')
    cfg.model.backbone.update(img_size=32, patch_size=8, embed_dim=24, depth=2, num_heads=2, init_cfg=None)
    cfg.model.head.update(in_channels=24, num_classes=3)
    cfg.model.neck.update({key: 24 for key in ('input_features', 'embed_dim') if key in cfg.model.neck})
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(cfg.model)
        model.init_weights()
        return model, build_optim_wrapper(model, cfg.optim_wrapper)


def test_the_linear_probe_trains_a_linear_layer_on_the_normalised_class_token():
    model, wrapper = probe('linear-probe_vit-base_in1k')
    assert {name for name, p in model.named_parameters() if p.requires_grad} == {'head.fc.weight', 'head.fc.bias'}
    assert [sum(p.numel() for p in group['params']) for group in wrapper.optimizer.param_groups] == [72, 3]
    assert isinstance(wrapper.optimizer, Lars) and not any(g['weight_decay'] for g in wrapper.optimizer.param_groups)
    images = torch.randn(16, 3, 32, 32)
    token = model.backbone(images)[0]  # after the encoder's own norm
    torch.testing.assert_close(token, nn.functional.layer_norm(token, (24, )), rtol=1e-4, atol=1e-4)
    feature = model.extract_feat(images)[0]
    torch.testing.assert_close(feature, (token - token.mean(0)) / (token.var(0, unbiased=False) + 1e-6).sqrt())
    assert .005 < model.head.fc.weight.std() < .02 and not model.head.fc.bias.any()


def test_attentive_pooling_is_an_average_weighted_by_a_softmax():
    """timm's, written out; and with a query of zeros the plain mean of the values."""
    torch.manual_seed(0)
    neck = AttentivePooling(8, num_heads=2)
    tokens, pool = torch.randn(3, 5, 8), neck.pool
    with torch.no_grad():
        q = pool.q(pool.latent[0, 0]).view(2, 4)
        k, v = pool.kv(tokens).view(3, 5, 2, 2, 4).unbind(2)
        weight = torch.einsum('hd,bnhd->bnh', q, k).mul(4**-.5).softmax(dim=1)
        mixed = pool.proj(torch.einsum('bnh,bnhd->bhd', weight, v).flatten(1))
        torch.testing.assert_close(neck((tokens, ))[0], mixed + pool.mlp(mixed))
    with pytest.raises(ValueError, match='num_heads=3 does not divide embed_dim=8'):
        AttentivePooling(8, num_heads=3)


def test_the_attentive_probe_trains_the_pooling_and_the_head():
    model, _ = probe('attentive-probe_vit-base_in1k')
    trained = {name.split('.')[0] for name, p in model.named_parameters() if p.requires_grad}
    assert trained == {'neck', 'head'}
    assert model.extract_feat(torch.randn(2, 3, 32, 32))[0].shape == (2, 24)


def test_our_names_are_in_no_other_scope():
    """A forgotten prefix must not build another library's class."""
    assert OPTIMIZERS.get('Lars') is None
