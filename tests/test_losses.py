"""Losses by hand and by finite differences, and heads that meet a target of another kind."""

import math
import re

import pytest
import torch
from conftest import tiny_mae_cfg
from tiny.tools import ROOT
from torch import nn

from mae_plugin.models import PatchMask, PixelReconstructionHead, Target, TokenPredictionHead, TokenTarget
from mae_plugin.models.mae_head import LOSS_TYPES
from mae_plugin.registry import MODELS


class Given(Target):
    """Numbers and weights as they are given."""

    def __init__(self, numbers, weights=None):
        super().__init__(1)
        self.numbers, self.given, self.dim = numbers, weights, numbers.size(-1)

    def forward(self, imgs, mask):
        return self.numbers

    def weights(self, mask):
        return self.given


class Brightness(TokenTarget):
    """Two tokens: darker or brighter than the mean of the data set."""

    dim = 2

    def tokens(self, imgs, grid):
        return (nn.functional.adaptive_avg_pool2d(imgs.mean(dim=1), grid) > 0).long().flatten(1)


def loss(head, pred):
    return head.loss(pred, None, None)['loss']


@pytest.mark.parametrize('kwargs, expected', [
    (dict(), (.25 + 0 + 1 + 9) / 4),
    (dict(loss_type='l1'), (.5 + 0 + 1 + 3) / 4),
    (dict(loss_type='smooth_l1'), (.125 + 0 + .5 + 2.5) / 4),
    (dict(loss_type='smooth_l1', beta=2.), (.0625 + 0 + .25 + 2) / 4)], ids=str)
def test_losses_by_hand(kwargs, expected):
    target, pred = torch.tensor([[[1., 2.], [3., 4.]]]), torch.tensor([[[1.5, 2.], [2., 7.]]])
    assert loss(PixelReconstructionHead(Given(target), **kwargs), pred).item() == pytest.approx(expected)


@pytest.mark.parametrize('weighted', [False, True])
@pytest.mark.parametrize('loss_type', LOSS_TYPES)
def test_gradients_are_those_of_finite_differences(loss_type, weighted):
    torch.manual_seed(0)
    target, pred = torch.randn(2, 2, 3, 4, dtype=torch.float64)
    weights = torch.rand(2, 3, 1, dtype=torch.float64) if weighted else None
    head = PixelReconstructionHead(Given(target, weights), loss_type, beta=.5)
    assert torch.autograd.gradcheck(lambda pred: loss(head, pred), 3 * pred.requires_grad_())


def test_cross_entropy_by_hand():
    target, pred = torch.tensor([[2, 0]]), torch.tensor([[[0., 0., 0.], [math.log(6), 0., math.log(3)]]])
    head = TokenPredictionHead(Given(target))
    expected = [math.log(3), math.log(10 / 6)]
    assert head.errors(pred, target).flatten().tolist() == pytest.approx(expected)
    assert loss(head, pred).item() == pytest.approx(sum(expected) / 2)
    head = TokenPredictionHead(Given(target, torch.tensor([[[1.], [.5]]])))
    assert loss(head, pred).item() == pytest.approx((expected[0] + expected[1] / 2) / 2)  # of two patches


def test_gradients_of_cross_entropy():
    torch.manual_seed(0)
    head = TokenPredictionHead(Given(torch.tensor([[2, 0], [1, 1]]), torch.rand(2, 2, 1, dtype=torch.float64)))
    pred = torch.randn(2, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda pred: loss(head, pred), pred)


def test_tokens_are_those_of_the_predicted_patches():
    torch.manual_seed(0)
    imgs, mask = torch.randn(2, 3, 8, 12), PatchMask.from_scores(torch.rand(2, 6), 2, (2, 3), num_pred=3)
    found = Brightness(4, 3)(imgs, mask)
    for b in range(2):
        for token, i in zip(found[b].tolist(), mask.ids_pred[b].tolist(), strict=True):
            y, x = 4 * (i // 3), 4 * (i % 3)
            assert token == (imgs[b, :, y:y + 4, x:x + 4].mean() > 0)


@pytest.mark.parametrize('head, target, names', [
    ('PixelReconstructionHead', Brightness,
     ['PixelReconstructionHead', 'Brightness', 'mae_plugin.TokenPredictionHead']),
    ('TokenPredictionHead', 'mae_plugin.PixelTarget',
     ['TokenPredictionHead', 'PixelTarget', 'mae_plugin.PixelReconstructionHead'])])
def test_a_head_of_another_kind_of_target_is_named(head, target, names):
    model = MODELS.build(dict(tiny_mae_cfg(), head=dict(type=f'mae_plugin.{head}', target=dict(type=target))))
    with pytest.raises(ValueError) as error:
        model(torch.randn(2, 3, 64, 64), mode='loss')
    assert all(name in str(error.value) for name in names)


@pytest.mark.parametrize('kwargs', [dict(loss_type='l3'), dict(loss_type='smooth_l1', beta=0)])
def test_settings_of_a_loss_are_checked(kwargs):
    with pytest.raises(ValueError, match='head.(loss_type|beta)='):
        PixelReconstructionHead(Given(torch.zeros(1, 1, 1)), **kwargs)


def test_a_tokenizer_of_ones_own_as_the_docs_show_it():
    """By hand for two patches, and its loss falls."""
    code, = re.findall(r'```python\n(.*?)```', (ROOT / 'docs/targets.md').read_text(), flags=re.S)
    try:
        exec(code, {'__name__': 'my_parts'})
        model = MODELS.build(dict(tiny_mae_cfg(), head=dict(
            type='mae_plugin.TokenPredictionHead', target=dict(type='mae_plugin.ColourTokens'))))
    finally:
        MODELS.module_dict.pop('ColourTokens', None)
    imgs = torch.tensor([[-2., 0.], [.1, .2], [.9, -.5]]).view(1, 3, 1, 2).repeat_interleave(16, 2)
    imgs = imgs.repeat_interleave(16, 3)
    # Red, green and blue of the first: low, middling, high. Of the second: middling, middling, low (-0.75).
    assert model.head.target.tokens(imgs, (1, 2)).tolist() == [[0 + 3 + 2, 9 + 3 + 0]]
    torch.manual_seed(0)
    model.init_weights()
    imgs = nn.functional.interpolate(2 * torch.randn(4, 3, 4, 4), (64, 64))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(15):
        optimizer.zero_grad()
        losses.append(model(imgs, mode='loss')['loss'])
        losses[-1].backward()
        optimizer.step()
    assert losses[0] < 5 and losses[-1] < .9 * losses[0]
