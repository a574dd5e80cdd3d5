"""A chain hands checkpoints on, repeats nothing, mixes nothing up, and says what went wrong."""

import hashlib
import json
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest
from tiny.tools import CONFIG, ROOT, environment

from mae_plugin.utils import chain as chain_module
from mae_plugin.utils.chain import Chain, Stage, final_metrics, read_stages

pytest_plugins = ['tiny.tools']
INIT = {'model.backbone.init_cfg': dict(type='Pretrained', checkpoint='')}


def stages(**changes):
    """Two tasks on one pretraining, with the ``cfg_options`` of stages named in ``changes``."""
    return [
        Stage('pretrain', config=CONFIG, cfg_options=changes.get('pretrain', {})),
        Stage('detect', config=CONFIG, init_from='pretrain', cfg_options=INIT | changes.get('detect', {})),
        Stage('scratch', config=CONFIG, cfg_options=changes.get('scratch', {})),
    ]


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / 'tests' / 'tiny'))


@pytest.fixture
def launched(monkeypatch):
    """The commands that stages ran; each leaves what a training leaves. Stages in ``launched.fail`` fail half-way."""
    class Launched(list):
        fail = ()
    commands = Launched()

    def train(command, log, name, show_all, lock):
        commands.append((name, command))
        folder = log.parent
        (folder / 'iter_4.pth').write_text(' '.join(command))
        if name in commands.fail:
            return 1, ['a line', 'error: it broke', 'a later line']
        (folder / 'iter_8.pth').write_text(' '.join(command[2:]))
        (folder / 'last_checkpoint').write_text(str(folder / 'iter_8.pth'))
        (folder / 'now' / 'vis_data').mkdir(parents=True, exist_ok=True)
        (folder / 'now' / 'vis_data' / 'scalars.json').write_text(
            '{"lr": 0.1, "loss": 2.0, "step": 8}\n{"mse": 0.5, "time": 0.1, "data_time": 0.1, "step": 8}\n')
        return 0, []
    monkeypatch.setattr(chain_module, '_run_logged', train)
    return commands


def record(tmp_path):
    return json.loads((tmp_path / 'chain.json').read_text())


def names(launched):
    return [name for name, _ in launched]


def test_runs_in_order_and_hands_the_checkpoint_on(tmp_path, launched):
    chain = Chain(stages(pretrain={'train_cfg.max_iters': 6}), tmp_path)
    chain.run()
    assert names(launched) == ['pretrain', 'detect', 'scratch']
    checkpoint = tmp_path / 'pretrain' / 'iter_8.pth'
    pretrain, detect, scratch = (command for _, command in launched)
    assert pretrain[:3] == [sys.executable, str(ROOT / 'tools' / 'train.py'), CONFIG]
    assert 'train_cfg.max_iters=6' in pretrain and '--resume' not in pretrain
    assert f'model.backbone.init_cfg.checkpoint={checkpoint}' in detect
    assert scratch[-2:] == ['--work-dir', str(tmp_path / 'scratch')]
    entry = record(tmp_path)
    digest = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert entry['pretrain']['checkpoint_sha256'] == entry['detect']['parent_sha256'] == digest
    assert entry['pretrain']['metrics'] == {'mse': 0.5} and entry['pretrain']['images_seen'] == 48
    assert {stage['status'] for stage in entry.values()} == {'finished'}
    assert '48' in chain.plan() and 'mse 0.5' in chain.summary() and digest[:12] in chain.summary()


def test_a_stage_fits_its_batch(tmp_path, launched):
    """Batches of 8 in two processes, for a schedule of 64."""
    stage = Stage('pretrain', config=CONFIG, gpus=2, cfg_options={'+recipe.batch_size': 64})
    with pytest.raises(ValueError, match=r"stage 'pretrain': .*batches of 64 images, and here an iteration has 16"):
        Chain([stage], tmp_path)
    chain = Chain([replace(stage, fit_batch='accumulate')], tmp_path)
    assert chain.configs['pretrain'].train_cfg.max_iters == 8 * 4
    chain.run()
    (_, command), = launched
    assert command[command.index('--fit-batch') + 1] == 'accumulate'


def test_finished_stages_are_not_run_again(tmp_path, launched):
    Chain(stages(), tmp_path).run()
    Chain(stages(), tmp_path).run()
    assert len(launched) == 3


def test_number_of_workers_does_not_matter(tmp_path, launched):
    Chain(stages(), tmp_path).run()
    Chain(stages(pretrain={'train_dataloader.num_workers': 2, 'log_level': 'ERROR'}), tmp_path).run()
    assert len(launched) == 3


