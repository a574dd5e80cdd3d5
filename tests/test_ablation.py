"""An ablation runs each content once, goes on after failures and interruptions, and reports what was logged."""

import csv
import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny.tools import CONFIG, ROOT, environment

from mae_plugin.utils import chain as chain_module
from mae_plugin.utils.ablation import Ablation
from mae_plugin.utils.run_config import load_config

pytest_plugins = ['tiny.tools']
ABLATIONS = sorted((ROOT / 'configs' / 'ablations').glob('*.py'))
INIT = {'model.backbone.init_cfg': dict(type='Pretrained', checkpoint='')}
LR = 'optim_wrapper.optimizer.lr'


def config(**changes):
    """Three learning rates, one of them the default's, of a pretraining that a task starts from."""
    return dict(
        title='Learning rate',
        metrics={'error': ('task', 'mse')},
        stages=[dict(name='pretrain', config=CONFIG), dict(name='task', config=CONFIG, init_from='pretrain',
                                                           cfg_options=INIT)],
        cells={'0.01': {}, '0.1': dict(pretrain={LR: .1}), '1': dict(pretrain={LR: 1.})}) | changes


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / 'tests' / 'tiny'))


@pytest.fixture
def launched(monkeypatch):
    """(stage, learning rate, seed, whether it resumes) of each training; it leaves as its error ten times the rate.

    Those whose learning rate is ``launched.fail`` fail; those of ``launched.interrupt`` are interrupted half-way.
    """
    class Launched(list):
        fail = interrupt = None
        width = 7
    calls = Launched()

    def train(command, log, name, show_all, lock):
        options = dict(option.split('=', 1) for option in command[command.index('--cfg-options') + 1:])
        start = options.get('model.backbone.init_cfg.checkpoint')
        rate = float(options.get(LR, torch.load(start)['rate'] if start else .01))
        calls.append((name, rate, int(options['randomness.seed']), '--resume' in command))
        torch.save(dict(state_dict={'w': torch.zeros(calls.width)}, rate=rate), log.parent / 'iter_8.pth')
        if rate == calls.interrupt:
            raise KeyboardInterrupt
        if rate == calls.fail:
            return 1, ['error: it diverged']
        (log.parent / 'now' / 'vis_data').mkdir(parents=True, exist_ok=True)
        result = dict(mse=10 * rate + int(options['randomness.seed']), step=8)
        (log.parent / 'now' / 'vis_data' / 'scalars.json').write_text(json.dumps(result) + '\n')
        return 0, []
    monkeypatch.setattr(chain_module, '_run_logged', train)
    return calls


def table_of(ablation):
    with open(ablation.folder / 'table.csv') as file:
        return {row['cell']: row for row in csv.DictReader(file)}


def test_runs_every_cell_and_reports_what_was_logged(tmp_path, launched):
    paper = {'0.1': {'error': 3.25}}
    ablation = Ablation(config(paper=paper, note='Tiny.'), 'rates.py', tmp_path)
    ablation.run()
    assert launched == [(stage, rate, 0, False) for rate in (.01, .1, 1.) for stage in ('pretrain', 'task')]
    table = table_of(ablation)
    assert {cell: float(row['error']) for cell, row in table.items()} == {'0.01': .1, '0.1': 1., '1': 10.}
    assert table['0.1']['error paper'] == '3.25' and table['1']['error paper'] == table['1']['error std'] == ''
    assert table['1']['parameters'] == '7' and float(table['1']['seconds']) >= 0
    text = (ablation.folder / 'table.md').read_text()
    assert text.startswith('Tiny.\n`rates.py`, size default; iterations by default: pretrain 8, task 8; one seed')
    assert re.search(r'\| 0.1 \| 1.0 \| 3.2 \| 0.0 \|', text) and re.search(r'\| 1 \| 10.0 \| – \| 0.0 \|', text)


def test_seeds_give_mean_and_spread(tmp_path, launched):
    ablation = Ablation(config(), 'rates.py', tmp_path, seeds=3)
    ablation.run()
    assert [seed for stage, rate, seed, _ in launched if stage == 'task' and rate == .1] == [0, 1, 2]
    row = table_of(ablation)['0.1']  # 1, 2, 3
    assert [float(row[f'error{column}']) for column in ('', ' std', ' run 0', ' run 2')] == [2., 1., 1., 3.]
    assert '| 2.0 ± 1.0 |' in (ablation.folder / 'table.md').read_text()


def test_finished_cells_are_not_run_again_and_the_default_is_shared(tmp_path, launched, capfd):
    Ablation(config(), 'rates.py', tmp_path).run()
    count = len(launched)
    Ablation(config(), 'rates.py', tmp_path).run()
    assert len(launched) == count
    other = Ablation(config(cells={'none': {}, 'same': dict(task={LR: .01}), '8': dict(task={LR: 8.})}), 'other.py',
                     tmp_path)
    plan = other.plan()
    assert "nothing: it is 'none'" in plan and 'task: config.optim_wrapper.optimizer.lr: 0.01 -> 8.0' in plan
    other.run()
    assert launched[count:] == [('pretrain', .01, 0, False), ('task', 8., 0, False)]  # a folder for each whole cell
    assert float(table_of(other)['none']['error']) == float(table_of(other)['same']['error']) == .1


