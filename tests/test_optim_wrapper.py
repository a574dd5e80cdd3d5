import pytest
import torch

from mae_plugin.engine import AutocastOptimWrapper
from mae_plugin.engine.optim_wrapper import _check_support


def training_step(dtype, lr=.1):
    torch.manual_seed(0)
    model, x = torch.nn.Linear(16, 4), torch.randn(8, 16)
    wrapper = AutocastOptimWrapper(dtype, optimizer=torch.optim.SGD(model.parameters(), lr=lr))
    with wrapper.optim_context(model):
        out = model(x)
        wrapper.update_params(out.float().square().mean())
    return model.weight.detach(), out, wrapper


@pytest.mark.parametrize('dtype', ['bfloat16', 'float16', 'float32'])
def test_computes_in_its_type_and_updates_in_single_precision(dtype):
    weight, out, _ = training_step(dtype)
    assert out.dtype == getattr(torch, dtype) and weight.dtype == torch.float32
    torch.manual_seed(0)
    model, x = torch.nn.Linear(16, 4), torch.randn(8, 16)
    model(x).square().mean().backward()
    torch.testing.assert_close(weight, (model.weight - .1 * model.weight.grad).detach(), rtol=0, atol=2e-3)


def test_only_float16_scales_and_an_overflow_is_skipped():
    assert 'loss_scaler' not in training_step('bfloat16')[2].state_dict()
    weight, _, wrapper = training_step('float16')
    scale = wrapper.state_dict()['loss_scaler']['scale']
    wrapper.update_params(next(iter(wrapper.optimizer.param_groups[0]['params'])).sum() * float('inf'))
    assert torch.equal(wrapper.optimizer.param_groups[0]['params'][0], weight)
    assert wrapper.scaler.get_scale() == scale / 2


def test_state_survives_a_change_of_precision():
    state = training_step('float16')[2].state_dict()
    bfloat16 = training_step('bfloat16', lr=.5)[2]
    bfloat16.load_state_dict(state)
    assert bfloat16.optimizer.param_groups[0]['lr'] == .1
    float16 = training_step('float16', lr=.5)[2]
    float16.load_state_dict(bfloat16.state_dict())
    float16.load_state_dict(state)
    assert float16.scaler.state_dict() == state['loss_scaler']


def test_clipping_sees_true_gradients():
    model = torch.nn.Linear(4, 1, bias=False)
    wrapper = AutocastOptimWrapper('float16', optimizer=torch.optim.SGD(model.parameters(), lr=1.),
                                   clip_grad=dict(max_norm=1e-3))
    before = model.weight.detach().clone()
    with wrapper.optim_context(model):
        wrapper.update_params(.1 * model(torch.ones(1, 4)).float().sum())  # scaled: below the limit of float16
    torch.testing.assert_close((before - model.weight).norm().item(), 1e-3, rtol=1e-2, atol=0)


def test_unknown_dtype_is_named():
    with pytest.raises(ValueError, match="'fp16' is not one of"):
        training_step('fp16')


def test_a_gpu_without_bfloat16_is_named(monkeypatch):
    monkeypatch.setattr('torch.cuda.is_bf16_supported', lambda including_emulation: False)
    monkeypatch.setattr('torch.cuda.get_device_name', lambda device: 'Tesla T4')
    with pytest.raises(ValueError, match="dtype='bfloat16': Tesla T4 has none.*'float16'"):
        _check_support('bfloat16', torch.device('cuda'))
    _check_support('float16', torch.device('cuda'))


@pytest.mark.parametrize('native', [True, False])
def test_a_cpu_without_float16_is_told(monkeypatch, native):
    said = []
    monkeypatch.setattr('torch.ops.mkldnn._is_mkldnn_fp16_supported', lambda: native)
    monkeypatch.setattr('torch.backends.mkldnn.is_available', lambda: True)
    monkeypatch.setattr('mae_plugin.engine.optim_wrapper.print_log', lambda text, **kwargs: said.append(text))
    training_step('float16')
    training_step('float32')
    assert [text.split(':')[0] for text in said] == ([] if native else ["optim_wrapper.dtype='float16'"])
