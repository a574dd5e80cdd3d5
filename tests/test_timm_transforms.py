"""The authors' transforms: equal to timm and torchvision called directly, and the crop of linear probing."""

import random

import numpy as np
import pytest
import torch
from mmengine import Config
from PIL import Image
from timm.data import create_transform
from tiny.tools import ROOT
from torchvision import transforms

from mae_plugin.datasets import LoopFreeRandomResizedCrop, TimmTransform
from mae_plugin.registry import TRANSFORMS


def picture(height=150, width=210):
    """A smooth picture with different colours, RGB."""
    y, x = np.mgrid[:height, :width]
    pixels = np.stack([x % 256, (y * 2) % 256, (x + y) // 2 % 256], axis=-1).astype(np.uint8)
    pixels[20:60, 30:90] = [250, 10, 120]
    return Image.fromarray(pixels)


def results(image):
    """What ``LoadImageFromFile`` gives: blue first."""
    return dict(img=np.asarray(image)[..., ::-1])


def rgb(results):
    return torch.from_numpy(results['img'][..., ::-1].copy()).permute(2, 0, 1)


def seed(value):
    random.seed(value)
    np.random.seed(value)
    torch.manual_seed(value)


def pipelines(name):
    """The transforms of a config's training and test pipeline that are between loading and packing."""
    cfg = Config.fromfile(ROOT / 'configs' / 'classification' / f'{name}.py')
    return [TRANSFORMS.build(cfg[key][1]) for key in ('train_pipeline', 'test_pipeline')]


@pytest.mark.parametrize('name, size', [('vit-base_in1k', 224), ('vit-huge_in1k-448px', 448)])
def test_training_is_what_timm_gives_for_the_authors_arguments(name, size):
    """The reference normalises, as theirs does; the crops, flips and policies of twelve draws."""
    train, _ = pipelines(name)
    reference = create_transform(input_size=size, is_training=True, color_jitter=None, interpolation='bicubic',
                                 auto_augment='rand-m9-mstd0.5-inc1', re_prob=0.)
    mean, std = (torch.tensor(values)[:, None, None] for values in ((.485, .456, .406), (.229, .224, .225)))
    image, different = picture(), set()
    for number in range(12):
        seed(number)
        expected = reference(image)
        seed(number)
        got = train(results(image))
        assert got['img'].dtype == np.uint8 and got['img_shape'] == (size, size)
        torch.testing.assert_close((rgb(got) / 255 - mean) / std, expected, rtol=0, atol=1e-5)
        different.add(got['img'].tobytes())
    assert len(different) == 12


@pytest.mark.parametrize('name, resize, crop', [('vit-base_in1k', 256, 224), ('vit-huge_in1k-448px', 448, 448)])
@pytest.mark.parametrize('size', [(150, 210), (301, 200), (600, 811)])
def test_evaluation_is_that_of_torchvision(name, resize, crop, size):
    _, test = pipelines(name)
    image = picture(*size)
    expected = transforms.Compose([
        transforms.Resize(resize, interpolation=transforms.InterpolationMode.BICUBIC), transforms.CenterCrop(crop),
        transforms.PILToTensor()])(image)
    assert torch.equal(rgb(test(results(image))), expected)


def test_loaded_pixels_are_those_of_torchvision(tmp_path):
    """Grey pictures become RGB, and the orientation in a file is ignored, as torchvision's data sets do."""
    pytest.importorskip('mmcv')
    from mmcv.transforms import LoadImageFromFile
    load = Config.fromfile(ROOT / 'configs/classification/vit-base_in1k.py').load_image
    assert load.pop('type') == 'LoadImageFromFile'
    turned = Image.Exif()
    turned[0x0112] = 6
    picture().save(tmp_path / 'turned.jpg', exif=turned)
    picture().convert('L').save(tmp_path / 'grey.jpg')
    for path in tmp_path.iterdir():
        loaded = LoadImageFromFile(**load)(dict(img_path=str(path)))
        expected = transforms.PILToTensor()(Image.open(path).convert('RGB'))
        assert torch.equal(rgb(loaded), expected)


def test_erasing_is_refused_where_it_would_come_before_normalisation():
    with pytest.raises(ValueError, match='data_preprocessor.erasing'):
        TimmTransform(input_size=224, is_training=True, re_prob=.25)


@pytest.mark.parametrize('image', [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 3), np.float32)])
def test_what_is_no_picture_is_refused(image):
    with pytest.raises(ValueError, match='color_type'):
        LoopFreeRandomResizedCrop(4)(dict(img=image))


@pytest.mark.parametrize('image, area, shape, sides', [
    ((100, 50), .25, 1, (35, 35)),  # a quarter of 100 x 50 fits: sqrt(1250)
    ((100, 50), 1., 4 / 3, (82, 50)),  # sqrt(5000 * 4 / 3) = 82 wide, but 61 high: clipped to the image
    ((50, 100), 1., 4 / 3, (50, 61)),
])
def test_sides_of_the_loop_free_crop_are_clipped_not_drawn_again(monkeypatch, image, area, shape, sides):
    draws = iter([area, np.log(shape)])
    monkeypatch.setattr(random, 'uniform', lambda low, high: next(draws))
    left, top, right, bottom = LoopFreeRandomResizedCrop(8).box(*image)
    assert (right - left, bottom - top) == sides
    assert 0 <= left and right <= image[0] and 0 <= top and bottom <= image[1]


def test_the_loop_free_crop_is_everywhere_and_its_pixels_are_torchvisions():
    random.seed(0)
    crop, image, boxes = LoopFreeRandomResizedCrop(32), picture(), []
    for _ in range(2000):
        boxes.append(crop.box(210, 150))
    boxes = np.array(boxes)
    share = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) / (210 * 150)
    assert .07 < share.min() < .1 and .97 < share.max() <= 1
    assert .5 < share.mean() < .54  # clipping takes a little of the mean area, .54
    assert boxes[:, 0].max() > 100 and boxes[:, 1].max() > 70 and boxes[:, :2].min() == 0
    random.seed(1)
    left, top, right, bottom = crop.box(210, 150)
    random.seed(1)
    expected = transforms.functional.resized_crop(
        image, top, left, bottom - top, right - left, [32, 32], transforms.InterpolationMode.BICUBIC)
    np.testing.assert_array_equal(crop(results(image))['img'][..., ::-1], np.asarray(expected))


@pytest.mark.parametrize('policy', ['rand-m9-mstd0.5-inc1', 'originalr'])
def test_posterizing_at_full_strength(policy):
    """No bit is left then, which Pillow 12 refuses: an ImageNet run would end in its first batches."""
    transform = TimmTransform(input_size=32, is_training=True, auto_augment=policy)
    part = transform.transform.transforms[2]
    ops = [op for op in (*getattr(part, 'ops', ()), *(op for pair in getattr(part, 'policy', ()) for op in pair))
           if op.name == 'PosterizeIncreasing']
    assert ops
    for op in ops:
        op.prob, op.magnitude, op.magnitude_std = 1., 10, 0
        assert not np.asarray(op(picture())).any()
        op.magnitude = 6  # half of the bits
        assert len(set(np.asarray(op(picture())).ravel().tolist())) == 4
