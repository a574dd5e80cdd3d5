"""Random erasing and mixup in the data preprocessor: equal to timm called directly, and soft labels by hand."""

import random

import numpy as np
import pytest
import torch
from mmengine import Config
from timm.data import Mixup
from timm.data.random_erasing import RandomErasing
from timm.loss import SoftTargetCrossEntropy
from tiny.tools import ROOT

from mae_plugin.registry import MODELS

pytest.importorskip('mmpretrain')
from mmpretrain.models import ImageClassifier  # noqa: E402
from mmpretrain.structures import DataSample  # noqa: E402

MEAN, STD = torch.tensor([123.675, 116.28, 103.53]), torch.tensor([58.395, 57.12, 57.375])
CLASSES = 5


def preprocessor(**changes):
    """That of the ImageNet config, for five classes."""
    cfg = Config.fromfile(ROOT / 'configs/classification/vit-base_in1k.py').model.data_preprocessor
    cfg = {**cfg.to_dict(), 'num_classes': CLASSES, **changes}
    return MODELS.build(cfg)


def batch(count=6):
    """Images in blue, green, red, and their labels 0, 1, 2, ..."""
    inputs = torch.randint(0, 256, (count, 3, 32, 40), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return dict(inputs=inputs, data_samples=[DataSample().set_gt_label(i % CLASSES) for i in range(count)])


def seed(value):
    random.seed(value)
    np.random.seed(value)
    torch.manual_seed(value)


def scores(samples):
    return torch.stack([sample.gt_score for sample in samples])


def test_equals_timm_erasing_then_mixing_of_normalised_images():
    ours, reference = preprocessor(), Mixup(mixup_alpha=.8, cutmix_alpha=1., prob=1., switch_prob=.5, mode='batch',
                                            label_smoothing=.1, num_classes=CLASSES)
    erase = RandomErasing(.25, mode='pixel', max_count=1, device='cpu')
    for number in range(20):
        images = (batch()['inputs'].flip(1).float() - MEAN[:, None, None]) / STD[:, None, None]
        seed(number)
        expected, targets = reference(erase(images), torch.arange(6) % CLASSES)
        seed(number)
        data = ours(batch(), training=True)
        torch.testing.assert_close(data['inputs'], expected, rtol=0, atol=1e-5)
        torch.testing.assert_close(scores(data['data_samples']), targets)


def test_erased_pixels_are_standard_normal_noise():
    seed(0)
    data = preprocessor(mixup=dict(prob=0.), erasing=dict(probability=1., mode='pixel'))(batch(64), training=True)
    plain = preprocessor()(batch(64))
    erased = (data['inputs'] != plain['inputs'])
    noise = data['inputs'][erased]
    assert .02 < erased.float().mean() < 1 / 3 and abs(noise.mean()) < .05 and abs(noise.std() - 1) < .05


def test_soft_labels_by_hand():
    """Half and half of classes 0 and 1: each 0.5 x 0.92 + 0.5 x 0.02; the others 0.02, a fifth of the smoothing."""
    data = preprocessor(erasing=None)
    data.mixup._params_per_batch = lambda: (.5, False)
    mixed = data(batch(2), training=True)
    expected = torch.tensor([.47, .47, .02, .02, .02])
    torch.testing.assert_close(scores(mixed['data_samples']), expected.expand(2, -1))
    torch.testing.assert_close(mixed['inputs'][0], mixed['inputs'][1])


def test_evaluation_is_neither_erased_nor_mixed():
    data = preprocessor()(batch())
    expected = (batch()['inputs'].flip(1).float() - MEAN[:, None, None]) / STD[:, None, None]
    torch.testing.assert_close(data['inputs'], expected, rtol=0, atol=1e-5)
    assert [int(sample.gt_label) for sample in data['data_samples']] == [0, 1, 2, 3, 4, 0]


def test_the_loss_of_the_config_is_timms_soft_cross_entropy():
    """In the model of the config, reduced in size: the targets are not smoothed a second time."""
    cfg = Config.fromfile(ROOT / 'configs/classification/vit-base_in1k.py').model
    cfg.backbone.update(img_size=32, embed_dim=24, depth=1, num_heads=2, init_cfg=None, type='mae_plugin.PlainViT')
    cfg.head.update(num_classes=CLASSES, in_channels=24)
    cfg.data_preprocessor.num_classes = CLASSES
    cfg.pop('type')
    from mmengine.registry import DefaultScope
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = ImageClassifier(**cfg)
    model.init_weights()
    torch.nn.init.normal_(model.head.fc.weight)
    seed(0)
    inputs = dict(batch(), inputs=batch()['inputs'][..., :32])
    data = model.data_preprocessor(inputs, training=True)
    model.eval()
    loss = model.loss(**data)['loss']
    expected = SoftTargetCrossEntropy()(model(data['inputs']), scores(data['data_samples']))
    torch.testing.assert_close(loss, expected)


def test_what_cannot_be_mixed_is_refused():
    with pytest.raises(ValueError, match='batch_size is 3: make it even'):
        preprocessor()(batch(3), training=True)
    with pytest.raises(ValueError, match='model.train_cfg.augments'):
        preprocessor(batch_augments=dict(augments=[dict(type='Mixup', alpha=.8)]))
