"""``tools/train.py`` and ``tools/test.py`` from the command line to the checkpoint, on a model of a few numbers."""

import json
import os
import pickle
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny.tools import CONFIG, ROOT, environment

from mae_plugin.utils.chain import final_metrics
from mae_plugin.utils.run_config import load_config, newest_checkpoint
from mae_plugin.weights.safe_load import load_file

pytest_plugins = ['tiny.tools']


def losses(work_dir):
    """The logged losses by iteration, of all runs in ``work_dir``."""
    lines = [json.loads(line) for file in sorted(Path(work_dir).glob('*/vis_data/scalars.json'))
             for line in file.read_text().splitlines()]
    return {line['step']: (line['loss'], line['other_loss']) for line in lines if 'loss' in line}


def test_train_refuse_resume_test(run_tool, tmp_path):
    work_dir = tmp_path / 'run'
    code, out, _ = run_tool('train', CONFIG, '--work-dir', work_dir, '--cfg-options', 'train_cfg.max_iters=4')
    assert code == 0 and (work_dir / 'iter_4.pth').is_file()

    code, _, err = run_tool('train', CONFIG, '--work-dir', work_dir)
    assert code == 1 and 'Traceback' not in err
    assert str(work_dir) in err and 'iter_4.pth' in err and '--resume' in err and '--work-dir' in err

    code, out, err = run_tool('train', CONFIG, '--work-dir', work_dir, '--resume')
    assert code == 0 and 'resumed epoch: 0, iter: 4' in out + err
    history = load_file(work_dir / 'iter_8.pth')['message_hub']['log_scalars']['train/loss']
    logged = [losses(work_dir)[i][0] for i in range(1, 9)]
    assert len(history['log_history']) == 8
    np.testing.assert_allclose(history['log_history'], logged)

    undisturbed = tmp_path / 'undisturbed'
    assert run_tool('train', CONFIG, '--work-dir', undisturbed)[0] == 0
    a, b = (load_file(d / 'iter_8.pth')['state_dict'] for d in (work_dir, undisturbed))
    assert all(torch.equal(a[name], b[name]) for name in b)

    out_file, dump = tmp_path / 'metrics.json', tmp_path / 'predictions.pkl'
    code, *_ = run_tool('test', CONFIG, work_dir / 'iter_8.pth', '--work-dir', tmp_path / 'test', '--out', out_file,
                        '--dump', dump)
    assert code == 0 and json.loads(out_file.read_text()).keys() == {'mse'}
    assert len(pickle.loads(dump.read_bytes())) == 16  # our own file


def test_resume_without_a_checkpoint_says_so(run_tool, tmp_path):
    code, out, _ = run_tool('train', CONFIG, '--work-dir', tmp_path, '--resume', '--no-validate', '--cfg-options',
                            'train_cfg.max_iters=1')
    assert code == 0 and f'--resume: {tmp_path} holds no checkpoint' in out


def test_a_kill_during_the_last_validation(run_tool, tmp_path):
    """The last checkpoint is there, the numbers are not: the resumed run finds them."""
    assert run_tool('train', CONFIG, '--work-dir', tmp_path)[0] == 0
    metrics = final_metrics(tmp_path)
    log = next(tmp_path.glob('*/vis_data/scalars.json'))
    lines = log.read_text().splitlines()
    log.write_text('\n'.join(lines[:-1]) + '\n')
    assert 'mse' in lines[-1] and final_metrics(tmp_path) != metrics  # those of the validation before
    time.sleep(1)  # MMEngine's names of runs count seconds
    assert run_tool('train', CONFIG, '--work-dir', tmp_path, '--resume')[0] == 0
    assert final_metrics(tmp_path) == pytest.approx(metrics)
    validations = [json.loads(line) for file in tmp_path.glob('*/vis_data/scalars.json')
                   for line in file.read_text().splitlines() if 'mse' in line]
    assert sorted(line['step'] for line in validations) == [4, 8]


def test_the_learning_rate_counts_accumulated_batches(run_tool, tmp_path):
    """32 / 64 of the base rate: a batch of 8, accumulated 4 times. The file of the config keeps what was asked for."""
    code, out, err = run_tool(
        'train', CONFIG, '--work-dir', tmp_path, '--no-validate', '--cfg-options', 'train_cfg.max_iters=1',
        '+optim_wrapper.accumulative_counts=4', '+auto_scale_lr={"enable":True,"base_batch_size":64}',
        'param_scheduler=[]')
    assert code == 0 and '8 images an iteration x 4 for a step: 0.005' in out + err, err
    line = json.loads(next(tmp_path.glob('*/vis_data/scalars.json')).read_text().splitlines()[0])
    assert line['lr'] == pytest.approx(0.01 * 32 / 64)
    assert load_config(tmp_path / 'tiny_config.py').auto_scale_lr.base_batch_size == 64


