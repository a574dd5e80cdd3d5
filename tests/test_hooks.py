"""Logged losses are means over the ranks; gradients are sent in half precision."""

import copy
import multiprocessing
import os
from types import SimpleNamespace

import pytest
import torch
from mmengine.hooks import CheckpointHook, LoggerHook
from mmengine.logging import MessageHub
from mmengine.structures import BaseDataElement

from mae_plugin.engine import AutocastOptimWrapper, hooks
from mae_plugin.engine.hooks import MeanLossHook
from mae_plugin.registry import HOOKS


@pytest.fixture
def runner():
    """Of 20 iterations, which logs every fifth and saves every seventh."""
    return SimpleNamespace(message_hub=MessageHub('test_hooks'), iter=0, max_iters=20, train_dataloader=range(1000),
                           hooks=[LoggerHook(interval=5), CheckpointHook(by_epoch=False, interval=7)])


def current(runner):
    return {name: buffer.current() for name, buffer in runner.message_hub.log_scalars.items()}


def history(runner, name='train/loss'):
    buffer = runner.message_hub.log_scalars.get(name)
    return [] if buffer is None else buffer.data[0].tolist()


def train(runner, hook, iterations, start=0):
    """Losses 0, 1, 2, ...; the iterations after which the message hub had all of them."""
    complete = []
    for runner.iter in range(start, start + iterations):
        hook.after_train_iter(runner, runner.iter, outputs=dict(loss=torch.tensor(float(runner.iter))))
        if len(history(runner)) == runner.iter + 1:
            complete.append(runner.iter + 1)
    return complete


def test_one_process_logs_what_it_has(runner, monkeypatch):
    monkeypatch.setattr(hooks, 'all_reduce', None)  # must not be called
    hook = MeanLossHook()
    hook.after_train_iter(runner, 0, outputs=dict(loss=torch.tensor(2., requires_grad=True), acc=0.5))
    assert not runner.message_hub.log_scalars
    hook.after_train_epoch(runner)
    assert current(runner) == {'train/loss': 2., 'train/acc': 0.5}


def test_values_are_there_when_they_are_read(runner):
    """At each line of the log, each checkpoint and the end; every value, in order."""
    assert train(runner, MeanLossHook(), 20) == [5, 7, 10, 14, 15, 20]
    assert history(runner) == [float(i) for i in range(20)]


def test_an_epoch_and_a_validation_read_values_too(runner):
    runner.train_dataloader = range(3)
    assert train(runner, MeanLossHook(), 4) == [3]
    runner.train_dataloader = range(1000)
    hook = MeanLossHook()
    train(runner, hook, 2, start=10)
    hook.before_val(runner)
    assert history(runner)[-2:] == [10., 11.]


def test_the_device_is_asked_once(runner, monkeypatch):
    """Nothing waits for a value between the lines of the log."""
    asked = []
    for name in ('item', 'tolist', '__float__', '__int__', '__bool__'):
        method = getattr(torch.Tensor, name)
        monkeypatch.setattr(torch.Tensor, name, lambda self, name=name, method=method: (
            asked.append((runner.iter + 1, name)), method(self))[1])
    hook = MeanLossHook()
    for runner.iter in range(20):
        hook.after_train_iter(runner, runner.iter, outputs=dict(loss=torch.ones(1), other=torch.tensor(2)))
    assert asked == [(i, 'tolist') for i in (5, 7, 10, 14, 15, 20)]


def test_the_history_is_bounded(runner):
    runner.message_hub.update_scalar('train/time', 1.)
    hook = MeanLossHook(history=6)
    train(runner, hook, 20)
    train(runner, hook, 20, start=20)
    assert history(runner) == [34., 35., 36., 37., 38., 39.]
    assert runner.message_hub.get_scalar('train/time').max_length == 6


def test_mean_over_ranks_in_one_call(runner, monkeypatch):
    calls = []

    def with_another_rank(values, op):
        calls.append((op, values.tolist()))
        values.copy_((values + torch.tensor([4., 1., 0.] * 2, dtype=torch.float64)) / 2)
    monkeypatch.setattr(hooks, 'get_world_size', lambda: 2)
    monkeypatch.setattr(hooks, 'all_reduce', with_another_rank)
    outputs = dict(loss=torch.tensor(2., requires_grad=True), acc=torch.tensor([3.]), count=8)
    hook = MeanLossHook()
    hook.after_train_iter(runner, 0, outputs=outputs)
    hook.after_train_iter(runner, 1, outputs=dict(outputs, count=10))
    hook.after_train_iter(runner, 2, outputs=None)
    hook.after_train_iter(runner, 3, outputs={})
    assert not calls
    hook.before_val(runner)
    assert current(runner) == {'train/loss': 3., 'train/acc': 2., 'train/count': 5.}
    assert history(runner, 'train/count') == [4., 5.]
    assert calls == [('mean', [2., 3., 8., 2., 3., 10.])]
    assert outputs['loss'].item() == 2.  # other hooks see the rank's own
    hook.after_train_epoch(runner)
    assert len(calls) == 1


