"""The fast step and each of its switches against the plain path."""

import pytest
import torch
from conftest import tiny_mae_cfg
from torch.utils._python_dispatch import TorchDispatchMode

from mae_plugin.models.layers import Attention
from mae_plugin.models.plain import PARTS, plain_loss
from mae_plugin.registry import MODELS


def build(dtype=torch.float32, neck=None, **changes):
    cfg = tiny_mae_cfg(**changes)
    cfg['neck'].update(neck or {})
    torch.manual_seed(0)
    model = MODELS.build(cfg)
    model.init_weights()
    return model.to(dtype)


def images(dtype=torch.float32, size=5, side=64):
    return torch.randn(size, 3, side, side, generator=torch.Generator().manual_seed(1)).to(dtype)


def loss_and_gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return loss.item(), torch.cat([p.grad.flatten() for p in model.parameters() if p.requires_grad])


def both(model, imgs, parts=PARTS, autocast=False):
    """(loss, gradients) of the model's own step and of the plain path, with one mask."""
    torch.manual_seed(2)
    mask = model.masking(imgs, (4, 4))
    with torch.autocast('cpu', torch.bfloat16, enabled=autocast):
        own = model.head.loss(model.neck(model.backbone(imgs, mask), mask), imgs, mask)['loss']
    fast = loss_and_gradients(model, own)
    with torch.autocast('cpu', torch.bfloat16, enabled=autocast):
        plain = plain_loss(model, imgs, mask, parts)
    return fast, loss_and_gradients(model, plain)


def assert_equal(fast, plain, loss=1e-6, gradients=1e-5):
    assert fast[0] == pytest.approx(plain[0], rel=loss)
    assert (fast[1] - plain[1]).norm() <= gradients * plain[1].norm()


@pytest.mark.parametrize('parts', [PARTS, *([part] for part in PARTS)], ids='-'.join)
def test_the_plain_path_is_the_fast_one(parts):
    assert_equal(*both(build(torch.float64), images(torch.float64), parts), loss=1e-13, gradients=1e-12)


SWITCHES = {
    'none': ({}, 'default'),
    'timed attention': ({}, 'timed'),
    'attention by matrix products': ({}, 'matmul'),
    'activation checkpointing': (dict(with_cp=True, neck=dict(with_cp=True)), 'default'),
    'layer scale': (dict(init_values=.1), 'default'),
}


def switched(name, **kwargs):
    changes, backend = SWITCHES[name]
    model = build(**changes, **kwargs)
    for module in model.modules():
        if isinstance(module, Attention):
            module.backend = backend
    return model


@pytest.mark.parametrize('name', SWITCHES)
def test_switches_do_not_change_the_step(name):
    assert_equal(*both(switched(name), images()))


@pytest.mark.parametrize('name', SWITCHES)
def test_in_bfloat16_the_gradients_point_the_same_way(name):
    fast, plain = both(switched(name), images(), autocast=True)
    assert fast[0] == pytest.approx(plain[0], rel=1e-3)
    assert torch.cosine_similarity(fast[1], plain[1], dim=0) > .999


def curve(model, loss, steps=200, **adamw):
    """Losses of ``steps`` steps on four fixed batches."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=2e-3, betas=(.9, .95), **adamw)
    batches = torch.nn.functional.interpolate(images(size=16, side=8), size=64, mode='bilinear').split(4)
    losses = []
    for i in range(steps):
        torch.manual_seed(i)
        imgs = batches[i % 4]
        value = loss(model, imgs, model.masking(imgs, (4, 4)))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        losses.append(value.item())
    return torch.tensor(losses)


def own_loss(model, imgs, mask):
    return model.head.loss(model.neck(model.backbone(imgs, mask), mask), imgs, mask)['loss']


def test_200_steps_of_the_fast_path_overlie_those_of_the_plain_one():
    plain = curve(build(), plain_loss)
    model = switched('activation checkpointing')
    for module in model.modules():
        if isinstance(module, Attention):
            module.backend = 'matmul'
    fast = curve(model, own_loss, fused=True)
    assert plain[-20:].mean() < .96 * plain[:20].mean(), 'nothing was learned'
    torch.testing.assert_close(fast, plain, rtol=1e-4, atol=0)


def test_a_bf16_residual_stream_is_one_and_close():
    model = build(bf16_residual=True, neck=dict(bf16_residual=True))
    seen = []
    for block in [*model.backbone.blocks, *model.neck.decoder_blocks]:
        block.register_forward_hook(lambda block, args, out: seen.append(out.dtype))
    reference = both(build(), images())[1]
    fast, _ = both(model, images(), autocast=True)
    assert set(seen[:5]) == {torch.bfloat16}
    assert fast[0] == pytest.approx(reference[0], rel=5e-3)
    assert torch.cosine_similarity(fast[1], reference[1], dim=0) > .99
    seen.clear()
    assert_equal(*both(model, images()))  # without autocast it is the authors' step
    assert set(seen) == {torch.float32}


def test_activation_checkpointing_keeps_only_the_input_of_a_block():
    def kept(with_cp):
        model, imgs, total = build(with_cp=with_cp), images(), []
        mask = model.masking(imgs, (4, 4))
        with torch.autograd.graph.saved_tensors_hooks(lambda x: total.append(x.numel()) or x, lambda x: x):
            model.backbone(imgs, mask)
        return sum(total)
    assert kept(True) < kept(False) / 4


def test_activation_checkpointing_drops_the_same_paths_again():
    found = []
    for with_cp in (False, True):
        model = build(drop_path_rate=.5, with_cp=with_cp).backbone
        torch.manual_seed(3)
        found.append(loss_and_gradients(model, model(images(size=16))[0].square().mean(dim=(0, 1)) @ torch.arange(48.)))
    assert_equal(*found)


def test_activation_checkpointing_asks_no_generator_where_nothing_is_drawn(monkeypatch):
    """A CUDA graph could not record it."""
    def refuse(*args):
        raise AssertionError('the state of a generator was asked for')
    model, imgs = build(with_cp=True), images()
    mask = model.masking(imgs, (4, 4))
    monkeypatch.setattr('torch.get_rng_state', refuse)
    model.backbone(imgs, mask)[0].sum().backward()


def test_the_backward_pass_copies_no_more_than_it_must():
    """Slices of all tokens and swapped axes cost a copy of every gradient of the tokens, for nothing."""
    class Calls(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            calls.append(func.overloadpacket.__name__)
            return func(*args, **(kwargs or {}))
    calls, model = [], build(with_cls_token=False)
    x = model.backbone.blocks[0](images(size=2).flatten(1)[:, :48 * 16].view(2, 16, 48).requires_grad_())
    with Calls():
        x.sum().backward()
    assert 'mm' in calls and not {'clone', 'slice_backward', 'select_backward'} & set(calls)


def test_unknown_parts_name_the_known():
    model = build()
    with pytest.raises(ValueError, match=r"parts names \['loss'\]; there are \['embed', 'attention'"):
        plain_loss(model, images(), model.masking(images(), (4, 4)), ['loss'])