def test_a_stored_config_is_not_run_on_resume(run_tool, tmp_path):
    """MMEngine reads ``meta['config']`` as Python code when it resumes."""
    assert run_tool('train', CONFIG, '--work-dir', tmp_path, '--cfg-options', 'train_cfg.max_iters=4')[0] == 0
    checkpoint = load_file(tmp_path / 'iter_4.pth')
    marker = tmp_path / 'marker'
    checkpoint['meta']['config'] = f'import os\nos.mkdir({str(marker)!r})\n'
    torch.save(checkpoint, tmp_path / 'iter_4.pth')
    assert run_tool('train', CONFIG, '--work-dir', tmp_path, '--resume', tmp_path / 'iter_4.pth')[0] == 0
    assert not marker.exists() and (tmp_path / 'iter_8.pth').is_file()


@pytest.mark.parametrize('arguments, texts', [
    (['--resume', 'absent.pth'], ['absent.pth', 'no such file']),
    (['--cfg-options', 'optim_wraper.optimizer.lr=1'], ['optim_wraper', 'optim_wrapper.optimizer.lr']),
    (['--auto-scale-lr'], ['tiny_config.py', 'base_batch_size']),
    (['--amp', '--cfg-options', 'optim_wrapper.type=ApexOptimWrapper'], ['ApexOptimWrapper', '--amp']),
    (['--cfg-options', 'param_scheduler.0.begin=8'], ['param_scheduler.0', 'begins at iteration 8', 'max_iters is 8']),
    (['--cfg-options', 'model.backbone.type=PlainViT'], ["'PlainViT'", 'mae_plugin.PlainViT']),
    (['--cfg-options', 'train_dataloader.dataset.broken=3', 'train_dataloader.num_workers=1'], ['sample 3 is broken']),
])
def test_mistakes(run_tool, tmp_path, arguments, texts):
    code, out, err = run_tool('train', CONFIG, '--work-dir', tmp_path / 'run', *arguments)
    assert code == 1 and 'Traceback' not in out + err
    message = err[err.index('error: '):]
    assert all(text in message for text in texts), message
    assert message.count('\n') == 1


