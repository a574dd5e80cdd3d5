"""Checkpoints hold plain things only and are resumed from exactly; and one that is loaded must fit the model."""

import functools
import logging
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer, MessageHub
from tiny.tools import CONFIG, assert_plain

from mae_plugin.engine.checkpoint_hooks import CheckpointFitsHook, PlainCheckpointHook
from mae_plugin.utils.run_config import load_config
from mae_plugin.weights.safe_load import load_file

pytest_plugins = ['tiny.tools']


@pytest.fixture
def runner():
    return SimpleNamespace(model=torch.nn.Linear(3, 2), _load_from='iter_4.pth', _resume=False, param_schedulers=[])


class Pair(NamedTuple):
    a: object
    b: object


def saved(content):
    """A copy of ``content`` as the hook would have it saved."""
    content = dict(content)
    PlainCheckpointHook().before_save_checkpoint(None, content)
    return content


def test_what_numpy_makes_becomes_plain_with_its_values(tmp_path):
    palette = np.arange(6, dtype=np.uint8).reshape(2, 3)
    live = dict(
        array=palette, turned=palette[:, ::-1], fortran=np.asfortranarray(palette), big=np.array([1, 2], '>i4'),
        half=np.array(.5, np.float16), truth=np.array([True]), empty=np.zeros((0, 2)), text=np.array(['a', 'bc']),
        number=np.float64(.1), count=np.int64(7), flag=np.bool_(True), word=np.str_('x'), single=np.float32(.5),
        nested=[(1, {np.int64(3): np.arange(2)}), Pair(np.float32(2), None)], names={'b'}, size=torch.Size([2]))
    torch.save(saved(live), tmp_path / 'a.pth')
    assert_plain(tmp_path / 'a.pth')
    read = torch.load(tmp_path / 'a.pth', weights_only=True)
    for name in ('array', 'turned', 'fortran', 'big', 'half', 'truth', 'empty'):
        np.testing.assert_array_equal(read[name].numpy(), live[name])
        assert read[name].numpy().dtype == live[name].dtype.newbyteorder('=')
    assert read['nested'][0][1][3].tolist() == [0, 1] and read['nested'][1] == (2., None)
    plain = {name: read[name] for name in ('text', 'number', 'count', 'flag', 'word', 'single', 'names', 'size')}
    assert plain == dict(text=['a', 'bc'], number=.1, count=7, flag=True, word='x', single=.5, names={'b'}, size=(2, ))
    assert {type(value) for value in plain.values()} == {list, float, int, bool, str, set, torch.Size}
    assert live['array'] is palette and type(live['number']) is np.float64


def test_weights_are_neither_copied_nor_stripped_of_their_versions():
    module = torch.nn.BatchNorm1d(3)
    content = dict(state_dict=module.state_dict(), optimizer=dict(state={0: dict(exp_avg=torch.ones(2))}))
    plain = saved(content)
    assert plain['state_dict'] is content['state_dict'] and plain['state_dict']._metadata
    assert plain['optimizer']['state'][0]['exp_avg'] is content['optimizer']['state'][0]['exp_avg']


def test_what_cannot_be_plain_is_left_out_and_named_once(monkeypatch):
    said = []
    monkeypatch.setattr('mae_plugin.engine.checkpoint_hooks.print_log', lambda text, **how: said.append((text, how)))
    hook = PlainCheckpointHook()
    for _ in range(2):
        content = dict(meta=dict(plan=functools.partial(int), epoch=2), param_schedulers=[dict(func=len, end=4)],
                       stages=(1, object()), more=object())
        hook.before_save_checkpoint(None, content)
    assert content == dict(meta=dict(epoch=2), param_schedulers=[dict(end=4)], stages=(1, None))
    assert [text.split()[0] for text, _ in said] == ['meta.plan', 'param_schedulers.0.func', 'stages.1', 'more']
    assert 'functools.partial' in said[0][0] and said[0][1]['level'] == logging.WARNING


def hub_with_history():
    hub = MessageHub('live')
    for i in range(5):
        hub.update_scalar('train/loss', 1 / (i + 1))
        hub.update_scalar('val/count', i, count=3)
    hub.log_scalars['train/loss'].max_length = 5
    hub.update_info('confusion', np.eye(2))
    hub.update_info('pair', (1, np.float64(2)))
    return hub


def test_the_message_hub_keeps_its_buffers_and_gets_them_back(runner, tmp_path):
    live = hub_with_history()
    torch.save(saved(dict(message_hub=live.state_dict())), tmp_path / 'a.pth')
    assert type(live.log_scalars['train/loss']) is HistoryBuffer and type(live.get_info('confusion')) is np.ndarray
    checkpoint = torch.load(tmp_path / 'a.pth', weights_only=True)
    PlainCheckpointHook().after_load_checkpoint(runner, checkpoint)
    resumed = MessageHub('resumed')
    resumed.load_state_dict(checkpoint['message_hub'])
    assert_same_history(live, resumed)
    np.testing.assert_array_equal(resumed.get_info('confusion'), np.eye(2))
    assert resumed.get_info('pair') == (1, 2.)
    for hub in (live, resumed):
        hub.update_scalar('train/loss', 9.)  # the oldest goes: the buffer is full
    assert_same_history(live, resumed)


