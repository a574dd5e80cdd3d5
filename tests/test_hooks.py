"""Logged losses are means over the ranks; gradients are sent in half precision."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.logging import MessageHub

from mae_plugin.engine import hooks
from mae_plugin.engine.hooks import MeanLossHook
from mae_plugin.registry import HOOKS


@pytest.fixture
def runner():
    return SimpleNamespace(message_hub=MessageHub('test_hooks'))


def current(runner):
    return {name: buffer.current() for name, buffer in runner.message_hub.log_scalars.items()}


def test_one_process_logs_what_it_has(runner, monkeypatch):
    monkeypatch.setattr(hooks, 'all_reduce', None)  # must not be called
    MeanLossHook().after_train_iter(runner, 0, outputs=dict(loss=torch.tensor(2.), acc=0.5))
    assert current(runner) == {'train/loss': 2., 'train/acc': 0.5}


def test_mean_over_ranks_in_one_call(runner, monkeypatch):
    calls = []

    def with_another_rank(values, op):
        calls.append(op)
        values.copy_((values + torch.tensor([4., 1., 0.], dtype=torch.float64)) / 2)
    monkeypatch.setattr(hooks, 'get_world_size', lambda: 2)
    monkeypatch.setattr(hooks, 'all_reduce', with_another_rank)
    outputs = dict(loss=torch.tensor(2., requires_grad=True), acc=torch.tensor([3.]), count=8)
    hook = MeanLossHook()
    hook.after_train_iter(runner, 0, outputs=outputs)
    assert current(runner) == {'train/loss': 3., 'train/acc': 2., 'train/count': 4.} and calls == ['mean']
    assert outputs['loss'].item() == 2.  # other hooks see the rank's own
    hook.after_train_iter(runner, 0, outputs=None)
    hook.after_train_iter(runner, 0, outputs={})
    assert calls == ['mean']


def test_is_what_the_shared_config_names():
    assert HOOKS.get('MeanLossHook') is MeanLossHook and MeanLossHook.priority == 'VERY_HIGH'


def test_gradients_are_sent_in_half_precision(tmp_path):
    """Of one process: DDP then rounds its own gradients to float16."""
    from types import SimpleNamespace

    from mmengine.model import MMDistributedDataParallel

    from mae_plugin.engine import HalfGradientHook
    torch.distributed.init_process_group('gloo', init_method=f'file://{tmp_path / "store"}', rank=0, world_size=1)
    try:
        plain = torch.nn.Linear(5, 3)
        HalfGradientHook().before_train(SimpleNamespace(model=plain))  # nothing to send
        HalfGradientHook().before_train(SimpleNamespace(model=torch.nn.DataParallel(plain)))  # takes no such hook
        wrapped = MMDistributedDataParallel(torch.nn.Linear(5, 3))
        wrapped.module.load_state_dict(plain.state_dict())
        HalfGradientHook().before_train(SimpleNamespace(model=wrapped))
        x = torch.randn(4, 5)
        for model in (plain, wrapped):
            model(x).square().sum().backward() if model is plain else \
                torch.nn.parallel.DistributedDataParallel.forward(wrapped, x).square().sum().backward()
        assert torch.equal(wrapped.module.weight.grad, plain.weight.grad.half().float())
        assert not torch.equal(wrapped.module.weight.grad, plain.weight.grad)
    finally:
        torch.distributed.destroy_process_group()