def test_a_failure_stops_the_chain_and_the_next_call_goes_on(tmp_path, launched, capfd):
    launched.fail = ('detect',)
    with pytest.raises(ValueError, match="'detect' failed with exit code 1: it broke .*chain.log"):
        Chain(stages(), tmp_path).run()
    assert 'a later line' in capfd.readouterr().err
    launched.fail = ()
    chain = Chain(stages(), tmp_path)
    assert [chain.state(stage) for stage in chain.stages.values()] == ['finished', 'continues', 'new']
    chain.run()
    assert names(launched) == ['pretrain', 'detect', 'detect', 'scratch']
    assert ['--resume' in command for _, command in launched] == [False, False, True, False]


def test_one_call_at_a_time(tmp_path, launched):
    with chain_module._alone_in(tmp_path), pytest.raises(ValueError, match='is in use by another call'):
        Chain(stages(), tmp_path).run()
    assert not launched
    late = Chain(stages(), tmp_path)
    Chain(stages(), tmp_path).run()
    late.run()  # what the other did since is known
    assert len(launched) == 3


def test_stages_side_by_side(tmp_path, launched, monkeypatch):
    """What comes from random weights does not wait; what a command makes is waited for by all."""
    train, release = chain_module._run_logged, threading.Event()

    def slow(command, log, name, show_all, launcher):
        if name == 'pretrain':
            assert release.wait(30)  # 'scratch' begins although this one has not ended
        if name == 'scratch':
            release.set()
        if name in ('data', 'late'):
            launched.append((name, command))
            return 0, []
        return train(command, log, name, show_all, launcher)
    monkeypatch.setattr(chain_module, '_run_logged', slow)
    both = [Stage('data', command=['true']), *stages(), Stage('late', command=['true'])]
    chain = Chain(both, tmp_path)
    chain.run(jobs=2)
    assert names(launched)[0] == 'data' and names(launched)[-1] == 'late'
    assert names(launched).index('pretrain') < names(launched).index('detect')
    assert {stage['status'] for stage in record(tmp_path).values()} == {'finished'}
    with pytest.raises(ValueError, match='--jobs 0'):
        chain.run(jobs=0)
    with pytest.raises(ValueError, match="one process, and stage 'pretrain' has several"):
        Chain(stages(), tmp_path, gpus=2).run(jobs=2)


def test_what_a_stage_runs_holds_the_lock(tmp_path):
    """It may outlive the chain that was killed."""
    code = ('import os, sys; files = [os.path.realpath(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd")]; '
            f'sys.exit({str(tmp_path / "lock")!r} not in files)')
    Chain([Stage('look', command=['python', '-c', code])], tmp_path).run()


def test_changed_input_is_refused_or_run_again_on_request(tmp_path, launched):
    Chain(stages(), tmp_path).run()
    changed = stages(pretrain={'optim_wrapper.optimizer.lr': 0.5})
    chain = Chain(changed, tmp_path)
    assert [chain.state(stage) for stage in chain.stages.values()] == ['changed', 'waits', 'finished']
    with pytest.raises(ValueError, match="'pretrain' .*optimizer.lr: 0.01 -> 0.5.*--rerun.*--work-dir"):
        chain.run()
    assert len(launched) == 3
    old = (tmp_path / 'pretrain' / 'iter_8.pth').read_text()
    Chain(changed, tmp_path, rerun=True).run()
    assert names(launched)[3:] == ['pretrain', 'detect']  # scratch does not depend on it
    assert '--resume' not in launched[3][1]
    assert (tmp_path / 'pretrain.old1' / 'iter_8.pth').read_text() == old
    Chain(stages(), tmp_path, rerun=True).run()
    assert (tmp_path / 'pretrain.old2').is_dir()


def test_an_interrupted_stage_with_changed_input_is_not_continued(tmp_path, launched):
    launched.fail = ('pretrain',)
    for changes in ({}, {'optim_wrapper.optimizer.lr': 0.5}):
        with pytest.raises(ValueError, match='failed' if not changes else 'other input'):
            Chain(stages(pretrain=changes), tmp_path).run()
    (tmp_path / 'pretrain' / 'iter_4.pth').unlink()  # nothing to lose: begun anew
    with pytest.raises(ValueError, match='failed'):
        Chain(stages(pretrain={'optim_wrapper.optimizer.lr': 0.5}), tmp_path).run()
    assert '--resume' not in launched[-1][1]