def assert_same_history(a, b, names=('train/loss', 'val/count')):
    for name in names:
        one, two = a.log_scalars[name], b.log_scalars[name]
        assert type(two) is HistoryBuffer and one.max_length == two.max_length
        for mine, other in zip(one.data, two.data, strict=True):
            np.testing.assert_array_equal(mine, other)
            assert mine.dtype == other.dtype


def test_older_checkpoints_are_left_as_they_are(runner):
    hub = hub_with_history().state_dict()
    buffer, matrix = hub['log_scalars']['train/loss'], hub['runtime_info']['confusion']
    PlainCheckpointHook().after_load_checkpoint(runner, dict(message_hub=hub))
    assert hub['log_scalars']['train/loss'] is buffer and hub['runtime_info']['confusion'] is matrix
    PlainCheckpointHook().after_load_checkpoint(runner, dict(weight=torch.ones(1)))  # weights alone


@pytest.mark.parametrize('change, same', [({}, True), (dict(classes=('a', 'c')), False)])
def test_mmengine_compares_the_classes_as_before(runner, change, same):
    """It warns where the pickles differ."""
    ours = dict(classes=('a', np.str_('b')), palette=np.arange(6).reshape(2, 3), colour=(np.uint8(3), ))
    checkpoint = saved(dict(meta=dict(dataset_meta=ours | change)))
    runner._resume = True
    runner.train_dataloader = SimpleNamespace(dataset=SimpleNamespace(metainfo=ours))
    PlainCheckpointHook().after_load_checkpoint(runner, checkpoint)
    assert (checkpoint['meta']['dataset_meta'] is ours) is same


EPOCHS = ['train_cfg={"by_epoch":True,"max_epochs":2}', 'default_hooks.checkpoint.by_epoch=True',
          'default_hooks.checkpoint.interval=1', '+default_hooks.checkpoint.save_best=mse',
          '+default_hooks.checkpoint.rule=less',
          'train_dataloader.sampler.type=DefaultSampler', 'param_scheduler=[{"type":"OneCycleLR","total_steps":16,'
          '"eta_max":0.1,"by_epoch":False}]', '+custom_hooks=[{"type":"EMAHook"}]']


def test_epochs_averages_and_a_schedule_with_a_function(run_tool, tmp_path):
    """The state of OneCycleLR holds a function, which the resumed run has of its own."""
    halves, whole = tmp_path / 'halves', tmp_path / 'whole'
    code, out, err = run_tool('train', CONFIG, '--work-dir', whole, '--cfg-options', *EPOCHS)
    assert code == 0 and out.count('anneal_func is left out') == 1, out + err
    checkpoints = sorted(whole.glob('*.pth'))
    assert len(checkpoints) == 3  # two epochs and the best
    for file in checkpoints:
        assert_plain(file)
    halves.mkdir()
    (halves / 'epoch_1.pth').symlink_to(whole / 'epoch_1.pth')
    code, out, err = run_tool('train', CONFIG, '--work-dir', halves, '--resume', '--cfg-options', *EPOCHS)
    assert code == 0 and 'skip resuming' not in out + err and 'is no `ema_state_dict`' not in out + err, out + err
    a, b = (torch.load(folder / 'epoch_2.pth', weights_only=True) for folder in (whole, halves))
    for part in ('state_dict', 'ema_state_dict'):
        assert a[part].keys() == b[part].keys() and all(torch.equal(a[part][name], b[part][name]) for name in a[part])
    assert a['param_schedulers'] == b['param_schedulers'] and len(a['param_schedulers']) == 1
    assert run_tool('test', CONFIG, halves / 'epoch_2.pth', '--work-dir', tmp_path / 'test')[0] == 0


def test_old_and_new_checkpoints_resume_to_the_same(run_tool, tmp_path):
    """Weights and log histories, of the undisturbed run too."""
    assert run_tool('train', CONFIG, '--work-dir', tmp_path / 'new')[0] == 0
    old_style = load_config(CONFIG)
    old_style.default_hooks.pop('plain')
    old_style.dump(tmp_path / 'old.py')
    assert run_tool('train', tmp_path / 'old.py', '--work-dir', tmp_path / 'old', '--cfg-options',
                    'train_cfg.max_iters=4')[0] == 0
    with pytest.raises(AssertionError):
        assert_plain(tmp_path / 'old/iter_4.pth')
    runs = [tmp_path / 'new']
    for name, source in (('resumed', 'new'), ('resumed_old', 'old')):
        runs.append(tmp_path / name)
        runs[-1].mkdir()
        (runs[-1] / 'iter_4.pth').symlink_to(tmp_path / source / 'iter_4.pth')
        code, out, err = run_tool('train', CONFIG, '--work-dir', runs[-1], '--resume')
        assert code == 0 and 'skip resuming' not in out + err, out + err
    hubs = []
    for run in runs:
        assert_plain(run / 'iter_8.pth')
        checkpoint = load_file(run / 'iter_8.pth')
        PlainCheckpointHook().after_load_checkpoint(SimpleNamespace(_resume=False), checkpoint)
        hubs.append(MessageHub(f'of {run.name}'))
        hubs[-1].load_state_dict(checkpoint['message_hub'])
    timeless = ['train/loss', 'train/other_loss', 'train/lr']  # a validation at 4 comes after the checkpoint
    for hub in hubs[1:]:
        assert_same_history(hubs[0], hub, timeless)
    states = [load_file(run / 'iter_8.pth')['state_dict'] for run in runs]
    assert all(torch.equal(states[0][name], state[name]) for name in states[0] for state in states[1:])


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


