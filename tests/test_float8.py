"""Linear layers in emulated fp8. torchao, where it is installed: ``PYTHONPATH=<folder of torchao> pytest``."""

from types import SimpleNamespace

import pytest
import torch
from mmengine import Config
from tiny.tools import ROOT

from mae_plugin.engine import AutocastOptimWrapper, Float8Hook
from mae_plugin.engine import float8 as module
from mae_plugin.registry import HOOKS


def before_train(model, batch_size=16, **arguments):
    """Let the hook change ``model``."""
    runner = SimpleNamespace(model=model, train_dataloader=SimpleNamespace(batch_size=batch_size))
    HOOKS.build(dict(type='mae_plugin.Float8Hook', **arguments)).before_train(runner)


def gradients(model, imgs, dtype):
    """The loss and its gradients as one vector."""
    model.zero_grad()
    torch.manual_seed(0)
    with torch.autocast('cpu', dtype, enabled=dtype is not None):
        loss = model.loss(imgs)['loss']
    loss.backward()
    return loss.item(), torch.cat([p.grad.flatten() for p in model.parameters() if p.requires_grad])


@pytest.fixture
def imgs():
    return torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))  # 15 tokens in all: not 16


@pytest.mark.parametrize('recipe', ['tensorwise', 'rowwise', 'rowwise_with_gw_hp'])
def test_gradients_are_nearly_those_of_bfloat16(tiny_mae, imgs, recipe):
    pytest.importorskip('torchao.float8')
    loss, expected = gradients(tiny_mae, imgs, torch.bfloat16)
    before_train(tiny_mae, 3, emulate=True, recipe=recipe)
    fp8_loss, found = gradients(tiny_mae, imgs, torch.bfloat16)
    assert fp8_loss == pytest.approx(loss, rel=1e-2)
    cosine = torch.cosine_similarity(found, expected, 0).item()
    assert 0.98 < cosine < 0.99999  # and it does round


def test_names_parameters_and_the_decoder_stay(tiny_mae, imgs):
    pytest.importorskip('torchao.float8')
    wrapper = AutocastOptimWrapper(optimizer=torch.optim.AdamW(tiny_mae.parameters(), 1e-2))
    before = {name: value.clone() for name, value in tiny_mae.state_dict().items()}
    parameters = dict(tiny_mae.named_parameters())
    before_train(tiny_mae, emulate=True)
    after = tiny_mae.state_dict()
    assert [*after] == [*before] and all(torch.equal(after[name], before[name]) for name in before)
    assert all(parameter is parameters[name] for name, parameter in tiny_mae.named_parameters())
    kinds = {name: type(layer).__name__ for name, layer in tiny_mae.named_modules()
             if isinstance(layer, torch.nn.Linear)}
    assert kinds.pop('neck.decoder_embed') == kinds['neck.decoder_blocks.0.mlp.fc1'] == 'Linear'
    assert {name for name, kind in kinds.items() if kind == 'Float8Linear'} == {
        f'backbone.blocks.{i}.{name}' for i in range(3) for name in ('attn.qkv', 'attn.proj', 'mlp.fc1', 'mlp.fc2')}
    tiny_mae.train_step(dict(inputs=[img.byte() for img in imgs]), wrapper)
    moved = {name for name, value in tiny_mae.state_dict().items() if not torch.equal(value, before[name])}
    assert {'backbone.blocks.0.attn.qkv.weight', 'backbone.blocks.2.mlp.fc2.bias'} <= moved


@pytest.mark.parametrize('arguments, text', [
    (dict(linears=['head']), r"linears=\['head'\] names no linear layer"),
    (dict(recipe='blockwise'), "recipe='blockwise' is not one of"),
])
def test_wrong_settings(tiny_mae, arguments, text):
    pytest.importorskip('torchao.float8')
    with pytest.raises(ValueError, match=text):
        before_train(tiny_mae, emulate=True, **arguments)


def test_widths_are_multiples_of_16(tiny_mae):
    pytest.importorskip('torchao.float8')
    tiny_mae.backbone.blocks[1].mlp.fc1 = torch.nn.Linear(48, 100)
    with pytest.raises(ValueError, match='blocks.1.mlp.fc1 is 48 to 100, and fp8 needs multiples of 16'):
        before_train(tiny_mae, emulate=True)


def test_without_torchao(tiny_mae, monkeypatch):
    monkeypatch.setitem(__import__('sys').modules, 'torchao.float8', None)
    with pytest.raises(ValueError, match='pip install torchao'):
        before_train(tiny_mae)


@pytest.mark.parametrize('capability', [None, (8, 0), (8, 9)])
def test_devices_without_fp8(monkeypatch, capability):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: capability is not None)
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda: capability)
    monkeypatch.setattr(torch.cuda, 'get_device_name', lambda: 'A100')
    if capability == (8, 9):
        module._check_device()
    else:
        with pytest.raises(ValueError, match='the CPU does not' if capability is None else r'A100 \(sm_80\) does not'):
            module._check_device()


def test_the_config_reaches_it():
    cfg = Config.fromfile(ROOT / 'configs/pretrain/mae_vit-large-p16_in1k-fp8.py')
    hook = HOOKS.build(cfg.custom_hooks[0])
    assert isinstance(hook, Float8Hook) and not hook.emulate
    assert cfg.model.backbone.embed_dim == 1024


@pytest.mark.gpu
def test_fp8_on_the_gpu(tiny_mae, imgs):
    pytest.importorskip('torchao.float8')
    if torch.cuda.get_device_capability() < (8, 9):
        pytest.skip('needs sm_89')
    model, imgs = tiny_mae.cuda(), imgs.cuda()

    def on_the_gpu():
        model.zero_grad()
        torch.manual_seed(0)
        with torch.autocast('cuda', torch.bfloat16):
            loss = model.loss(imgs)['loss']
        loss.backward()
        return torch.cat([p.grad.flatten() for p in model.parameters() if p.requires_grad])
    expected = on_the_gpu()
    before_train(model, 3)
    assert torch.cosine_similarity(on_the_gpu(), expected, 0).item() > 0.98
