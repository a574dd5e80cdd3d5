"""A ratio that is a function of the iteration, for the masks of training only."""

import copy
from types import SimpleNamespace

import pytest
import torch
from conftest import tiny_mae_cfg
from mmengine.model import MMDistributedDataParallel
from test_fast_step import StandIn, adamw, batch, equal_models, graphed

from mae_plugin.engine import MaskRatioHook
from mae_plugin.registry import HOOKS, MODELS


def run(model, iteration=0, max_iters=20):
    return SimpleNamespace(model=model, iter=iteration, max_iters=max_iters)


def ratios(hook, number=20):
    return [round(hook.ratio(i, number), 6) for i in range(number)]


def test_ratios_by_hand():
    assert ratios(MaskRatioHook(.5, .8, steps=4)) == [.5] * 5 + [.6] * 5 + [.7] * 5 + [.8] * 5
    assert ratios(MaskRatioHook(.8, .6, begin=4, end_iter=10, steps=3)) == [.8] * 6 + [.7] * 2 + [.6] * 12
    assert ratios(MaskRatioHook(.5, .9, shape='cosine', steps=5), 5) == [.5, .558579, .7, .841421, .9]
    assert MaskRatioHook(.1, .7).ratio(19, 20) == .7 and MaskRatioHook(.1, .7).ratio(0, 20) == .1, 'rounded'


def test_there_are_as_many_ratios_as_steps():
    for steps in (2, 8, 16):
        assert len(set(ratios(MaskRatioHook(.5, .9, steps=steps), 1000))) == steps
    assert len(set(ratios(MaskRatioHook(.5, .9), 3))) == 3, 'a run shorter than its steps'


def test_training_has_the_ratio_of_the_iteration_and_validation_its_own(tiny_mae):
    hook = HOOKS.build(dict(type='mae_plugin.MaskRatioHook', start=.5, end=.9))
    hook.before_val(run(tiny_mae))  # before a run
    hook.before_train(run(tiny_mae))
    assert tiny_mae.masking.mask_ratio == .75
    hidden = []
    for i in range(20):
        hook.before_train_iter(run(tiny_mae, i), i)
        hidden.append(int(tiny_mae.masking(torch.zeros(1, 3, 64, 64), (4, 4)).mask.sum()))
        if i == 10:
            hook.before_val(run(tiny_mae, i))
            assert tiny_mae.masking.mask_ratio == .75
    assert hidden == sorted(hidden) and hidden[0] == 8 and hidden[-1] == 15
    hook.after_train(run(tiny_mae))
    assert tiny_mae.masking.mask_ratio == .75


def test_a_wrapped_model_is_unwrapped(tiny_mae, monkeypatch):
    wrapper = MMDistributedDataParallel.__new__(MMDistributedDataParallel)
    torch.nn.Module.__init__(wrapper)
    wrapper.module = tiny_mae
    hook = MaskRatioHook(.5, .9)
    hook.before_train(run(wrapper))
    hook.before_train_iter(run(wrapper, 19), 0)
    assert tiny_mae.masking.mask_ratio == .9


def test_the_graph_is_recorded_anew_for_each_ratio(tiny_mae):
    plain, recorder = copy.deepcopy(tiny_mae), StandIn()
    losses = []
    for model, make in ((tiny_mae, graphed(recorder)), (plain, None)):
        wrapper, hook = adamw(model), MaskRatioHook(.5, .9, steps=3)
        step = make(model, wrapper) if make else model.train_step
        hook.before_train(run(model))
        for i in range(21):
            hook.before_train_iter(run(model, i, 21), i)
            losses.append(step(batch(i), wrapper)['loss'].item())
    assert losses[:21] == losses[21:]
    equal_models(tiny_mae, plain)
    assert recorder.recorded == 3 and recorder.replayed == 3 * (7 - 3)


@pytest.mark.parametrize('changes, message', [
    (dict(start=0.), 'start=0.0'), (dict(end=1.), 'end=1.0'), (dict(shape='step'), "shape='step' is none of 'linear'"),
    (dict(steps=1), 'steps=1'), (dict(begin=5, end_iter=5), 'begin=5 and end_iter=5'), (dict(begin=-1), 'begin=-1')])
def test_settings_out_of_range_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        MaskRatioHook(**dict(dict(start=.5, end=.9), **changes))


def test_a_ratio_that_leaves_nothing_is_refused_at_the_start(tiny_mae):
    with pytest.raises(ValueError, match=r'mask_ratio=0.99 on 16 patches \(4x4\) keeps 0'):
        MaskRatioHook(.5, .99).before_train(run(tiny_mae))


def test_a_ratio_below_what_is_predicted_and_a_change_after_the_run_are_refused(tiny_mae):
    tiny_mae.masking.pred_ratio = .6
    for start, end, name in ((.5, .8, 'start'), (.8, .5, 'end')):
        with pytest.raises(ValueError, match=f'{name}=0.5 hides fewer .*model.masking.pred_ratio=0.6'):
            MaskRatioHook(start, end).before_train(run(tiny_mae))
    with pytest.raises(ValueError, match='begin=20 is not before the end of the run, train_cfg.max_iters=20'):
        MaskRatioHook(.7, .8, begin=20).before_train(run(tiny_mae))
    MaskRatioHook(.6, .8, begin=19).before_train(run(tiny_mae))


def test_masks_without_a_ratio_are_refused():
    model = MODELS.build(dict(tiny_mae_cfg(), masking=dict(type='mae_plugin.NoMasking')))
    for each, name in ((model, 'NoMasking'), (torch.nn.Linear(1, 1), 'NoneType')):
        with pytest.raises(ValueError, match=f'model.masking is a {name}, whose ratio cannot change'):
            MaskRatioHook(.5, .9).before_train(run(each))