def test_a_removed_folder_is_made_again(tmp_path, launched):
    Chain(stages(), tmp_path).run()
    (tmp_path / 'scratch').rename(tmp_path / 'elsewhere')
    Chain(stages(), tmp_path).run()
    assert names(launched)[3:] == ['scratch']


def test_a_moved_chain_stays_finished(tmp_path, launched):
    Chain(stages(), tmp_path / 'a').run()
    (tmp_path / 'a').rename(tmp_path / 'b')
    Chain(stages(), tmp_path / 'b').run()
    assert len(launched) == 3


def test_a_parent_that_is_not_what_it_was(tmp_path, launched):
    launched.fail = ('detect',)
    for change in ('write', 'remove'):
        with pytest.raises(ValueError, match='failed'):
            Chain(stages(), tmp_path / change).run()
        checkpoint = tmp_path / change / 'pretrain' / 'iter_8.pth'
        checkpoint.write_text('another') if change == 'write' else checkpoint.unlink()
        with pytest.raises(ValueError, match='SHA-256 differs' if change == 'write' else 'which is gone'):
            Chain(stages(), tmp_path / change).run()


def test_processes_of_each_stage(tmp_path, launched):
    chain = Chain(stages(), tmp_path, gpus=4)
    chain.run()
    assert launched[0][1][:4] == ['bash', str(ROOT / 'tools' / 'dist_train.sh'), CONFIG, '4']
    assert record(tmp_path)['pretrain']['images_seen'] == 8 * 8 * 4


def test_a_stage_may_say_its_number_of_processes(tmp_path, launched):
    first, *rest = stages()
    chain = Chain([replace(first, gpus=2), *rest], tmp_path)
    chain.run()
    assert launched[0][1][:4] == ['bash', str(ROOT / 'tools' / 'dist_train.sh'), CONFIG, '2']
    assert launched[1][1][0] != 'bash'
    assert record(tmp_path)['pretrain']['images_seen'] == 8 * 8 * 2
    with pytest.raises(ValueError, match="'pretrain' was run with other input .*processes: 2 -> 1"):
        Chain(stages(), tmp_path).run()


def test_another_number_of_processes_is_other_input(tmp_path, launched):
    Chain(stages(), tmp_path).run()
    Chain(stages(), tmp_path, gpus=1).run()  # one process, too
    assert len(launched) == 3
    with pytest.raises(ValueError, match="'pretrain' was run with other input .*processes: 1 -> 8"):
        Chain(stages(), tmp_path, gpus=8).run()


def test_checkpoints_without_a_record(tmp_path, launched):
    Chain(stages(), tmp_path).run()
    (tmp_path / 'chain.json').unlink()
    chain = Chain(stages(), tmp_path)
    assert 'unknown' in chain.plan()
    with pytest.raises(ValueError, match="'pretrain' has .*iter_8.pth, of which .*chain.json says nothing: --rerun"):
        chain.run()
    Chain(stages(), tmp_path, rerun=True).run()
    assert len(launched) == 6 and (tmp_path / 'pretrain.old1' / 'iter_8.pth').is_file()


def test_the_time_of_a_deleted_run_is_not_counted(tmp_path, launched):
    launched.fail = ('pretrain',)
    with pytest.raises(ValueError, match='failed'):
        Chain(stages()[:1], tmp_path).run()
    spent = record(tmp_path)
    spent['pretrain']['seconds'] = 1000
    (tmp_path / 'chain.json').write_text(json.dumps(spent))
    launched.fail = ()
    for deleted in (False, True):
        if deleted:
            shutil.rmtree(tmp_path / 'pretrain')
            (tmp_path / 'chain.json').write_text(json.dumps(spent))
        Chain(stages()[:1], tmp_path).run()
        assert (record(tmp_path)['pretrain']['seconds'] < 1000) == deleted
        assert ('--resume' in launched[-1][1]) != deleted


def test_commands(tmp_path, launched):
    made = tmp_path / 'made'
    prepare = Stage('prepare', command=['python', 'tools/x.py', 'a b'], creates=str(made))
    Chain([prepare], tmp_path).run()
    assert launched[0][1] == [sys.executable, 'tools/x.py', 'a b']
    Chain([prepare], tmp_path).run()
    made.touch()
    Chain([prepare], tmp_path).run()
    assert len(launched) == 2  # run again only while what it creates is not there


