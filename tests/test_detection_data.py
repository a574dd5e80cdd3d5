"""Large-scale jitter as in detectron2, padding, repeated images, and the data that the detection configs read."""

import json
from collections import Counter
from itertools import islice

import numpy as np
import pytest
import torch
from mmengine import Config
from mmengine.dataset import Compose
from mmengine.evaluator import Evaluator
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from tiny.generated import make_coco, make_custom_coco, make_custom_voc, make_lvis
from tiny.tools import ROOT

from mae_plugin.datasets import RepeatFactorSampler
from mae_plugin.registry import TRANSFORMS

CONFIGS = ROOT / 'configs' / 'detection'


@pytest.fixture(autouse=True)
def mmdet():
    pytest.importorskip('mmdet')
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def crop(size, **kwargs):
    return TRANSFORMS.build(dict(type='mae_plugin.FixedSizeCrop', crop_size=size, **kwargs))


@pytest.mark.parametrize('share', [0., .3, .5, 1.])
def test_one_number_moves_the_crop_in_both_directions(monkeypatch, share):
    monkeypatch.setattr(np.random, 'uniform', lambda *args: share)
    rows, columns = np.mgrid[:100, :300]
    image = np.stack([rows, columns], axis=-1)
    found = crop((100, 40))(dict(img=image))['img']
    assert found.shape == (40, 100, 2)
    assert found[0, 0].tolist() == [round(60 * share), round(200 * share)]


def test_the_shares_of_the_margins_are_equal_in_every_crop_and_uniform():
    rows, columns = np.mgrid[:140, :540]
    image, shares = np.stack([rows, columns], axis=-1), []
    for _ in range(300):
        y, x = crop((40, 40))(dict(img=image))['img'][0, 0] / [100, 500]
        assert abs(x - y) <= .5 / 100 + .5 / 500
        shares.append(x)
    assert np.mean(shares) == pytest.approx(.5, abs=.1) and np.quantile(shares, .1) == pytest.approx(.1, abs=.1)


def test_a_smaller_image_stays():
    image = np.ones((50, 60, 3), np.uint8)
    assert crop((100, 40))(dict(img=image))['img'].shape == (40, 60, 3)
    assert crop((100, 100))(dict(img=image))['img'].shape == (50, 60, 3)


@pytest.mark.parametrize('recompute, box', [(True, [0, 0, 10, 10]), (False, [0, 0, 10, 20])])
def test_boxes_are_those_of_what_is_left_of_the_mask(monkeypatch, recompute, box):
    """detectron2's example: of the triangle (0,0) (20,0) (0,20) the right half is 10 high, not 20."""
    from mmdet.structures.bbox import HorizontalBoxes
    from mmdet.structures.mask import PolygonMasks
    monkeypatch.setattr(np.random, 'uniform', lambda *args: 1.)
    triangle = np.array([0., 0, 20, 0, 0, 20])
    left = np.array([0., 0, 5, 0, 0, 5])
    found = crop((10, 20), recompute_bbox=recompute)(dict(
        img=np.zeros((20, 20, 3), np.uint8), gt_bboxes=HorizontalBoxes(torch.tensor([[0., 0, 20, 20], [0, 0, 5, 5]])),
        gt_masks=PolygonMasks([[triangle], [left]], 20, 20), gt_bboxes_labels=np.array([7, 8]),
        gt_ignore_flags=np.zeros(2, bool)))
    assert found['gt_bboxes'].tensor.tolist() == [box] and found['gt_bboxes_labels'].tolist() == [7]


def load(name, batch=4):
    cfg = Config.fromfile(CONFIGS / f'{name}.py')
    for split in ('train', 'val'):
        cfg[f'{split}_dataloader'].update(num_workers=0, persistent_workers=False, pin_memory=False, batch_size=batch)
    assert cfg.test_dataloader.dataset == cfg.val_dataloader.dataset and cfg.test_evaluator == cfg.val_evaluator
    Evaluator(cfg.val_evaluator)
    return cfg


def loader_of(cfg, split):
    return Runner.build_dataloader(cfg[f'{split}_dataloader'], seed=0)


def test_coco_samples_and_their_padding(folder):
    """Training and test images become 1024x1024, with exact zeros beyond the normalised image."""
    make_coco('data/coco')
    cfg = load('vitdet_mask-rcnn_vit-base_coco')
    from mmdet.registry import MODELS
    from mmdet.structures.mask import PolygonMasks
    preprocessor = MODELS.build(cfg.model.data_preprocessor)
    mean, std = (torch.tensor(values)[:, None, None] for values in ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)))
    for split, count in (('train', 4), ('val', 5)):
        loader = loader_of(cfg, split)
        assert len(loader.dataset) == count  # the image without annotations is no training image
        batch = next(iter(loader))
        raw = [image.clone() for image in batch['inputs']]
        batch = preprocessor(batch, training=split == 'train')
        assert batch['inputs'].shape == (4, 3, 1024, 1024)
        for image, before, sample in zip(batch['inputs'], raw, batch['data_samples'], strict=True):
            height, width = before.shape[1:]
            assert max(height, width) <= 1024 if split == 'train' else max(height, width) == 1024
            assert sample.img_shape == (height, width) and sample.pad_shape == (1024, 1024)
            torch.testing.assert_close(image[:, :height, :width], (before.flip(0).float() - mean) / std)
            assert not image[:, height:].any() and not image[:, :, width:].any()
            if split == 'train':
                masks, boxes = sample.gt_instances.masks, sample.gt_instances.bboxes
                assert isinstance(masks, PolygonMasks) and (masks.height, masks.width) == (1024, 1024)
                assert (boxes[:, :2] >= 0).all() and (boxes[:, 2:] <= torch.tensor([width, height])).all()
                torch.testing.assert_close(masks.get_bboxes('hbox').tensor, boxes)


