import argparse
from contextlib import nullcontext

import mmengine.device
import pytest
import torch
from tiny.tools import ROOT

from mae_plugin.datasets.making import ensure_folder
from mae_plugin.utils import run_config

DETECTION = str(ROOT / 'configs/detection/vitdet_faster-rcnn_vit-mini_digits.py')
COCO = str(ROOT / 'configs/detection/vitdet_mask-rcnn_vit-base_coco.py')
IMAGES = str(ROOT / 'configs/pretrain/mae_vit-small-p16_images.py')


def prepared(config, *options, launcher='none'):
    parser = argparse.ArgumentParser()
    parser.add_argument('config')
    run_config.add_arguments(parser)
    cfg = run_config.load_config(config, options)
    run_config.prepare(cfg, parser.parse_args([config, '--launcher', launcher]))
    return cfg


def test_held_out_images_come_from_where_the_training_images_do():
    cfg = prepared(IMAGES, 'train_dataloader.dataset.data_root=/my/images')
    for name in ('val_dataloader', 'test_dataloader'):
        assert cfg[name].dataset.data_root == '/my/images' and cfg[name].dataset.split == 'val'


def test_held_out_images_are_read_as_the_training_images_are():
    cfg = prepared(IMAGES, 'train_dataloader.dataset.data_root=/my/images', '+train_dataloader.dataset.channels=1',
                   '+train_dataloader.dataset.extensions=[".tif"]')
    assert cfg.val_dataloader.dataset.channels == 1 and cfg.val_dataloader.dataset.extensions == ['.tif']


def test_held_out_images_of_several_sources_come_from_all_once_each():
    cfg = prepared(IMAGES, 'train_dataloader.dataset.data_root=[/my/images,s3://bucket/images]',
                   '+train_dataloader.dataset.weights=[2,1]', '+train_dataloader.dataset.storage.timeout=5')
    assert cfg.val_dataloader.dataset.data_root == ['/my/images', 's3://bucket/images']
    assert cfg.val_dataloader.dataset.storage == dict(timeout=5) and 'weights' not in cfg.val_dataloader.dataset


@pytest.mark.parametrize('options', [[], ['val_dataloader.dataset.data_root=data/images']])
def test_training_and_validation_hold_out_the_same_images(options):
    with pytest.raises(ValueError, match=r'training data set has holdout=0, .* validation 0.01, .*\(data/images\)'):
        prepared(IMAGES, 'train_dataloader.dataset.holdout=0', *options)


@pytest.mark.parametrize('launcher', ['none', 'slurm'])
def test_under_a_scheduler_one_process_makes_the_data(tmp_path, monkeypatch, launcher):
    monkeypatch.setenv('LOCAL_RANK', '')  # so that what is set is removed at the end
    monkeypatch.delenv('LOCAL_RANK')
    monkeypatch.setenv('SLURM_LOCALID', '1')
    prepared(IMAGES, launcher=launcher)
    waits = pytest.raises(TimeoutError, match='by the first process of this machine')
    with waits if launcher == 'slurm' else nullcontext():  # without a launcher it is a run of its own within a job
        ensure_folder(tmp_path / 'data', {}, lambda folder: None, patience=0)


def test_validation_images_that_are_named_stay():
    cfg = prepared(IMAGES.replace('small-p16_images', 'base-p16_in1k'), 'train_dataloader.dataset.data_root=/my/images')
    assert cfg.val_dataloader.dataset.data_root == 'data/imagenet/val'


@pytest.mark.parametrize('options, dtype', [
    ([], 'bfloat16'), (['optim_wrapper.dtype=float16'], 'float16'), (['optim_wrapper.dtype=float32'], 'bfloat16')])
def test_amp_keeps_a_half_precision_that_the_config_chose(options, dtype):
    cfg = run_config.load_config(IMAGES, options)
    run_config.set_amp(cfg)
    assert cfg.optim_wrapper.dtype == dtype and cfg.optim_wrapper.type == 'mae_plugin.AutocastOptimWrapper'


