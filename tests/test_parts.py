"""Every part that can be swapped: its config trains, its run resumes, and its encoder starts a task."""

import json
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from tiny.tools import ROOT, run_tool  # noqa: F401

from mae_plugin.registry import MODELS
from mae_plugin.utils.run_config import load_config
from mae_plugin.weights.safe_load import load_file

PARTS = sorted((ROOT / 'configs/parts').glob('*.py'))
ITERS = 24
SMALL = ['prepare_data=None', 'model.backbone.img_size=48', 'train_dataloader.num_workers=0',
         'train_dataloader.batch_size=8', 'val_dataloader.num_workers=0', 'param_scheduler=[]', 'val_dataloader=None',
         'val_evaluator=None', 'val_cfg=None', 'default_hooks.logger.interval=1', 'log_processor.window_size=1',
         f'train_cfg.max_iters={ITERS}', 'optim_wrapper.optimizer.lr=2e-3',
         f'default_hooks.checkpoint.interval={ITERS // 2}']


@pytest.fixture(scope='module')
def scenes(tmp_path_factory):
    """A folder with a few of the built-in scenes below ``data``, where the configs look for them."""
    pytest.importorskip('sklearn')
    from mae_plugin.datasets.digit_scenes import ensure_digit_scenes
    from mae_plugin.datasets.spectral_scenes import ensure_spectral_scenes
    folder = tmp_path_factory.mktemp('scenes')
    ensure_digit_scenes(folder / 'data/digit_scenes', pretrain_train=32, pretrain_val=4, detection_train=2,
                        detection_val=2, classification_train=10, classification_val=10)
    ensure_spectral_scenes(folder / 'data/spectral_scenes', train=32, val=4)
    return folder


@pytest.mark.parametrize('config', PARTS, ids=[config.stem for config in PARTS])
def test_a_part_trains_resumes_and_transfers(run_tool, scenes, monkeypatch, tmp_path, config):  # noqa: F811
    monkeypatch.chdir(scenes)
    # The picture of a mask is for 12 x 12 patches, and what is not square is to stay so.
    sized = config.stem in ('mask_file', 'channels_13-rectangular')
    small = [option for option in SMALL if not (sized and 'img_size' in option)]

    def train(work_dir, *options):
        code, out, err = run_tool('train', config, '--work-dir', work_dir, *options, '--cfg-options', *small)
        assert code == 0, out + err

    train(tmp_path / 'whole')
    lines = [json.loads(line) for file in (tmp_path / 'whole').glob('*/vis_data/scalars.json')
             for line in file.read_text().splitlines()]
    losses = [line['loss'] for line in lines if 'loss' in line]
    assert len(losses) == ITERS and sum(losses[-6:]) < .95 * sum(losses[:6]), losses

    train(tmp_path / 'resumed', '--resume', tmp_path / 'whole' / f'iter_{ITERS // 2}.pth')
    whole, resumed = (load_file(tmp_path / run / f'iter_{ITERS}.pth')['state_dict'] for run in ('whole', 'resumed'))
    assert whole.keys() == resumed.keys() and all(torch.equal(whole[name], resumed[name]) for name in whole)

    encoder = start_classifier(load_config(tmp_path / 'whole' / config.name), tmp_path / 'whole' / f'iter_{ITERS}.pth')
    loaded = {f'backbone.{name}': value for name, value in encoder.state_dict().items()}
    assert any('.blocks.' in name for name in loaded)
    assert all(torch.equal(value, whole[name]) for name, value in loaded.items() if 'fc_norm' not in name)


def start_classifier(cfg: Config, checkpoint: Path) -> torch.nn.Module:
    """The backbone of a classifier of the same sizes, started from ``checkpoint``."""
    backbone = dict(cfg.model.backbone, out_type='avg_featmap', freeze_pos_embed=False,
                    init_cfg=dict(type='mae_plugin.MAEPretrained', checkpoint=str(checkpoint)))
    backbone.pop('out_indices', None)
    if backbone['type'] == 'mae_plugin.MaskTokenViT':  # tasks have no use for mask tokens
        backbone['type'] = 'mae_plugin.PlainViT'
    encoder = MODELS.build(backbone)
    encoder.init_weights()
    return encoder