@pytest.mark.parametrize('raw, options, message', [
    (None, [], 'is not a chain'),
    ([dict(name='a', config='x.py', init='b')], [], "no 'init'"),
    ([dict(name='a', config='x.py'), dict(name='a', config='x.py')], [], "'a' is no name"),
    ([dict(name='a/b', config='x.py')], [], "'a/b' is no name"),
    ([dict(name='a')], [], 'either a config or a command'),
    ([dict(name='a', config='x.py', init_from='b')], [], "'b', which is no stage trained before it: none"),
    ([dict(name='a', config='x.py')], ['b.lr=1'], 'STAGE.key=value'),
    ([dict(name='a', config='x.py')], ['a.lr'], 'STAGE.key=value'),
])
def test_broken_chains(raw, options, message):
    with pytest.raises(ValueError, match=message):
        read_stages(raw, options, 'chain.py')


def test_options_of_a_stage():
    one, two = read_stages([dict(name='a', config='x.py', cfg_options={'k': 1}), dict(name='b', config='x.py')],
                           ['a.optim.lr=0.5', 'b.+new=[1,2]'], 'chain.py')
    assert one.options(None) == ['k=1', 'optim.lr=0.5'] and two.options(None) == ['+new=[1, 2]']


def test_mistakes_in_the_configs_come_first(tmp_path, launched):
    with pytest.raises(ValueError, match="stage 'scratch': .*optim_wrapper.optimizer.lr"):
        Chain(stages(scratch={'optim_wraper.optimizer.lr': 1}), tmp_path)
    with pytest.raises(ValueError, match="stage 'task': .*init_cfg"):
        Chain([Stage('pretrain', config=CONFIG), Stage('task', config=CONFIG, init_from='pretrain')], tmp_path)
    assert not launched


def test_metrics_without_validation(tmp_path):
    assert final_metrics(tmp_path) == {}
    for run, loss in (('1', 3.), ('2', 2.)):
        (tmp_path / run / 'vis_data').mkdir(parents=True)
        (tmp_path / run / 'vis_data' / 'scalars.json').write_text(json.dumps(dict(lr=1., loss=loss, step=1)) + '\n')
    assert final_metrics(tmp_path) == {'loss': 2.}


def test_the_tool_plans_runs_and_reports(run_tool, tmp_path, monkeypatch, launched):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(signal, 'signal', lambda *_: None)
    arguments = ['tests/tiny/tiny_chain.py', '--work-dir', tmp_path / 'work']
    code, out, _ = run_tool('chain', *arguments, '--dry-run')
    assert code == 0 and not launched and 'train.py' in out and '<checkpoint of pretrain>' in out
    code, out, _ = run_tool('chain', *arguments, '--cfg-options', 'scratch.train_cfg.max_iters=2')
    assert code == 0 and names(launched) == ['prepare', 'pretrain', 'detect', 'scratch'] and 'mse 0.5' in out
    launched.fail = ('scratch',)
    code, out, err = run_tool('chain', *arguments, '--rerun')
    assert code == 1 and "stage 'scratch' failed" in err and 'Traceback' not in err


def test_a_real_stage_and_its_end_by_signal(tmp_path):
    """A real training, ended from outside with the chain, and carried on by the same command."""
    (tmp_path / 'chain.py').write_text(
        f'stages = [dict(name="pretrain", config={CONFIG!r}, cfg_options={{"default_hooks.checkpoint.interval": 50}})]')
    command = [sys.executable, ROOT / 'tools' / 'chain.py', tmp_path / 'chain.py', '--work-dir', tmp_path / 'work',
               '--cfg-options', 'pretrain.train_cfg.max_iters=100000', 'pretrain.train_cfg.val_interval=100000']
    process = subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    for line in process.stdout:
        if re.search(r'Iter\(train\) \[ *100/', line):
            break
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 143
    process.stdout.close()
    log = tmp_path / 'work' / 'pretrain' / 'chain.log'
    size = log.stat().st_size
    time.sleep(0.5)
    assert log.stat().st_size == size  # the training ended, too
    assert record(tmp_path / 'work')['pretrain']['status'] == 'started'
    assert (tmp_path / 'work' / 'pretrain' / 'last_checkpoint').is_file()

    chain = Chain([Stage('pretrain', config=CONFIG, cfg_options={
        'default_hooks.checkpoint.interval': 50, 'train_cfg.max_iters': 100000, 'train_cfg.val_interval': 100000})],
        tmp_path / 'work')
    assert chain.state(chain.stages['pretrain']) == 'continues' and '--resume' in chain.commands()[0]