def test_number_of_workers_makes_no_other_cell(tmp_path, launched):
    cells = {'0': {}, '2': dict(pretrain={'train_dataloader.num_workers': 2})}
    ablation = Ablation(config(cells=cells), 'workers.py', tmp_path)
    ablation.run()
    assert len(launched) == 2


def test_a_failed_cell_does_not_stop_the_others(tmp_path, launched):
    launched.fail = .1
    ablation = Ablation(config(), 'rates.py', tmp_path)
    ablation.run()
    assert list(ablation.failures) == [('0.1', 0)] and 'it diverged' in ablation.failures['0.1', 0]
    table = table_of(ablation)
    assert table['0.1']['error'] == '' and float(table['1']['error']) == 10
    assert "0.1, seed 0, failed: stage 'pretrain' failed" in (ablation.folder / 'table.md').read_text()
    launched.fail = None
    again = Ablation(config(), 'rates.py', tmp_path)
    again.run()
    assert not again.failures and launched[-2:] == [('pretrain', .1, 0, True), ('task', .1, 0, False)]
    assert float(table_of(again)['0.1']['error']) == 1


def test_an_interrupted_ablation_goes_on(tmp_path, launched):
    launched.interrupt = .1
    with pytest.raises(KeyboardInterrupt):
        Ablation(config(), 'rates.py', tmp_path).run()
    launched.interrupt = None
    ablation = Ablation(config(), 'rates.py', tmp_path)
    assert [run.state for run in ablation.runs] == ['finished', 'continues', 'new']
    ablation.run()
    assert launched[2:] == [('pretrain', .1, 0, False), ('pretrain', .1, 0, True), ('task', .1, 0, False),
                            ('pretrain', 1., 0, False), ('task', 1., 0, False)]


def test_a_removed_pretraining_is_run_again_with_what_started_from_it(tmp_path, launched):
    ablation = Ablation(config(), 'rates.py', tmp_path)
    ablation.run(['1'])
    shutil.rmtree(ablation.runs[2].folder / 'pretrain')
    launched.width = 8
    ablation.run(['1'])
    assert launched[2:] == [('pretrain', 1., 0, False), ('task', 1., 0, False)] and not ablation.failures


def test_a_metric_that_nobody_logs_is_a_failure(tmp_path, launched):
    ablation = Ablation(config(metrics={'error': ('task', 'mae')}), 'rates.py', tmp_path)
    ablation.run(['0.1'])
    assert "logged no 'mae'; it logged mse" in ablation.failures['0.1', 0]


def test_sizes(tmp_path, launched):
    sizes = dict(small=dict(pretrain={'train_cfg.max_iters': 4}), large=dict(task={'train_cfg.max_iters': 99}))
    cells = {'a': {}, 'b': dict(pretrain={'train_cfg.max_iters': dict(small=6, large=60)})}
    amounts = {}
    for size in sizes:
        ablation = Ablation(config(sizes=sizes, cells=cells), 'rates.py', tmp_path, size=size)
        amounts[size] = [run.chain.configs[stage].train_cfg.max_iters for run in ablation.runs
                         for stage in ('pretrain', 'task')]
        assert ablation.folder == tmp_path / f'rates_{size}'
    assert amounts == dict(small=[4, 8, 6, 8], large=[8, 99, 60, 99])
    cells['b']['pretrain']['train_cfg.max_iters'].pop('small')
    with pytest.raises(ValueError, match="cell 'b': .*max_iters={'large': 60} has no value for the size 'small'"):
        Ablation(config(sizes=sizes, cells=cells), 'rates.py', tmp_path)


@pytest.mark.parametrize('changes, arguments, message', [
    (dict(cells={'x': dict(pretrain={'optim_wraper.lr': 1})}), {},
     "rates.py, cell 'x': .*'pretrain'.*no 'optim_wraper.lr'.*did you mean"),
    (dict(cells={'x': dict(pretain={LR: 1})}), {}, "cell 'x': 'pretain' is no stage: pretrain, task"),
    (dict(cells={}), {}, 'rates.py is not an ablation: it has no cells'),
    (dict(cels={}), {}, "an ablation has no 'cels'; it has title"),
    (dict(metrics={'error': ('tsk', 'mse')}), {}, "'tsk', which is no stage: pretrain, task"),
    (dict(paper={'0.2': {'error': 1}}), {}, r"paper\['0.2'\].* is of no cell \(0.01, 0.1, 1\)"),
    (dict(paper={'0.1': {'eror': 1}}), {}, r'of no metric \(error\)'),
    ({}, dict(size='gpu'), "no size 'gpu': it has default"),
    ({}, dict(seeds=0), '--seeds 0'),
    ({}, dict(options=['tsk.lr=1']), '--cfg-options takes STAGE.key=value'),
])
def test_mistakes_come_before_anything_runs(tmp_path, launched, changes, arguments, message):
    with pytest.raises(ValueError, match=message):
        Ablation(config(**changes), 'rates.py', tmp_path, **arguments)
    assert not launched and not list(tmp_path.iterdir())


