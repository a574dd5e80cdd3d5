"""A study: its stages, the tables of what they reached, and the files that are kept."""

import csv
import json

import pytest
from tiny.tools import CONFIG, ROOT

from mae_plugin.utils.chain import Chain
from mae_plugin.utils.run_config import load_config
from mae_plugin.utils.study import label_study, read_chain
from mae_plugin.visualization.report import render
from mae_plugin.visualization.results import read_runs
from mae_plugin.visualization.study import Row, as_csv, markdown, read_rows, study_svg
from mae_plugin.visualization.study_files import write_study

pytest_plugins = ['tiny.tools']
TASK = """
default_scope = '{}'
randomness = dict(seed=0)
model = dict(type='Model', backbone=dict(init_cfg=dict(type='mae_plugin.MAEPretrained', checkpoint='x.pth')))
train_dataloader = dict(batch_size=4, dataset=dict(type='mae_plugin.LabelShare', share=1., seed=0, dataset=dict()))
optim_wrapper = dict(lr=1.)
train_cfg = dict(max_iters=50)
"""


@pytest.fixture
def cfg(tmp_path):
    for name, scope in (('cls', 'mmpretrain'), ('det', 'mmdet')):
        (tmp_path / f'{name}.py').write_text(TASK.format(scope))
    return dict(
        work_dir=str(tmp_path / 'work'),
        stages=[dict(name='pretrain', config=CONFIG)],
        study=dict(tasks=dict(classify=str(tmp_path / 'cls.py'), detect=str(tmp_path / 'det.py')),
                   starts={'pretrained': 'pretrain', 'from scratch': None}, labels=[100, 10], seeds=2,
                   scratch=dict(detect={'optim_wrapper.lr': 2.})))


@pytest.fixture
def chain(cfg, monkeypatch):
    """Finished but for the second seed with 10 % of the labels; the detector from scratch found nothing."""
    monkeypatch.syspath_prepend(str(ROOT / 'tests' / 'tiny'))
    chain = Chain(read_chain(cfg, (), 'test'), cfg['work_dir'])
    for i, (name, stage) in enumerate(chain.stages.items()):
        if name.endswith('10_1'):
            continue
        metrics = {'accuracy/top1': 50. + i} if name.startswith('cls') or 'classify' in name else \
            {'coco/bbox_mAP': .2, 'coco/bbox_mAP_50': .4 + i / 100} if 'pretrain' in name else {}
        folder = chain.work_dir / name / 'now' / 'vis_data'
        folder.mkdir(parents=True)
        log = [dict(lr=1., loss=1 / step, step=step) for step in range(1, 51)] + [dict(step=50, **metrics)]
        (folder / 'scalars.json').write_text('\n'.join(map(json.dumps, log)))
        (chain.work_dir / name / 'chain_inputs.json').write_text(json.dumps(chain.inputs(stage)))
        chain.record[name] = dict(
            status='finished', seconds=60. + i, metrics=metrics, images_seen=200, checkpoint=f'{name}/x.pth',
            checkpoint_sha256='f00d' * 16, inputs_sha256='beef' * 16)
    return chain


def test_stages(cfg, monkeypatch):
    stages = label_study(**cfg['study'])
    assert len(stages) == 2 * 2 * 2 * 2 and len({stage['name'] for stage in stages}) == 16
    assert all(stage['about']['seed'] == 0 for stage in stages[:8])  # a whole seed before the next one
    by_name = {stage['name']: stage for stage in stages}
    detect = by_name['detect_pretrain_10_1']
    assert detect['init_from'] == 'pretrain' and detect['about'] == dict(
        task='detect', start='pretrained', labels=10, seed=1)
    assert detect['cfg_options'] == {'randomness.seed': 1, 'train_dataloader.dataset.seed': 1,
                                     'train_dataloader.dataset.share': .1}
    scratch = by_name['detect_scratch_100_0']
    assert scratch['init_from'] is None and scratch['cfg_options']['model.backbone.init_cfg'] is None
    assert scratch['cfg_options']['optim_wrapper.lr'] == 2
    assert 'optim_wrapper.lr' not in by_name['classify_scratch_100_0']['cfg_options']
    monkeypatch.syspath_prepend(str(ROOT / 'tests' / 'tiny'))
    assert [stage.name for stage in read_chain(cfg, (), 'x')] == ['pretrain', *by_name]