@pytest.mark.parametrize('config, dtype', [(IMAGES, 'bfloat16'), (DETECTION, 'float16')])
def test_amp_is_a_type_that_the_model_runs_in(monkeypatch, config, dtype):
    """mmcv's RoIAlign has no bfloat16, and on the CPU no half precision."""
    monkeypatch.setattr(mmengine.device, 'get_device', lambda: 'cuda')
    default = torch.get_autocast_dtype('cuda')
    cfg = run_config.load_config(config)
    run_config.set_amp(cfg)
    try:
        run_config.set_test_amp(cfg)
        tested = torch.get_autocast_dtype('cuda')
    finally:
        torch.set_autocast_dtype('cuda', default)
    assert cfg.optim_wrapper.dtype == dtype and tested == getattr(torch, dtype) and cfg.test_cfg.fp16


@pytest.mark.parametrize('device, config, dtype', [
    ('cpu', COCO, 'float32'), ('cuda', COCO, 'float16'), ('cpu', IMAGES, 'bfloat16')])
def test_detection_on_the_cpu_is_in_float32(monkeypatch, device, config, dtype):
    monkeypatch.setattr(mmengine.device, 'get_device', lambda: device)
    cfg = run_config.load_config(config)
    run_config.float32_for_detection_on_the_cpu(cfg)
    assert cfg.optim_wrapper.dtype == dtype


@pytest.mark.parametrize('switch', [run_config.set_amp, run_config.set_test_amp])
def test_amp_is_refused_for_detection_on_the_cpu(monkeypatch, switch):
    monkeypatch.setattr(mmengine.device, 'get_device', lambda: 'cpu')
    with pytest.raises(ValueError, match='^--amp: .*RoIAlign has no half precision on the CPU$'):
        switch(run_config.load_config(DETECTION))


def test_a_config_that_tests_as_it_validates_does_so_with_options_too():
    options = ['val_dataloader.batch_size=3', "val_evaluator.metric=['bbox', 'proposal']"]
    cfg = run_config.load_config(DETECTION, options)
    assert cfg.test_dataloader == cfg.val_dataloader and cfg.test_dataloader.batch_size == 3
    assert cfg.test_evaluator == cfg.val_evaluator
    cfg = run_config.load_config(DETECTION, [*options, 'test_dataloader.batch_size=5'])
    assert (cfg.val_dataloader.batch_size, cfg.test_dataloader.batch_size) == (3, 5)
    cfg = run_config.load_config(DETECTION, ['val_dataloader=None', 'val_evaluator=None', 'val_cfg=None'])
    assert cfg.val_dataloader is None and cfg.test_dataloader.batch_size == 16


def test_crops_take_the_size_of_the_models_images():
    cfg = prepared(IMAGES, 'model.backbone.img_size=96', 'val_dataloader.dataset.pipeline.0.size=64')
    sizes = [cfg[f'{split}_dataloader'].dataset.pipeline[0].size for split in ('train', 'val', 'test')]
    assert sizes == [96, 64, 64]


def test_psnr_of_more_than_8_bits_is_asked_for(capsys):
    root, array = 'train_dataloader.dataset.data_root=/my/images', 'train_dataloader.dataset.mode=array'
    prepared(IMAGES, root, array)
    assert '+val_evaluator.data_range=' in capsys.readouterr().out
    prepared(IMAGES, root, array, '+val_evaluator.data_range=10000')
    prepared(IMAGES, root)
    assert 'data_range' not in capsys.readouterr().out


@pytest.mark.parametrize(
    'config', [path for path in sorted((ROOT / 'configs').glob('*/*.py')) if path.parent.name not in
               ('_base_', 'chains', 'ablations')], ids=lambda path: path.stem)
def test_processes_draw_different_numbers(config):
    """Or all of them would drop the same paths of their images and mix the same of them."""
    assert run_config.load_config(config).randomness == dict(seed=0, diff_rank_seed=True)


@pytest.mark.parametrize('name, part', [('-continue', 'model'), ('-from-timm', 'model.backbone')])
def test_a_resumed_run_does_not_ask_for_the_file_it_started_from(tmp_path, name, part):
    path = IMAGES.replace('small-p16_images', f'base-p16_images{name}')
    for resume in (None, 'auto'):
        cfg = run_config.load_config(path, [f'+work_dir={tmp_path}'])
        run_config.set_resume(cfg, resume)
        start = (cfg.model if part == 'model' else cfg.model.backbone).init_cfg
        assert (start is None) == (resume == 'auto')
        (tmp_path / 'iter_2.pth').touch()
