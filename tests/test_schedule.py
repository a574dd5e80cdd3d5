"""The batch a schedule is made for, against the batch of the run."""

import pytest
import torch
from mmengine import Config
from mmengine.model import ExponentialMovingAverage
from tiny.tools import CONFIG, ROOT, run_tool  # noqa: F401

from mae_plugin.utils.run_config import load_config
from mae_plugin.utils.schedule import check_schedule, fit_batch

DETECTION = str(ROOT / 'configs/detection/vitdet_faster-rcnn_vit-mini_digits.py')


def EMA():  # noqa: N802
    return ExponentialMovingAverage(torch.nn.Linear(1, 1))


def config(batch_size=16, recipe=64, **changes):
    return Config(dict(
        recipe=dict(batch_size=recipe), launcher='none',
        train_dataloader=dict(batch_size=batch_size), train_cfg=dict(by_epoch=False, max_iters=100, val_interval=30),
        optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=.1)),
        param_scheduler=[dict(type='LinearLR', by_epoch=False, begin=0, end=10),
                         dict(type='MultiStepLR', by_epoch=False, begin=10, milestones=[50, 75]),
                         dict(type='ConstantLR', by_epoch=True, begin=0, end=7)],
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=20))) | changes)


def counts(cfg):
    linear, steps, epochs = cfg.param_scheduler
    return (cfg.train_cfg.max_iters, cfg.train_cfg.val_interval, linear.begin, linear.end, steps.begin,
            *steps.milestones, epochs.end, cfg.default_hooks.checkpoint.interval)


@pytest.mark.parametrize('fit, accumulated, times', [('accumulate', 4, 4), ('stretch', 1, 4), ('keep', 1, 1)])
def test_a_smaller_batch_sees_as_many_images(fit, accumulated, times):
    cfg = config()
    fit_batch(cfg, fit, 'a.py')
    assert cfg.optim_wrapper.get('accumulative_counts', 1) == accumulated
    assert counts(cfg) == (100 * times, 30 * times, 0, 10 * times, 10 * times, 50 * times, 75 * times, 7, 20 * times)


def test_a_larger_batch_needs_fewer_iterations():
    cfg = config(batch_size=160)
    fit_batch(cfg, 'stretch', 'a.py')
    assert counts(cfg) == (40, 12, 0, 4, 4, 20, 30, 7, 8)
    with pytest.raises(ValueError, match='64 images, the batch of a.py, are no multiple of the 160'):
        fit_batch(config(batch_size=160), 'accumulate', 'a.py')


@pytest.mark.parametrize('launcher, variable', [
    ('pytorch', 'WORLD_SIZE'), ('slurm', 'SLURM_NTASKS'), ('mpi', 'OMPI_COMM_WORLD_SIZE')])
def test_all_processes_count(monkeypatch, launcher, variable):
    monkeypatch.setenv(variable, '4')
    fit_batch(config(launcher=launcher), None, 'a.py')
    with pytest.raises(ValueError, match='here an iteration has 16 '):
        fit_batch(config(), None, 'a.py')


def test_what_the_run_stores_is_not_stretched_again():
    cfg = config()
    fit_batch(cfg, 'stretch', 'a.py')
    once = counts(cfg)
    fit_batch(cfg, 'stretch', 'a.py')
    assert counts(cfg) == once


def test_an_accumulated_run_on_fewer_processes_accumulates_more():
    cfg = config(batch_size=32)
    fit_batch(cfg, 'accumulate', 'a.py')
    cfg.train_dataloader.batch_size = 8  # the stored config, run again
    fit_batch(cfg, 'accumulate', 'a.py')
    assert cfg.optim_wrapper.accumulative_counts == 8 and cfg.train_cfg.max_iters == 800


def test_a_moving_average_of_the_weights_remembers_as_many_images():
    """MMEngine averages at every iteration: after four of a step, it has moved as far as after one of the recipe."""
    cfg = config(custom_hooks=[dict(type='EMAHook', momentum=.1, begin_iter=5), dict(type='EMAHook')])
    fit_batch(cfg, 'accumulate', 'a.py')
    first, second = cfg.custom_hooks
    assert first.begin_iter == 20 and (1 - first.momentum)**4 == pytest.approx(.9)
    assert (1 - second.momentum)**4 == pytest.approx(1 - EMA().momentum)


def test_nothing_is_stretched_to_zero():
    cfg = config(batch_size=6400, param_scheduler=[], default_hooks=dict(checkpoint=dict(interval=-1)))
    fit_batch(cfg, 'stretch', 'a.py')
    assert (cfg.train_cfg.max_iters, cfg.train_cfg.val_interval, cfg.default_hooks.checkpoint.interval) == (1, 1, -1)


def test_schedules_in_epochs_are_refused():
    with pytest.raises(ValueError, match='a.py counts epochs'):
        fit_batch(config(train_cfg=dict(by_epoch=True, max_epochs=3)), 'stretch', 'a.py')


def test_another_batch_without_a_choice_is_refused():
    with pytest.raises(ValueError) as error:
        fit_batch(config(), None, 'a.py')
    assert str(error.value) == (
        'the schedule of a.py is made for batches of 64 images, and here an iteration has 16 '
        '(train_dataloader.batch_size x processes), so that as many iterations would see 0.25 times as many: add '
        '--fit-batch accumulate (4 iterations for a step), stretch (4 times the iterations, the learning rate follows '
        'the batch) or keep (in a '
        'chain, fit_batch in the stage)')
    fit_batch(config(recipe=None), None, 'a.py')
    fit_batch(config(batch_size=64), None, 'a.py')


def test_accumulated_and_scaled_by_the_tool(run_tool, tmp_path):  # noqa: F811
    """Batches of 8 for a schedule of 16: two iterations for a step, and the learning rate of 16 images."""
    options = ['+recipe.batch_size=16', '+auto_scale_lr.enable=True', '+auto_scale_lr.base_batch_size=32']
    code, out, err = run_tool('train', CONFIG, '--work-dir', tmp_path / 'run', '--cfg-options', *options)
    assert code == 1 and 'batches of 16 images, and here an iteration has 8' in err and not (tmp_path / 'run').exists()
    code, out, err = run_tool('train', CONFIG, '--work-dir', tmp_path / 'run', '--fit-batch', 'accumulate',
                              '--cfg-options', *options)
    assert code == 0, err
    assert 'Learning rate: 0.01 for 32; 8 images an iteration x 2 for a step: 0.005' in out + err
    assert (tmp_path / 'run' / 'iter_16.pth').is_file() and 'lr: 5.0000e-03' in out + err


def test_a_warm_up_of_one_iteration_is_refused():
    cfg = load_config(DETECTION, ['param_scheduler.0.end=1', 'param_scheduler.1.begin=1'])
    with pytest.raises(ValueError, match=r'param_scheduler.0 \(LinearLR\) begins at 0 and ends at 1'):
        check_schedule(cfg)
    cfg = load_config(DETECTION, ['param_scheduler.0.end=2', 'param_scheduler.1.begin=2'])
    check_schedule(cfg)
