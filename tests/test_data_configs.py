"""The data-set configs: each builds its data sets, and gives samples and batches that the models take."""

import random
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine import Config
from mmengine.evaluator import Evaluator
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from PIL import Image
from test_neu import archives

from mae_plugin.datasets.digit_scenes import ensure_digit_scenes
from mae_plugin.datasets.neu import DET_CLASSES, SEG_CLASSES, ensure_neu

CONFIGS = Path(__file__).parents[1] / 'configs' / '_base_' / 'datasets'


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """A folder with ``data/`` in it: a few images in the layout of every data set that the configs name."""
    top = tmp_path_factory.mktemp('top')
    root = top / 'data'
    rng = np.random.default_rng(0)
    ensure_neu(root / 'neu', *archives(top / 'raw'))
    for number in range(4):
        pixels = rng.integers(0, 255, (90, 120, 3), np.uint8)
        for split in ('train', 'val'):
            save(root / 'imagenet' / split / f'n{number % 2:08d}' / f'{number}.JPEG', pixels)
        for split in ('training', 'validation'):
            save(root / 'ade/ADEChallengeData2016/images' / split / f'{number}.jpg', pixels)
            save(root / 'ade/ADEChallengeData2016/annotations' / split / f'{number}.png',
                 np.full((90, 120), 50 * number, np.uint8))
    return top


@pytest.fixture(scope='module')
def digits(data):
    pytest.importorskip('sklearn')
    ensure_digit_scenes(data / 'data' / 'digit_scenes', pretrain_train=1, pretrain_val=1, detection_train=40,
                        detection_val=8, classification_train=40, classification_val=10)
    return data


@pytest.fixture
def load(data, request, monkeypatch):
    """``load(name, library)``: a config, where its relative paths are, with loaders that work in this process."""
    def load(name, library):
        pytest.importorskip(library)
        if 'digits' in name:
            request.getfixturevalue('digits')
        monkeypatch.chdir(data)
        scope.enter_context(DefaultScope.overwrite_default_scope(library))
        cfg = Config.fromfile(CONFIGS / f'{name}.py')
        for split in ('train', 'val', 'test'):
            cfg[f'{split}_dataloader'].update(num_workers=0, persistent_workers=False, pin_memory=False, batch_size=4)
        assert cfg.test_dataloader == cfg.val_dataloader and cfg.test_evaluator == cfg.val_evaluator
        Evaluator(cfg.val_evaluator)
        return cfg

    with ExitStack() as scope:
        yield load


def batches(cfg, counts):
    """Of train and of val: the name, the data set, and the images and data samples of the first batch."""
    for split, count, sampler in zip(('train', 'val'), counts, ('InfiniteSampler', 'DefaultSampler'), strict=True):
        loader = Runner.build_dataloader(cfg[f'{split}_dataloader'], seed=0)
        assert len(loader.dataset) == count and type(loader.sampler).__name__ == sampler
        random.seed(0)
        torch.manual_seed(0)
        batch = next(iter(loader))
        assert len(batch['inputs']) == len(batch['data_samples']) > 1
        for image in batch['inputs']:
            # Pixels, not yet normalised: RandAugment may leave few of their levels.
            assert image.dtype == torch.uint8 and image.shape[0] == 3 and image.max() > 4
        yield split, loader.dataset, batch['inputs'], batch['data_samples']


@pytest.mark.parametrize('name, size, classes, counts', [
    ('digits_cls', 96, tuple('0123456789'), (40, 10)), ('neu_cls', 224, DET_CLASSES, (24, 6)),
    ('../../classification/vit-base_in1k', 224, ('n00000000', 'n00000001'), (4, 4))])
def test_classification(load, name, size, classes, counts):
    for _, dataset, images, samples in batches(load(name, 'mmpretrain'), counts):
        assert images.shape == (4, 3, size, size)
        assert [dataset[0]['inputs'].shape, dataset[0]['data_samples'].gt_label.shape] == [(3, size, size), (1,)]
        assert tuple(dataset.metainfo['classes']) == classes
        for sample in samples:
            path = Path(sample.img_path)
            named = path.stem.rpartition('_')[0] if name == 'neu_cls' else path.parent.name
            assert classes[sample.gt_label] == named


@pytest.mark.parametrize('name, size, classes, counts', [
    ('digits_det', 96, tuple('0123456789'), (40, 8)), ('neu_det', 448, DET_CLASSES, (24, 6))])
def test_detection(load, name, size, classes, counts):
    for split, dataset, images, samples in batches(load(name, 'mmdet'), counts):
        assert dataset.metainfo['classes'] == classes
        assert sum(len(sample.gt_instances) for sample in samples) > 1
        for image, sample in zip(images, samples, strict=True):
            height, width = image.shape[1:]
            assert max(height, width) <= size if split == 'train' else max(height, width) == size
            if split == 'val':  # ground truth in the size of the file
                height, width = sample.ori_shape
            boxes = sample.gt_instances.bboxes.tensor
            assert (boxes[:, :2] >= 0).all() and (boxes[:, 2:] <= torch.tensor([width, height])).all()
            assert (boxes[:, :2] < boxes[:, 2:]).all()


@pytest.mark.parametrize('name, size, classes, counts', [
    ('digits_seg', 96, ('background', *'0123456789'), (40, 8)), ('neu_seg', 224, SEG_CLASSES, (5, 2)),
    ('../../segmentation/upernet_vit-base_ade20k-512x512', 512, None, (4, 4))])
def test_segmentation(load, name, size, classes, counts):
    for split, dataset, images, samples in batches(load(name, 'mmseg'), counts):
        number = len(dataset.metainfo['classes'])
        assert number == len(dataset.metainfo['palette']) and classes in (None, dataset.metainfo['classes'])
        values = set()
        for image, sample in zip(images, samples, strict=True):
            found = sample.gt_sem_seg.data[0].numpy()
            values |= set(found.ravel())
            assert max(image.shape) <= size if split == 'train' else min(image.shape[1:]) <= size <= max(image.shape)
            if split == 'val':
                expected = np.asarray(Image.open(sample.seg_map_path))
                np.testing.assert_array_equal(found, expected - np.uint8('ade20k' in name))  # there 0 is ignored: 255
        assert values - {255} <= set(range(number)) and len(values) > 1


def test_a_data_root_is_given_by_the_environment(monkeypatch):
    variables = dict(imagenet_cls='IMAGENET_ROOT', coco_instance='COCO_ROOT', ade20k='ADE20K_ROOT')
    for name, variable in variables.items():
        monkeypatch.setenv(variable, '/somewhere')
        cfg = Config.fromfile(CONFIGS / f'{name}.py')
        assert {cfg[f'{split}_dataloader'].dataset.data_root for split in ('train', 'val', 'test')} == {'/somewhere'}
        assert cfg.val_evaluator.get('ann_file', '/somewhere/').startswith('/somewhere/')


def test_configs_prepare_the_folder_they_read():
    for path in CONFIGS.glob('*.py'):
        cfg = Config.fromfile(path)
        if 'prepare_data' in cfg and 'train_dataloader' in cfg:
            for split in ('train', 'val', 'test'):
                dataset = cfg[f'{split}_dataloader'].dataset
                assert dataset.get('dataset', dataset).data_root.startswith(cfg.prepare_data.root)  # in LabelShare