def test_is_what_the_shared_config_names():
    assert HOOKS.get('MeanLossHook') is MeanLossHook and MeanLossHook.priority == 'VERY_HIGH'


def _send_gradients(store):
    from mmengine.model import MMDistributedDataParallel

    from mae_plugin.engine import HalfGradientHook
    torch.distributed.init_process_group('gloo', init_method=f'file://{store}', rank=0, world_size=1)
    plain = torch.nn.Linear(5, 3)
    HalfGradientHook().before_train(SimpleNamespace(model=plain))  # nothing to send
    HalfGradientHook().before_train(SimpleNamespace(model=torch.nn.DataParallel(plain)))  # takes no such hook
    wrapped = MMDistributedDataParallel(torch.nn.Linear(5, 3))
    wrapped.module.load_state_dict(plain.state_dict())
    HalfGradientHook().before_train(SimpleNamespace(model=wrapped))
    x = torch.randn(4, 5)
    plain(x).square().sum().backward()
    torch.nn.parallel.DistributedDataParallel.forward(wrapped, x).square().sum().backward()
    assert torch.equal(wrapped.module.weight.grad, plain.weight.grad.half().float())
    assert not torch.equal(wrapped.module.weight.grad, plain.weight.grad)
    os._exit(0)


def test_gradients_are_sent_in_half_precision(tmp_path):
    """Of one process: DDP then rounds its own gradients to float16.

    In a process of its own: its group's threads may want Python's lock while the group, holding it, waits for them.
    """
    process = multiprocessing.get_context('spawn').Process(target=_send_gradients, args=(tmp_path / 'store', ))
    process.start()
    process.join(100)
    process.kill()
    assert process.exitcode == 0


def steps(device, runner, tiny_mae, count=4, defer=True, **wrapper):
    """Train on uint8 images in pinned memory, with keys, as a run does, with bfloat16 and the hook."""
    model = tiny_mae.to(device)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4, fused=True)
    runner.optim_wrapper = AutocastOptimWrapper(optimizer=optimizer, **wrapper)
    imgs = torch.arange(4 * 3 * 64 * 64).view(4, 3, 64, 64).square().to(torch.uint8)
    imgs = imgs.pin_memory() if device == 'cuda' else imgs
    hook = MeanLossHook()
    if defer:
        hook.clipped = runner.optim_wrapper.clipped = {}
    else:
        runner.optim_wrapper.message_hub = runner.message_hub
    for runner.iter in range(count):
        samples = [BaseDataElement(metainfo=dict(sample_key=(0, runner.iter, i))) for i in range(4)]
        outputs = model.train_step(dict(inputs=imgs, data_samples=samples), runner.optim_wrapper)
        hook.after_train_iter(runner, runner.iter, outputs=outputs)
    return hook


def test_a_step_leaves_its_loss_with_the_hook(runner, tiny_mae):
    hook = steps('cpu', runner, tiny_mae)
    assert [set(outputs) for outputs in hook.kept] == [{'loss'}] * 4 and not history(runner)


@pytest.mark.parametrize('accumulate', [1, 2])
def test_norms_of_clipped_gradients_are_those_of_mmengine(runner, tiny_mae, accumulate):
    """One for each update, with the losses, and only when they are read."""
    other = SimpleNamespace(**{**vars(runner), 'message_hub': MessageHub('of_mmengine')})
    kinds = dict(clip_grad=dict(max_norm=.1), accumulative_counts=accumulate)
    steps('cpu', other, copy.deepcopy(tiny_mae), defer=False, **copy.deepcopy(kinds))
    hook = steps('cpu', runner, tiny_mae, **kinds)
    assert not history(runner, 'train/grad_norm')
    hook.before_val(runner)
    assert history(runner, 'train/grad_norm') == history(other, 'train/grad_norm')
    assert len(history(runner, 'train/grad_norm')) == 4 // accumulate


def test_the_hook_takes_the_norms_over(runner, tiny_mae):
    runner.optim_wrapper = AutocastOptimWrapper(optimizer=torch.optim.SGD(tiny_mae.parameters(), lr=1.),
                                                clip_grad=dict(max_norm=.1))
    runner.epoch = runner.max_epochs = 0
    runner.train_dataloader = SimpleNamespace(dataset=[])
    hook = MeanLossHook()
    hook.before_train(runner)
    assert runner.optim_wrapper.clipped is hook.clipped == {}


@pytest.mark.gpu
@pytest.mark.parametrize('wrapper', [{}, dict(clip_grad=dict(max_norm=1.))], ids=['plain', 'clipped'])
def test_a_step_never_waits_for_the_device(runner, tiny_mae, wrapper):
    steps('cuda', runner, tiny_mae, **copy.deepcopy(wrapper))
    torch.cuda.set_sync_debug_mode('error')
    try:
        steps('cuda', runner, tiny_mae, **wrapper)
    finally:
        torch.cuda.set_sync_debug_mode('default')
