"""An error of a tool is one message; its traceback is kept."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.registry import HOOKS, MODELS
from torch.utils.data import DataLoader, Dataset

from mae_plugin.utils.cli import describe, keep_traceback_in, nearest, run_cli

ROOT = Path(__file__).parents[1]


def caught(function, *args, **kwargs):
    """The error that a call raises, with its traceback."""
    try:
        function(*args, **kwargs)
    except Exception as error:
        return error
    raise AssertionError('no error')


def fail(error):
    def main(argv):
        raise error
    return main


def test_an_error_is_one_message(capsys):
    assert run_cli(fail(ValueError('images/ holds no image')), []) == 1
    assert capsys.readouterr().err == 'error: images/ holds no image\n'


def test_success_and_interruption(capsys):
    assert run_cli(lambda argv: None, []) == 0
    assert run_cli(fail(KeyboardInterrupt()), []) == 130
    assert 'Traceback' not in capsys.readouterr().err


def test_argparse_decides_its_own_exit_code():
    with pytest.raises(SystemExit) as end:
        run_cli(fail(SystemExit(2)), [])
    assert end.value.code == 2


def test_traceback_is_kept_in_an_existing_work_dir(tmp_path, capsys):
    def main(argv):
        keep_traceback_in(argv[0])
        raise ValueError('a and b')
    assert run_cli(main, [str(tmp_path)]) == 1 and run_cli(main, [str(tmp_path / 'absent')]) == 1
    assert not (tmp_path / 'absent').exists()
    log = (tmp_path / 'error.log').read_text()
    assert log.count('Traceback (most recent call last)') == 1 and 'ValueError: a and b' in log
    err = capsys.readouterr().err
    assert 'Traceback' not in err and 'error.log' in err.splitlines()[0]
    assert run_cli(main, [str(tmp_path)]) == 1  # appends
    assert (tmp_path / 'error.log').read_text().startswith(log)


def test_a_work_dir_is_forgotten_by_the_next_run(tmp_path):
    run_cli(lambda argv: keep_traceback_in(tmp_path), [])
    run_cli(fail(ValueError('a and b')), [])
    assert not (tmp_path / 'error.log').exists()


def test_debug_shows_the_traceback(capsys):
    assert run_cli(fail(ValueError('a and b')), ['--debug']) == 1
    err = capsys.readouterr().err
    assert 'Traceback' in err and err.endswith('error: a and b\n')


def test_under_torchrun_the_launcher_reports(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv('TORCHELASTIC_ERROR_FILE', str(tmp_path / 'error.json'))
    assert run_cli(fail(ValueError('a and b')), []) == 1
    assert capsys.readouterr().err == ''
    message = json.loads((tmp_path / 'error.json').read_text())['message']
    assert message['message'] == 'a and b' and int(message['extraInfo']['timestamp']) > 0


class Broken(Dataset):
    """Raises ``error`` in a worker."""

    def __init__(self, error):
        self.error = error

    def __len__(self):
        return 1

    def __getitem__(self, index):
        raise self.error


@pytest.mark.parametrize('error, text', [
    (ValueError('img.png: cannot be read'), 'img.png: cannot be read'),
    (KeyError('no such class: cat'), 'no such class: cat'),
    (IndexError('list index'), 'IndexError: list index'),
])
def test_errors_of_loader_workers_are_reduced(error, text):
    loader = DataLoader(Broken(error), num_workers=1, multiprocessing_context='fork')
    assert describe(caught(lambda: list(loader))) == text


def test_names_of_other_errors_and_their_place():
    text = describe(caught(lambda: [][0]))
    assert text.startswith('IndexError: list index out of range (at ') and 'test_cli.py:' in text
    assert describe(KeyError('meta')) == 'KeyError: meta'


@pytest.mark.parametrize('error, start', [
    (torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 79 GiB.'),
     'CUDA out of memory. Tried to allocate 2.50 GiB. What needs less: a smaller train_dataloader.batch_size'),
    (RuntimeError("[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you "
                  'tried to allocate 40000000000 bytes. Error code 12 (Cannot allocate memory)'),
     "can't allocate memory: you tried to allocate 40000000000 bytes. What needs less: a smaller")])
def test_a_batch_that_does_not_fit_says_what_would(error, start):
    text = describe(error)
    assert text.startswith(start) and 'model.backbone.with_cp=True' in text and '--amp' in text


def test_files_of_the_system():
    assert describe(caught(open, '/nowhere/x')) == '/nowhere/x: No such file or directory'


def test_a_forgotten_prefix():
    assert describe(caught(MODELS.build, dict(type='PlainViT'))) == \
        "type 'PlainViT' is unknown; did you mean 'mae_plugin.PlainViT'?"
    assert "'mae_plugin.PlainViT'" in describe(caught(MODELS.build, dict(type='mmengine.PlainViT')))


@pytest.mark.parametrize('name, near', [
    ('mae_plugin.PlainVit', 'mae_plugin.PlainViT'), ('mae_plugin.Nothing', 'mae_plugin.MaskedAutoencoder'),
    ('CheckpointHok', 'CheckpointHook'), ('Quite', 'mae_plugin.MeanLossHook')
])
def test_an_unknown_type(name, near):
    text = describe(caught(HOOKS.build, dict(type=name)))
    assert text.startswith(f"type '{name}' is unknown") and near in text and '\n' not in text


def test_a_missing_package():
    assert describe(caught(MODELS.build, dict(type='mmabsent.Thing'))) == \
        "type 'mmabsent.Thing' is unknown, because the package mmabsent is not installed"


def test_nearest_ignores_case():
    assert nearest('plainvit', ['PlainViT', 'MAEDecoder']) == ['PlainViT']


@pytest.mark.parametrize('tool', ['train', 'test', 'chain', 'convert_checkpoint', 'inspect_checkpoint', 'benchmark',
                                  'cache_images', 'reconstruct', 'browse_dataset'])
def test_help_does_not_import_torch(tool):
    code = f"""import runpy, sys
