"""The product on its built-in data: pretraining, one checkpoint, three tasks, one process or two."""

import importlib.util
import json
import subprocess
from pathlib import Path

import pytest
import torch
from tiny.tools import ROOT, assert_plain, environment, run_tool  # noqa: F401

from mae_plugin.utils.hashing import file_sha256
from mae_plugin.weights.safe_load import load_file

PRETRAIN = ROOT / 'configs/pretrain/mae_vit-mini-p8_digits.py'
TASKS = dict(
    mmpretrain=('classification/vit-mini_digits.py', 'accuracy/top1'),
    mmdet=('detection/vitdet_faster-rcnn_vit-mini_digits.py', 'coco/bbox_mAP'),
    mmseg=('segmentation/upernet_vit-mini_digits.py', 'mIoU'))
SMALL = ['prepare_data=None', 'model.backbone.depth=2', 'train_dataloader.num_workers=0',
         'val_dataloader.num_workers=0', 'test_dataloader.num_workers=0', 'param_scheduler=[]',
         'default_hooks.logger.interval=1']


@pytest.fixture(scope='module')
def scenes(tmp_path_factory):
    """A folder with a few of the built-in scenes below ``data/digit_scenes``, where the configs look for them."""
    pytest.importorskip('sklearn')
    from mae_plugin.datasets.digit_scenes import ensure_digit_scenes
    folder = tmp_path_factory.mktemp('scenes')
    ensure_digit_scenes(folder / 'data/digit_scenes', pretrain_train=40, pretrain_val=4, detection_train=6,
                        detection_val=2, classification_train=20, classification_val=10)
    return folder


@pytest.fixture
def run(run_tool, scenes, monkeypatch):  # noqa: F811
    """``run(tool, *arguments)`` beside the scenes; returns what was printed."""
    monkeypatch.chdir(scenes)

    def checked(*arguments):
        code, out, err = run_tool(*arguments)
        assert code == 0, out + err
        return out + err

    return checked


def pretrain(run, work_dir, iters=4, resume=False, options=()):
    run('train', PRETRAIN, '--work-dir', work_dir, *(['--resume'] if resume else []), '--cfg-options', *SMALL, *options,
        'default_hooks.checkpoint.interval=2', f'train_cfg.max_iters={iters}', 'train_dataloader.batch_size=4')
    return work_dir / f'iter_{iters}.pth'


def test_a_resumed_run_is_the_undisturbed_one(run, tmp_path):
    """Order, crops and masks continue where they were: the weights are equal, bit for bit, and so are the losses."""
    whole = pretrain(run, tmp_path / 'whole')
    pretrain(run, tmp_path / 'parts', iters=2)
    resumed = pretrain(run, tmp_path / 'parts', iters=4, resume=True)
    for file in (whole, resumed):
        assert_plain(file)
    a, b = (load_file(file) for file in (whole, resumed))
    assert all(torch.equal(a['state_dict'][name], b['state_dict'][name]) for name in a['state_dict'])
    losses = [file['message_hub']['log_scalars']['train/loss']['log_history'] for file in (a, b)]
    assert len(losses[0]) == 4 and torch.equal(*losses)