def test_images_left_without_an_object_stay(folder):
    make_coco('data/coco')
    cfg = load('vitdet_mask-rcnn_vit-base_coco')
    for step in cfg.train_dataloader.dataset.pipeline:
        if step.type == 'RandomResize':
            step.scale, step.ratio_range = (512, 512), (1., 1.)
        if step.type == 'mae_plugin.FixedSizeCrop':
            step.crop_size = (32, 32)
    path = folder / 'data/coco/annotations/instances_train2017.json'
    content = json.loads(path.read_text())
    # The upper left half of the image: the box is everywhere, the mask not in the lower right.
    content['annotations'] = [dict(id=1, image_id=1, category_id=1, bbox=[0, 0, 120, 90], area=5400, iscrowd=0,
                                   segmentation=[[0, 0, 120, 0, 0, 90]])]
    path.write_text(json.dumps(content))
    pipeline = Compose(cfg.train_dataloader.dataset.pipeline)
    dataset = loader_of(cfg, 'train').dataset
    assert len(dataset) == 1
    samples = [pipeline(dataset.get_data_info(0)) for _ in range(40)]
    counts = {len(sample['data_samples'].gt_instances) for sample in samples}  # None would be another image instead
    assert counts == {0, 1}


def test_crowds_are_no_objects(folder):
    """They are stored as run lengths, and polygons are wanted."""
    make_coco('data/coco')
    path = folder / 'data/coco/annotations/instances_train2017.json'
    content = json.loads(path.read_text())
    image = content['images'][0]
    content['annotations'] = [dict(
        id=1, image_id=image['id'], category_id=1, bbox=[0, 0, 50, 50], area=2500, iscrowd=1,
        segmentation=dict(size=[image['height'], image['width']], counts=[0, image['height'] * image['width']]))]
    path.write_text(json.dumps(content))
    sample = loader_of(load('vitdet_mask-rcnn_vit-base_coco'), 'train').dataset[0]['data_samples']
    assert len(sample.gt_instances) == 0


def test_lvis_samples(folder):
    pytest.importorskip('lvis')
    make_lvis('data/lvis')
    cfg = load('vitdet_mask-rcnn_vit-base_lvis')
    loader = loader_of(cfg, 'train')
    assert isinstance(loader.sampler, RepeatFactorSampler) and loader.sampler.factors.tolist() == [1.] * 4
    sample = loader.dataset[1]['data_samples']
    assert sample.img_path == 'data/lvis/train2017/000000000002.jpg'
    assert set(sample.gt_instances.labels.tolist()) <= {0, 1, 2}


@pytest.mark.parametrize('name, make', [('custom-coco', make_custom_coco), ('custom-voc', make_custom_voc)])
def test_boxes_of_ones_own(folder, name, make):
    """Both hold the same boxes; one is read from a COCO file, one from Pascal VOC's folders."""
    make(f'data/{name.replace("-", "_")}')
    cfg = load(f'vitdet_faster-rcnn_vit-base_{name}')
    assert cfg.model.roi_head.bbox_head.num_classes == 2
    for split in ('train', 'val'):
        loader = loader_of(cfg, split)
        assert len(loader.dataset) == 4 and loader.dataset.metainfo['classes'] == ('cat', 'dog')
        batch = next(iter(loader))
        assert len(batch['inputs']) == 4 and 'masks' not in batch['data_samples'][0].gt_instances
    truth = json.loads((make_custom_coco('truth') or folder / 'truth/annotations/val.json').read_text())['annotations']
    expected = [([x, y, x + w, y + h], entry['category_id'] - 1) for entry in truth if entry['image_id'] == 1
                for x, y, w, h in [entry['bbox']]]
    instances = loader_of(cfg, 'val').dataset.get_data_info(0)['instances']
    assert [(instance['bbox'], instance['bbox_label']) for instance in instances] == expected


class Labels:
    def __init__(self, *labels):
        self.labels = labels

    def __len__(self):
        return len(self.labels)

    def get_cat_ids(self, index):
        return self.labels[index]


def test_repeat_factors_by_hand():
    """Of 16 images class 0 is in 16, class 1 in 4 and class 2 in one: factors 1, sqrt(.5 / .25) and sqrt(.5 * 16)."""
    sampler = RepeatFactorSampler(Labels([0, 1, 2, 2], *[[0, 1]] * 3, *[[0]] * 11, []), threshold=.5, seed=0)
    factors = [8**.5, *[2**.5] * 3, *[1] * 12]
    assert sampler.factors.tolist() == pytest.approx(factors)
    assert len(sampler) == round(sum(factors))
    epochs = 2000
    stream = islice(sampler, int(epochs * sum(factors)))
    counts = Counter(stream)
    for image, factor in enumerate(factors):
        assert counts[image] / epochs == pytest.approx(factor, abs=.04)  # mmdet would give 3 and 2
    assert 2 * epochs < counts[0] < 3 * epochs


def test_ranks_share_the_stream(monkeypatch):
    labels = Labels([0], [0], [0], [1])
    alone = list(islice(RepeatFactorSampler(labels, threshold=.9, seed=3), 60))
    parts = []
    for rank in range(2):
        monkeypatch.setattr('mae_plugin.datasets.samplers.get_dist_info', lambda rank=rank: (rank, 2))
        parts.append(list(islice(RepeatFactorSampler(labels, threshold=.9, seed=3), 30)))
    assert alone == [image for pair in zip(*parts, strict=True) for image in pair]
    assert set(alone) == {0, 1, 2, 3}