@pytest.mark.parametrize('hook', [CheckpointFitsHook(), CheckpointFitsHook(resume=True), CheckpointFitsHook(part='we')])
def test_numbers_that_are_none_are_counted(runner, hook):
    content = checkpoint(torch.nn.Linear(3, 2))
    content['state_dict']['weight'][0, :2] = torch.tensor([torch.nan, -torch.inf])
    with pytest.raises(ValueError, match=r'iter_4.pth holds NaN or infinite .* 1 of its 2 .* 2 of 6 in weight'):
        hook.after_load_checkpoint(runner, content)
    content['state_dict']['weight'].zero_()
    hook.after_load_checkpoint(runner, content)
    if not hook.resume:  # a file of weights beside which the model has no place
        hook.after_load_checkpoint(runner, dict(content['state_dict'], more=torch.tensor([torch.nan])))


@pytest.mark.parametrize('content, project', [
    (dict(model={'patch_embed.proj.weight': 0, 'blocks.0.norm1.weight': 0}), 'authors'),
    ({'patch_embed.proj.weight': 0, 'blocks.0.norm1.weight': 0}, 'timm'),
    ({'vit.embeddings.patch_embeddings.projection.weight': 0}, 'huggingface'),
    (dict(state_dict={'backbone.layers.0.ln1.weight': 0}), 'mmpretrain'),
])
def test_files_of_others_are_to_be_converted(runner, content, project):
    with pytest.raises(ValueError, match=f'{project}. In place of load_from, let the backbone have init_cfg'):
        CheckpointFitsHook(part='weight').after_load_checkpoint(runner, content)
    message = rf'{project}: convert it with tools/convert_checkpoint.py iter_4.pth OUT --to plugin'
    with pytest.raises(ValueError, match=message):
        CheckpointFitsHook().after_load_checkpoint(runner, content)
    with pytest.raises(ValueError, match='of another model: 2 of the 2 tensors are missing [^.]*$'):
        CheckpointFitsHook().after_load_checkpoint(runner, {'backbone.blocks.0.norm1.weight': 0})
    with pytest.raises(ValueError, match=': it is one of pretraining, and of encoder is expected'):
        CheckpointFitsHook().after_load_checkpoint(
            runner, {'backbone.blocks.0.norm1.weight': 0, 'neck.decoder_embed.weight': 0})


def test_load_from_needs_the_backbone_and_not_the_head(run_tool, tmp_path):
    assert run_tool('train', CONFIG, '--work-dir', tmp_path / 'first', '--cfg-options', 'train_cfg.max_iters=4')[0] == 0
    start = tmp_path / 'first/iter_4.pth'
    content = load_file(start)
    content['state_dict']['head.weight'] = torch.zeros(3, 4)
    torch.save(content, start)
    options = ['--cfg-options', f'load_from={start}', 'train_cfg.max_iters=1', 'optim_wrapper.optimizer.lr=0',
               'default_hooks.checkpoint.interval=1', 'param_scheduler=[]']
    code, out, err = run_tool('train', CONFIG, '--work-dir', tmp_path / 'second', *options)
    assert code == 0 and out.count(f'only the weights of {start}; --resume') == 1, out + err
    after = load_file(tmp_path / 'second/iter_1.pth')['state_dict']
    assert torch.equal(after['backbone.weight'], content['state_dict']['backbone.weight'])

    del content['optimizer'], content['state_dict']['backbone.bias']
    torch.save(content, start)
    code, _, err = run_tool('train', CONFIG, '--work-dir', tmp_path / 'third', *options)
    assert code == 1 and '1 of the 2 tensors are missing (the first: backbone.bias)' in err
    assert 'MAEPretrained' in err and str(start) in err


def test_what_is_no_checkpoint(run_tool, tmp_path):
    for content, text in (([1], 'holds a list'), (torch.ones(2), 'holds a Tensor'),
                          ({1: torch.ones(1)}, '4 of the 4 tensors')):
        torch.save(content, tmp_path / 'other.pth')
        code, _, err = run_tool('test', CONFIG, tmp_path / 'other.pth', '--work-dir', tmp_path / 'run')
        assert code == 1 and text in err and 'other.pth' in err