@pytest.mark.parametrize('library', TASKS)
def test_one_checkpoint_starts_every_task(run, tmp_path, library):
    if importlib.util.find_spec(library) is None:
        pytest.skip(f'needs {library}')
    pretrained = pretrain(run, tmp_path / 'pretrain', iters=2)
    config, metric = TASKS[library]
    config = ROOT / 'configs' / config
    small = [*SMALL, 'train_cfg.max_iters=2', 'train_dataloader.batch_size=2']
    if library == 'mmseg':
        small.append('model.backbone.out_indices=[0,0,1,1]')  # UPerNet's four maps
    if library == 'mmdet':
        small += ['model.backbone.window_size=4', 'model.backbone.window_block_indexes=[0]',
                  'model.backbone.with_cls_token=False', 'train_dataloader.dataset.indices=None',
                  "model.backbone.rel_pos={'type': 'mae_plugin.DecomposedRelPos'}"]  # all of ViTDet
    said = run('train', config, '--work-dir', tmp_path / 'task', '--cfg-options', *small,
               f'model.backbone.init_cfg.checkpoint={pretrained}')
    assert f'from {pretrained}' in said and 'PlainViT: loaded' in said
    assert_plain(tmp_path / 'task/iter_2.pth')
    parents = load_file(tmp_path / 'task/iter_2.pth')['meta']['mae_plugin']['parents']
    assert parents == [dict(file='iter_2.pth', sha256=file_sha256(pretrained), task='pretraining')]
    metrics = tmp_path / 'metrics.json'
    pretrained.unlink()  # a task's checkpoint holds all weights
    run('test', config, tmp_path / 'task/iter_2.pth', '--work-dir', tmp_path / 'test', '--out', metrics,
        '--cfg-options', *small)
    assert metric in json.loads(metrics.read_text())


def test_another_number_of_heads_is_noticed(run, run_tool, tmp_path):  # noqa: F811
    """No tensor tells it: without the card, the test would only be worse."""
    checkpoint = pretrain(run, tmp_path / 'run', iters=2)
    options = ['test', PRETRAIN, checkpoint, '--work-dir', tmp_path / 'test', '--cfg-options', *SMALL]
    heads = load_file(checkpoint)['meta']['mae_plugin']['backbone']['num_heads']
    code, _, err = run_tool(*options, f'model.backbone.num_heads={2 * heads}')
    assert code == 1 and f'num_heads is {heads} in the file and {2 * heads} in the config' in err
    run(*options, f'model.backbone.num_heads={2 * heads}', 'default_hooks.card.allow=["num_heads"]')


def test_pretraining_is_tested_with_the_loss_and_psnr_it_was_validated_with(run, tmp_path):
    checkpoint = pretrain(run, tmp_path / 'run', iters=2, options=['train_cfg.val_interval=1'])
    stored = tmp_path / 'run' / PRETRAIN.name
    trained_with = stored.read_text()
    run('test', stored, checkpoint, '--work-dir', tmp_path / 'run', '--out', tmp_path / 'metrics.json', '--amp',
        '--cfg-options', 'test_dataloader.batch_size=3')
    assert stored.read_text() == trained_with  # a test keeps its own
    run('test', stored, checkpoint, '--work-dir', tmp_path / 'run', '--out', tmp_path / 'metrics.json')
    tested = json.loads((tmp_path / 'metrics.json').read_text())
    logged = [json.loads(line) for file in (tmp_path / 'run').glob('*/vis_data/scalars.json')
              for line in file.read_text().splitlines()]
    validated = [line for line in logged if 'mae/psnr' in line]
    assert len(validated) == 2 and validated[0]['mae/masked_loss'] != validated[1]['mae/masked_loss']
    for name in ('mae/masked_loss', 'mae/psnr'):
        assert tested[name] == pytest.approx(validated[1][name], rel=1e-6)  # and no mean of the two


def test_two_processes_are_one_with_twice_the_batch(run, scenes, tmp_path):
    """The losses, averaged over the ranks, of 20 iterations."""
    options = [*SMALL, 'train_cfg.max_iters=20', '+train_cfg.val_begin=100']
    losses = []
    launchers = dict(one=[environment()['PYTHON'], ROOT / 'tools/train.py', PRETRAIN],
                     two=['bash', ROOT / 'tools/dist_train.sh', PRETRAIN, 2])
    for name, batch in (('one', 8), ('two', 4)):
        command = [*launchers[name], '--work-dir', tmp_path / name, '--cfg-options', *options,
                   f'train_dataloader.batch_size={batch}']
        done = subprocess.run(list(map(str, command)), cwd=scenes, env=environment(), capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        content = next(Path(tmp_path / name).glob('*/vis_data/scalars.json')).read_text()
        losses.append([line['loss'] for line in map(json.loads, content.splitlines()) if 'loss' in line])
    assert len(losses[0]) == 20
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert losses[0][-1] < losses[0][0]