sys.argv = ["{tool}.py", "--help"]
try:
    runpy.run_path(r"{ROOT / 'tools' / (tool + '.py')}", run_name="__main__")
except SystemExit as end:
    sys.exit(10 * bool(end.code) + bool({{"torch", "mmengine"}} & sys.modules.keys()))"""
    result = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, cwd='/')
    assert result.returncode == 0, result.stderr
    assert '--debug' in result.stdout


def test_a_killed_process_is_named(monkeypatch):
    """The launcher reports what torchrun knows about the first process that failed."""
    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

    from mae_plugin.utils import torchrun

    def killed(args):
        raise ChildFailedError('train.py', {1: ProcessFailure(1, 77, -9, '<N/A>')})
    monkeypatch.setattr(run, 'run', killed)
    text = describe(caught(torchrun.main, ['train.py']))
    assert text == 'rank 1 stopped first, with exit code -9: Signal 9 (SIGKILL) received by PID 77'


def test_threads_wait_passively_unless_told_otherwise(monkeypatch):
    monkeypatch.delenv('OMP_WAIT_POLICY', raising=False)
    seen = []
    run_cli(lambda argv: seen.append(os.environ['OMP_WAIT_POLICY']), [])
    monkeypatch.setenv('OMP_WAIT_POLICY', 'ACTIVE')
    run_cli(lambda argv: seen.append(os.environ['OMP_WAIT_POLICY']), [])
    assert seen == ['PASSIVE', 'ACTIVE']


@pytest.mark.parametrize('world_size, code, said', [
    (2, 0, 'last words'), (2, 1, 'last words torn down'), (1, 0, 'last words torn down')])
def test_one_of_several_processes_leaves_without_tear_down(tmp_path, world_size, code, said):
    """What was said is there all the same, and the exit code is kept."""
    script = tmp_path / 'script.py'
    script.write_text(
        'import atexit\nfrom mae_plugin.utils.cli import leave\n'
        f'atexit.register(print, " torn down", end="")\nprint("last words", end="")\nleave({code})\n')
    done = subprocess.run([sys.executable, script], cwd=ROOT, capture_output=True, text=True,
                          env={**os.environ, 'WORLD_SIZE': str(world_size), 'PYTHONPATH': str(ROOT)})
    assert (done.returncode, done.stdout, done.stderr) == (code, said, '')