def write_config(path):
    path.write_text('\n'.join(f'{key} = {value!r}' for key, value in config().items()))
    return path


def test_the_tool(run_tool, tmp_path, monkeypatch, launched):
    monkeypatch.setattr(signal, 'signal', lambda *_: None)
    arguments = [write_config(tmp_path / 'rates.py'), '--work-dir', tmp_path / 'work']
    for option in ('--list', '--dry-run'):
        code, out, _ = run_tool('ablate', *arguments, option)
        assert code == 0 and not launched and 'lr: 0.01 -> 0.1' in out
        assert ('train.py' in out) == (option == '--dry-run')
    code, _, err = run_tool('ablate', *arguments, '--only', '0.11')
    assert code == 1 and "--only '0.11' is no cell; there are 0.1" in err
    launched.fail = 1.
    code, out, err = run_tool('ablate', *arguments, '--only', '0.1', '1')
    assert code == 1 and '1 cells failed' in err and 'it diverged' in err and 'Traceback' not in err
    assert {rate for _, rate, _, _ in launched} == {.1, 1.}
    launched.fail = None
    code, out, _ = run_tool('ablate', *arguments)
    assert code == 0 and '| 1 | 10.0 |' in out
    svg = (tmp_path / 'work' / 'rates_default' / 'plot.svg').read_text()
    assert '<svg' in svg and '>error<' in svg and '>Learning rate<' in svg


def test_the_plot_is_the_same_each_time(tmp_path, launched):
    ablation = Ablation(config(), 'rates.py', tmp_path)
    ablation.run()
    first = (ablation.folder / 'plot.svg').read_bytes()
    ablation.write()
    assert (ablation.folder / 'plot.svg').read_bytes() == first


def test_real_trainings(tmp_path):
    """Two cells of a few iterations, end to end; the table has the numbers of the logs."""
    cfg = config(stages=[dict(name='task', config=CONFIG)], cells={'0.01': {}, '0.1': dict(task={LR: .1})})
    (tmp_path / 'rates.py').write_text('\n'.join(f'{key} = {value!r}' for key, value in cfg.items()))
    command = [sys.executable, ROOT / 'tools' / 'ablate.py', tmp_path / 'rates.py', '--work-dir', tmp_path / 'work']
    subprocess.run(command, env=environment(), check=True, capture_output=True)
    ablation = Ablation(load_config(tmp_path / 'rates.py').to_dict(), 'rates.py', tmp_path / 'work')
    table = table_of(ablation)
    for run in ablation.runs:
        log, = run.folder.glob('task/*/vis_data/scalars.json')
        logged = [entry['mse'] for line in log.read_text().splitlines() if 'mse' in (entry := json.loads(line))]
        assert float(table[run.cell]['error']) == logged[-1]
    assert table['0.01']['error'] != table['0.1']['error']


@pytest.mark.parametrize('path, size', [
    (path, size) for path in ABLATIONS for size in ([None] if path.stem.startswith('neu_') else ['cpu', 'gpu'])],
    ids=lambda value: getattr(value, 'stem', value))
def test_ablations_that_are_shipped(path, size, tmp_path):
    """Every cell differs from the others, and one of them is the default, which all of a base share; docs name it."""
    ablation = Ablation(load_config(path).to_dict(), path, tmp_path, size)
    folders = {run.folder for run in ablation.runs}
    assert len(folders) == len(ablation.runs) and ablation.default.work_dir in folders
    assert path.name in (ROOT / 'docs' / 'ablations.md').read_text()


def test_the_example_of_the_docs(tmp_path):
    code, = re.findall(r'```python\n(.*?)```', (ROOT / 'docs' / 'ablations.md').read_text(), re.DOTALL)
    base = ROOT / 'configs' / 'ablations' / '_base_' / 'digits.py'
    (tmp_path / 'layer_decay.py').write_text(code.replace('./_base_/digits.py', str(base)))
    ablation = Ablation(load_config(tmp_path / 'layer_decay.py').to_dict(), 'layer_decay.py', tmp_path / 'work')
    assert ablation.cells == ['0.65', '0.75', '0.9', '1.0'] and len({run.folder for run in ablation.runs}) == 4
    assert Path(ablation.default.work_dir) == ablation.runs[2].folder
    assert 'finetune: config.optim_wrapper.paramwise_cfg.layer_decay_rate: 0.9 -> 0.65' in ablation.plan()
