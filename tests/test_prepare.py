"""The data that a config asks for, before the Runner is built."""

import os
import subprocess
import sys

import pytest

from mae_plugin.datasets import prepare
from mae_plugin.datasets.prepare import prepare_data


def test_nothing_to_do():
    prepare_data(dict(model=dict(type='anything')))


@pytest.mark.parametrize('spec, message', [
    (dict(type='coco'), "type='coco' is none of digit_scenes, neu"), (dict(root='data'), 'type=None is none of'),
    (dict(type='neu', folder='data'), "'neu'.*folder"), (dict(type='digit_scenes', images=3), "no setting 'images'")])
def test_mistakes_are_named(spec, message):
    with pytest.raises(ValueError, match=message):
        prepare_data(dict(prepare_data=spec))


def test_maker_gets_the_settings(monkeypatch):
    made = []
    monkeypatch.setitem(prepare.MAKERS, 'neu', lambda root, det='x': made.append((root, det)))
    cfg = dict(prepare_data=dict(type='neu', root='data/steel'))
    prepare_data(cfg)
    assert made == [('data/steel', 'x')] and cfg['prepare_data']['type'] == 'neu'


def test_of_three_processes_one_makes(tmp_path):
    pytest.importorskip('sklearn')
    settings = dict(pretrain_train=2, pretrain_val=1, detection_train=2, detection_val=1, classification_train=10,
                    classification_val=10)
    cfg = dict(prepare_data=dict(type='digit_scenes', root=str(tmp_path / 'digits'), **settings))
    code = f'from mae_plugin.datasets.prepare import prepare_data\nprepare_data({cfg})\nprint("ready")'
    processes = [subprocess.Popen([sys.executable, '-c', code], env=os.environ | {'LOCAL_RANK': str(rank)},
                                  stdout=subprocess.PIPE, text=True) for rank in (2, 1, 0)]
    *waited, made = [process.communicate(timeout=60)[0] for process in processes]
    assert waited == ['ready\n', 'ready\n'] and made.count('digit_scenes: ') == 2 and made.endswith('ready\n')
    assert [path.name for path in tmp_path.iterdir()] == ['digits']
