"""What the log says of speed."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.hooks import LoggerHook
from mmengine.logging import MessageHub
from mmengine.optim import OptimWrapper

from mae_plugin.benchmark.flops import training_flops
from mae_plugin.engine import AutocastOptimWrapper, ThroughputHook, throughput
from mae_plugin.engine.throughput import num_images
from mae_plugin.registry import HOOKS


class Clock:
    """Seconds that pass only where a test says so."""

    def __init__(self, monkeypatch):
        self.now = 100.
        monkeypatch.setattr('time.perf_counter', lambda: self.now)


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


class Run(SimpleNamespace):
    """A runner that logs every fifth iteration, with its hooks in the order of their priorities."""

    def register_hook(self, hook, priority):
        assert priority == 'LOWEST'
        self.hooks.append(hook)

    def call(self, name, *args, **kwargs):
        for hook in list(self.hooks):
            getattr(hook, name)(self, *args, **kwargs)


def runner(hook, model=None, wrapper=None):
    hub = MessageHub('test_throughput')
    model = model or torch.nn.Linear(1, 1)
    wrapper = wrapper or OptimWrapper(torch.optim.SGD(model.parameters(), lr=1.))
    logger = LoggerHook(interval=5)
    logger.after_train_iter = lambda *args, **kwargs: None
    run = Run(message_hub=hub, hooks=[hook, logger], model=model, optim_wrapper=wrapper, iter=0,
              train_dataloader=range(10**6), work_dir='', timestamp='')
    logger.before_run = lambda runner: None
    run.call('before_run')
    run.call('before_train')
    run.call('before_train_epoch')
    return run


def iterate(run, clock, count, wait=1., step=3., images=8):
    for _ in range(count):
        clock.now += wait
        batch = dict(inputs=torch.zeros(images, 1))
        run.call('before_train_iter', run.iter, data_batch=batch)
        clock.now += step
        run.call('after_train_iter', run.iter, data_batch=batch, outputs={})
        run.iter += 1


def lines(run, name='images_per_s'):
    buffer = run.message_hub.log_scalars.get(f'train/{name}')
    return [] if buffer is None else buffer.data[0].tolist()


def test_means_since_the_last_line(clock):
    run = runner(ThroughputHook())
    iterate(run, clock, 1, wait=1000, step=1000)  # workers start
    iterate(run, clock, 4)
    assert lines(run) == [8 * 4 / 16] and lines(run, 'data_wait') == [.25]
    iterate(run, clock, 4, wait=0, step=2)
    iterate(run, clock, 1, wait=6, step=2, images=16)
    assert lines(run) == [2., 48 / 16] and lines(run, 'data_wait') == [.25, 6 / 16]
    assert not lines(run, 'mfu')


def test_validations_are_left_out_and_what_hooks_do_is_no_wait(clock):
    run = runner(ThroughputHook())
    iterate(run, clock, 3)
    run.call('before_val')
    clock.now += 1000
    run.call('after_val')
    iterate(run, clock, 2)
    assert lines(run) == [2.] and lines(run, 'data_wait') == [.25]
    saving = LoggerHook()  # of any hook after it in an iteration
    saving.after_train_iter = lambda *args, **kwargs: setattr(clock, 'now', clock.now + 4)
    run.hooks.insert(2, saving)
    iterate(run, clock, 5, wait=0, step=4)
    run.hooks.remove(saving)
    assert lines(run, 'data_wait')[-1] == 0 and lines(run)[-1] == 8 * 5 / (20 + 4 * 4)


def test_all_processes_count_and_a_second_run_starts_anew(clock, monkeypatch):
    monkeypatch.setattr(throughput, 'get_world_size', lambda: 4)
    run = runner(ThroughputHook())
    run.call('before_run')
    assert len(run.hooks) == 3, 'the clock of the loader is there once'
    iterate(run, clock, 7)
    run.call('before_val')
    run.call('after_val')
    clock.now += 10**6
    run.iter = 20
    run.call('before_train')  # resumed
    run.call('before_train_epoch')
    run.call('before_val')
    run.call('after_val')
    iterate(run, clock, 1, wait=1000)
    iterate(run, clock, 4)
    assert lines(run) == [4 * 2.] * 2


@pytest.mark.parametrize('mfu', [True, False, None])
def test_mfu(tiny_mae, clock, monkeypatch, mfu):
    asked = []
    monkeypatch.setattr(throughput, 'matmul_rate', lambda device, dtype: (asked.append((device.type, dtype)), 1e9)[1])
    monkeypatch.setattr(throughput, 'get_world_size', lambda: 2)
    wrapper = AutocastOptimWrapper(optimizer=torch.optim.AdamW(tiny_mae.parameters()))
    run = runner(ThroughputHook(mfu), tiny_mae, wrapper)
    iterate(run, clock, 10)
    if mfu:
        assert asked == [('cpu', torch.bfloat16)]
        assert lines(run, 'mfu') == pytest.approx([2 * 2. * training_flops(tiny_mae) / 2e9] * 2)
        tiny_mae.masking.mask_ratio = .5
        iterate(run, clock, 5)
        assert lines(run, 'mfu')[-1] == pytest.approx(2 * lines(run)[-1] * training_flops(tiny_mae) / 2 / 2e9)
    else:
        assert not asked and not lines(run, 'mfu'), 'measuring takes a second on the CPU'


def test_images_of_each_kind_of_batch():
    img = torch.zeros(3, 8, 8)
    assert num_images(dict(inputs=torch.stack([img] * 4), data_samples=None)) == 4
    assert num_images(dict(inputs=[img] * 3)) == 3
    assert num_images(dict(inputs=dict(sup=[img], unsup=[img, img]))) == 3
    assert num_images([torch.stack([img] * 2), torch.zeros(2)]) == 2


def test_is_what_the_shared_config_names():
    assert HOOKS.get('ThroughputHook') is ThroughputHook


@pytest.mark.gpu
def test_times_are_those_of_the_device():
    run = runner(ThroughputHook(), torch.nn.Linear(1, 1).cuda())
    weight = torch.randn(8192, 8192, device='cuda')
    for i in range(5):
        run.call('before_train_iter', i, data_batch=dict(inputs=[0] * 8))
        torch.cuda.set_sync_debug_mode('error')
        try:
            for _ in range(10):
                weight = weight @ weight / 90
            if i < 4:
                run.call('after_train_iter', i, data_batch=dict(inputs=[0] * 8), outputs={})
        finally:
            torch.cuda.set_sync_debug_mode('default')
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(40):
        weight = weight @ weight / 90
    end.record()
    run.call('after_train_iter', 4, data_batch=dict(inputs=[0] * 8), outputs={})
    end.synchronize()
    seconds = start.elapsed_time(end) / 1e3 * 2
    assert lines(run)[0] == pytest.approx(8 * 4 / seconds, rel=.3)
