"""The mask and the target that ``docs/parts.md`` shows are run as they stand there."""

import json
import re
from pathlib import Path

import pytest
import torch
from tiny.tools import ROOT, run_tool  # noqa: F401

from mae_plugin.models import PatchMask
from mae_plugin.registry import MODELS

DOC = (ROOT / 'docs/parts.md').read_text()
PARTS, CONFIG = re.findall(r'```python\n(.*?)```', DOC, re.DOTALL)


@pytest.fixture
def forget():
    """Take the parts out of the registry again."""
    yield
    for name in ('DetailMasking', 'DetailTarget'):
        MODELS.module_dict.pop(name, None)


def test_a_mask_or_a_target_takes_under_20_lines():
    for part in re.split(r'(?=@MODELS)', PARTS)[1:]:
        assert len(part.strip().splitlines()) < 20


def test_what_they_compute(forget):
    namespace = {}
    exec(PARTS, namespace)
    imgs = torch.zeros(1, 3, 8, 16)
    imgs[0, :, :4, 4:8:2] = 1.  # all contrast is in patch 1
    masking = namespace['DetailMasking'](mask_ratio=.125)
    mask = masking(imgs, (2, 4))
    assert mask.ids_pred.tolist() == [[1]]
    target = namespace['DetailTarget'](4, size=3)
    everything = PatchMask(torch.arange(8)[None], 0, (2, 4))
    assert not target(torch.full((1, 3, 8, 16), 5.), everything).any()
    one = torch.zeros(1, 3, 8, 16)
    one[..., 2, 2] = 9.
    assert target(one, everything)[0, 0].reshape(4, 4, 3)[1:, 1:, 0].tolist() == [[-1, -1, -1], [-1, 8, -1], [-1] * 3]


def test_they_train(run_tool, forget, tmp_path, monkeypatch):  # noqa: F811
    pytest.importorskip('sklearn')
    from mae_plugin.datasets.digit_scenes import ensure_digit_scenes
    ensure_digit_scenes(tmp_path / 'data/digit_scenes', pretrain_train=16, pretrain_val=4, detection_train=2,
                        detection_val=2, classification_train=10, classification_val=10)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / 'my_parts.py').write_text(PARTS)
    (tmp_path / 'my_config.py').write_text(CONFIG.replace("'configs/", f"'{ROOT}/configs/"))
    code, out, err = run_tool(
        'train', 'my_config.py', '--no-validate', '--work-dir', tmp_path / 'run', '--cfg-options', 'prepare_data=None',
        'model.backbone.img_size=48', 'train_dataloader.num_workers=0', 'train_dataloader.batch_size=8',
        'train_cfg.max_iters=24', 'param_scheduler=[]', 'default_hooks.logger.interval=1',
        'optim_wrapper.optimizer.lr=2e-3')
    assert code == 0, out + err
    losses = [json.loads(line)['loss'] for file in Path('run').glob('*/vis_data/scalars.json')
              for line in file.read_text().splitlines()]
    assert len(losses) == 24 and sum(losses[-6:]) < .95 * sum(losses[:6]), losses