def test_a_study_that_is_none(cfg):
    with pytest.raises(ValueError, match="x.py: study: .*unexpected keyword argument 'label'"):
        read_chain({**cfg, 'study': dict(cfg['study'], label=[1])}, (), 'x.py')
    for changes, message in ((dict(scratch=dict(detct={})), "scratch names 'detct', which is none of the tasks cla"),
                             (dict(labels=[300]), '300 is not a whole percentage'),
                             (dict(labels=[1., .3]), '1.0 is not a whole percentage'),
                             (dict(starts={'a': None, 'b': None}), 'two of them are the same')):
        with pytest.raises(ValueError, match=f'x.py: study: .*{message}'):
            read_chain({**cfg, 'study': {**cfg['study'], **changes}}, (), 'x.py')
    with pytest.raises(ValueError, match="starts from 'gone'"):
        read_chain({**cfg, 'study': dict(cfg['study'], starts=dict(a='gone'))}, (), 'x.py')


def test_rows_are_means_over_the_seeds(chain):
    rows = {(row.metric, row.start, row.labels): row for row in read_rows(chain)}
    assert len(rows) == 3 * 2 * 2
    names = list(chain.stages)
    first, second = (50. + names.index(f'classify_pretrain_100_{seed}') for seed in (0, 1))
    row = rows['top-1 accuracy', 'pretrained', 100]
    assert row.values == {0: first, 1: second} and row.mean == (first + second) / 2
    assert row.spread == pytest.approx((second - first) / 2**.5)
    assert rows['box AP', 'pretrained', 100].values == {0: 20., 1: 20.}
    assert rows['box AP50', 'from scratch', 100].values == {0: 0., 1: 0.}  # nothing found
    seconds = [chain.record[f'detect_pretrain_100_{seed}']['seconds'] for seed in (0, 1)]
    assert rows['box AP', 'pretrained', 100].seconds == rows['box AP50', 'pretrained', 100].seconds == sum(seconds) / 2
    assert rows['box AP', 'pretrained', 10].spread is None and str(rows['box AP', 'pretrained', 10]) == '20.0'
    assert str(Row('t', 'm', 's', 10)) == '–'


def test_two_tasks_of_one_library_stay_apart(cfg, chain):
    cfg['study']['tasks']['find'] = cfg['study']['tasks']['detect']
    both = Chain(read_chain(cfg, (), 'test'), cfg['work_dir'])
    both.record = {name: chain.record[name.replace('find', 'detect')] for name in both.stages
                   if name.replace('find', 'detect') in chain.record}
    both.record['find_pretrain_10_0'] = dict(both.record['find_pretrain_10_0'], metrics={'coco/bbox_mAP': .9})
    rows = {(row.task, row.metric, row.start, row.labels): row for row in read_rows(both)}
    assert rows['find', 'box AP', 'pretrained', 10].values == {0: 90.}
    assert rows['find', 'box AP50', 'pretrained', 10].values == {}  # not reported
    assert rows['detect', 'box AP', 'pretrained', 10].values == {0: 20.}


def test_masks_of_a_study_that_goes_on(chain):
    """A detector that found nothing counts as 0; what has not finished is a dash."""
    chain.record['detect_pretrain_10_0']['metrics']['coco/segm_mAP'] = .3
    rows = {(row.start, row.labels): row for row in read_rows(chain) if row.metric == 'mask AP'}
    assert rows['pretrained', 10].values == {0: 30.} and rows['from scratch', 10].values == {0: 0.}
    assert rows['pretrained', 100].values == {}
    assert '| 100 % of the labels | – | 0.0 ± 0.0 |' in markdown(read_rows(chain))


def test_tables(chain):
    text = markdown(read_rows(chain))
    assert '| Detect, box AP | pretrained | from scratch |' in text
    assert '| 100 % of the labels | 20.0 ± 0.0 | 0.0 ± 0.0 |' in text and '| 10 % of the labels | 20.0 | 0.0 |' in text
    lines = list(csv.reader(as_csv(read_rows(chain)).splitlines()))
    assert lines[0][:8] == ['task', 'metric', 'start', 'labels', 'mean', 'std', 'seed 0', 'seed 1']
    line = next(line for line in lines if line[:4] == ['detect', 'box AP', 'pretrained', '10'])
    assert line[4:8] == ['20.00', '', '20.00', '']


