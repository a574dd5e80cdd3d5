"""Logged losses are means over the ranks; a checkpoint must fit the model."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.logging import MessageHub

from mae_plugin.engine import hooks
from mae_plugin.engine.hooks import CheckpointFitsHook, MeanLossHook
from mae_plugin.registry import HOOKS


@pytest.fixture
def runner():
    return SimpleNamespace(
        message_hub=MessageHub('test_hooks'), model=torch.nn.Linear(3, 2), _load_from='iter_4.pth', param_schedulers=[])


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


def checkpoint(model, **parts):
    return dict(state_dict=dict(model.state_dict()), meta={}, message_hub={}, optimizer={}) | parts


def test_a_fitting_checkpoint(runner):
    hook = CheckpointFitsHook(resume=True)
    hook.after_load_checkpoint(runner, checkpoint(runner.model))
    wrapped = {f'module.{name}': value for name, value in runner.model.state_dict().items()}
    hook.after_load_checkpoint(runner, checkpoint(runner.model, state_dict=wrapped | {'more': torch.zeros(1)}))
    CheckpointFitsHook().after_load_checkpoint(runner, dict(runner.model.state_dict()))


def test_batch_norm_counters_may_be_missing(runner):
    runner.model = torch.nn.BatchNorm1d(2)
    stored = {name: value for name, value in runner.model.state_dict().items() if 'num_batches' not in name}
    CheckpointFitsHook().after_load_checkpoint(runner, stored)


def test_another_model_is_named(runner):
    hook = CheckpointFitsHook()
    with pytest.raises(ValueError, match=r'iter_4.pth .* 2 of the 2 tensors are missing \(the first: weight\)'):
        hook.after_load_checkpoint(runner, dict(model=runner.model.state_dict()))
    with pytest.raises(ValueError, match=r'1 are of another size \(the first: weight, \(2, 4\) .* \(2, 3\)'):
        hook.after_load_checkpoint(runner, checkpoint(torch.nn.Linear(4, 2)))


def test_a_schedule_of_another_length_is_not_resumed(runner):
    """Past the end that the file knows, the rate would stay at its last value."""
    runner.param_schedulers = [SimpleNamespace(end=2), SimpleNamespace(end=8)]
    for end, resume in ((8, True), (4, False)):
        stored = checkpoint(runner.model, param_schedulers=[dict(end=2), dict(end=end)])
        CheckpointFitsHook(resume=resume).after_load_checkpoint(runner, stored)
    message = 'iter_4.pth ends at 4, that of the config at 8: .*max_iters, --fit-batch.*load_from'
    with pytest.raises(ValueError, match=message):
        CheckpointFitsHook(resume=True).after_load_checkpoint(runner, stored)


def test_weights_alone_cannot_be_resumed(runner):
    content = dict(state_dict=runner.model.state_dict())
    CheckpointFitsHook().after_load_checkpoint(runner, content)
    with pytest.raises(ValueError, match='holds no message_hub, meta, optimizer: .* load_from'):
        CheckpointFitsHook(resume=True).after_load_checkpoint(runner, content)


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