def test_missing_and_broken_configs(run_tool, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, err = run_tool('train', 'configs/pretrain/mae_vit-bas-p16_in1k.py')
    assert code == 1 and 'mae_vit-base-p16_in1k.py' in err and 'Traceback' not in err
    (tmp_path / 'broken.py').write_text('model = dict(\n')
    (tmp_path / 'fails.py').write_text('model = absent\n')
    (tmp_path / 'orphan.py').write_text('_base_ = "nothing.py"\n')
    for name, text in (('broken.py', 'SyntaxError'), ('fails.py', "NameError: name 'absent'"),
                       ('orphan.py', 'nothing.py'), ('.', 'is a folder')):
        code, _, err = run_tool('train', name)
        assert code == 1 and name in err and text in err and 'Traceback' not in err


def test_other_checkpoints_are_refused(run_tool, tmp_path):
    torch.save(dict(state_dict={}), tmp_path / 'other.pth')
    (tmp_path / 'text.pth').write_text('hello')
    for name, text in (('other.pth', '4 of the 4 tensors are missing'), ('text.pth', 'is not a checkpoint'),
                       ('absent.pth', 'does not exist')):
        code, _, err = run_tool('test', CONFIG, tmp_path / name, '--work-dir', tmp_path / 'run')
        assert code == 1 and name in err and text in err and 'Traceback' not in err
    code, _, err = run_tool('train', CONFIG, '--work-dir', tmp_path / 'run', '--resume', tmp_path / 'other.pth')
    assert code == 1 and 'other.pth holds no message_hub, meta, optimizer' in err


@pytest.mark.parametrize('arguments, text', [
    (['--out', 'a.txt'], 'a.txt: give a .pkl'), (['--dump', 'a.json'], 'a.json: the name of a file of predictions'),
    (['--out-item', 'pred'], '--out FILE.pkl'), (['--show-dir', 'a'], 'default_scope of'),
    (['--tta'], 'tta_model and tta_pipeline'),
])
def test_flags_that_cannot_be_followed(run_tool, tmp_path, arguments, text):
    code, _, err = run_tool('test', CONFIG, tmp_path / 'a.pth', '--work-dir', tmp_path / 'run', *arguments)
    assert code == 1 and text in err and 'Traceback' not in err


def test_amp_and_loader_flags(run_tool, tmp_path):
    code, *_ = run_tool('train', CONFIG, '--work-dir', tmp_path, '--amp', '--no-pin-memory', '--no-persistent-workers',
                        '--no-validate', '--cfg-options', 'train_cfg.max_iters=2', 'train_dataloader.num_workers=1')
    written = load_config(tmp_path / 'tiny_config.py')
    assert code == 0 and written.val_cfg is None and not list(tmp_path.glob('*/vis_data/scalars.json*mse*'))
    assert written.optim_wrapper.type == 'mae_plugin.AutocastOptimWrapper'
    assert written.optim_wrapper.dtype == 'bfloat16'
    for loader in (written.train_dataloader, written.test_dataloader):
        assert loader.pin_memory is False and loader.persistent_workers is False


def test_configs_are_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_config('configs/_base_/default_runtime.py').log_processor.by_epoch is False


def test_newest_checkpoint(tmp_path):
    assert newest_checkpoint(tmp_path) is None
    for name in ('iter_9.pth', 'iter_10.pth', 'best_mse_iter_20.pth'):
        (tmp_path / name).touch()
    assert newest_checkpoint(tmp_path).name == 'iter_10.pth'
    (tmp_path / 'last_checkpoint').write_text('/moved/away/iter_9.pth')
    assert newest_checkpoint(tmp_path).name == 'iter_9.pth'
    (tmp_path / 'last_checkpoint').write_text('/moved/away/iter_11.pth')
    assert newest_checkpoint(tmp_path).name == 'iter_10.pth'


def launch(*arguments):
    return subprocess.run(['bash', *map(str, arguments)], capture_output=True, text=True, env=environment(), cwd='/')


def test_two_processes_equal_one_with_twice_the_batch(run_tool, tmp_path):
    options = ['--cfg-options', 'train_cfg.max_iters=20']
    assert run_tool('train', CONFIG, '--work-dir', tmp_path / 'one', *options)[0] == 0
    result = launch(ROOT / 'tools' / 'dist_train.sh', CONFIG, 2, '--work-dir', tmp_path / 'two', *options,
                    'train_dataloader.batch_size=4')
    assert result.returncode == 0, result.stderr
    one, two = losses(tmp_path / 'one'), losses(tmp_path / 'two')
    assert one.keys() == two.keys() == set(range(1, 21))
    np.testing.assert_allclose(list(one.values()), list(two.values()), rtol=1e-5)


def test_a_failing_rank_is_reported_once(tmp_path):
    result = launch(ROOT / 'tools' / 'dist_train.sh', CONFIG, 2, '--work-dir', tmp_path, '--cfg-options',
                    'train_dataloader.dataset.kill_rank=1')
    assert result.returncode == 1
    assert result.stderr.count('error: ') == 1 and 'Traceback' not in result.stderr
    assert 'rank 1' in result.stderr and 'rank 1 has had enough' in result.stderr
    assert 'had enough' in (tmp_path / 'error_rank1.log').read_text()


def test_scripts_explain_themselves():
    for script, message in (('dist_train.sh', 'CONFIG GPUS'), ('dist_test.sh', 'CONFIG CHECKPOINT GPUS'),
                            ('slurm_train.sh', 'PARTITION JOB CONFIG WORK_DIR')):
        result = launch(ROOT / 'tools' / script)
        assert result.returncode == 2 and message in result.stderr
    assert "not '0'" in launch(ROOT / 'tools' / 'dist_train.sh', CONFIG, 0).stderr


def test_slurm_gets_the_arguments(tmp_path):
    """What ``srun`` would be called with, words with blanks whole."""
    (tmp_path / 'srun').write_text('#!/bin/sh\nfor word; do echo "$word"; done\nexit 3\n')
    (tmp_path / 'srun').chmod(0o755)
    env = {**environment(), 'PATH': f'{tmp_path}:{os.environ["PATH"]}', 'GPUS': '2', 'SRUN_ARGS': '-A me'}
    script = ROOT / 'tools' / 'slurm_train.sh'
    result = subprocess.run(
        ['bash', script, 'part', 'job', 'a b.py', 'out', '--amp'], env=env, capture_output=True, text=True)
    words = result.stdout.splitlines()
    assert result.returncode == 3 and {'-p', 'part', '--ntasks=2', '--gres=gpu:8', '-A', 'me', 'a b.py'} <= set(words)
    assert words[-6:] == ['a b.py', '--work-dir', 'out', '--launcher', 'slurm', '--amp']


@pytest.mark.parametrize('launcher, names', [
    ('slurm', ('SLURM_PROCID', 'SLURM_NTASKS', 'SLURM_LOCALID')),
    ('mpi', ('OMPI_COMM_WORLD_RANK', 'OMPI_COMM_WORLD_SIZE', 'OMPI_COMM_WORLD_LOCAL_RANK')),
])
def test_other_launchers_on_the_cpu(run_tool, tmp_path, monkeypatch, launcher, names):
    """One process of a world of one, described as the launcher does."""
    for name, value in zip(names, '010', strict=True):
        monkeypatch.setenv(name, value)
    for name in ('RANK', 'WORLD_SIZE'):
        monkeypatch.setenv(name, 'to be restored')
    monkeypatch.setenv('MASTER_ADDR', '127.0.0.1')
    monkeypatch.setenv('MASTER_PORT', '0')
    try:
        code, _, err = run_tool('train', CONFIG, '--work-dir', tmp_path, '--launcher', launcher, '--cfg-options',
                                'train_cfg.max_iters=1')
        assert code == 0, err
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