def test_the_plot_is_the_same_for_the_same_numbers(chain):
    rows = read_rows(chain)
    svg = study_svg(rows)
    assert svg == study_svg(rows) and svg.startswith('<svg') and 'from scratch' in svg and 'box AP50' in svg
    assert study_svg(rows[:1]) != svg


def test_a_chain_without_a_study(chain):
    for stage in chain.stages.values():
        stage.about = {}
    with pytest.raises(ValueError, match='this chain has no study'):
        read_rows(chain)


def test_files(chain, tmp_path):
    text = write_study(chain, tmp_path / 'out', 'configs/chains/x.py')
    assert '13 of 17 runs' in text and '1 to 2 seeds' in text and markdown(read_rows(chain)) in text
    out = tmp_path / 'out'
    runs = {line['stage']: line for line in csv.DictReader((out / 'runs.csv').open())}
    assert len(runs) == 13 and runs['detect_scratch_100_1']['changes'].startswith('randomness.seed=1')
    assert runs['detect_pretrain_100_0']['starts from'] == 'pretrain' and float(runs['pretrain']['seconds']) == 60
    log = (out / 'logs' / 'classify_pretrain_100_0.csv').read_text().splitlines()
    assert log[0] == 'iteration,quantity,value' and '50,loss,0.02' in log and len(log) < 25
    assert any(line.startswith('50,accuracy/top1,') for line in log)
    assert load_config(out / 'configs' / 'cls.py').train_cfg.max_iters == 50
    assert str(tmp_path) not in (out / 'configs' / 'cls.py').read_text()
    assert write_study(chain, out, 'configs/chains/x.py') == text  # again, over the files


def test_the_page_has_the_table_and_the_plot(chain):
    for name in ('pretrain', *chain.stages):
        chain.record.pop(name, None)
    page = render(read_runs_of_tasks(chain), {}, [], read_rows(chain))
    assert 'With how many labels' in page and '10 % of the labels' in page and '<svg' in page and '–' in page


def read_runs_of_tasks(chain):
    chain.stages.pop('pretrain')
    return read_runs(chain)


def test_the_tool(cfg, run_tool, tmp_path):
    (tmp_path / 'chain.py').write_text('\n'.join(f'{key} = {value!r}' for key, value in cfg.items()))
    code, _, err = run_tool('results', tmp_path / 'chain.py')
    assert code == 1 and 'nothing was run there' in err
    code, out, _ = run_tool('chain', tmp_path / 'chain.py', '--dry-run')
    assert code == 0 and 'detect_pretrain_10_1' in out


def test_the_tool_writes_what_there_is(cfg, chain, run_tool, tmp_path):
    (tmp_path / 'chain.py').write_text('\n'.join(f'{key} = {value!r}' for key, value in cfg.items()))
    chain.file.write_text(json.dumps(chain.record))
    code, out, err = run_tool('results', tmp_path / 'chain.py', '--no-page', '--out', tmp_path / 'kept')
    assert code == 0, err
    assert '| 100 % of the labels | 20.0 ± 0.0 | 0.0 ± 0.0 |' in out
    assert {file.name for file in (tmp_path / 'kept').iterdir()} == {
        'results.md', 'results.csv', 'runs.csv', 'label_efficiency.svg', 'logs', 'configs'}


@pytest.mark.parametrize('path', sorted((ROOT / 'configs' / 'chains').glob('neu_*.py')), ids=lambda path: path.stem)
def test_chains_on_steel(path):
    """Every stage's config takes its changes; runs of one start and task differ from those of the others."""
    for library in ('mmpretrain', 'mmdet', 'mmseg'):
        pytest.importorskip(library)
    cfg = load_config(path).to_dict()
    if 'study' in cfg:
        cfg['study'] |= dict(labels=cfg['study']['labels'][-1:], seeds=1)
    chain = Chain(read_chain(cfg, (), path.name), cfg['work_dir'])
    inputs = [json.dumps({**chain.inputs(stage), 'from': stage.init_from}) for stage in chain.stages.values()]
    assert len(inputs) == len(set(inputs)) and cfg['work_dir'] == f'work_dirs/{path.stem}'
