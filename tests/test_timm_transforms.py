"""The authors' transforms: equal to timm and torchvision called directly, and the crop of linear probing."""

import random

import numpy as np
import pytest
import torch
from mmengine import Config
from PIL import Image
from timm.data import create_transform
from tiny.pictures import jpeg, photograph
from tiny.tools import ROOT
from torchvision import transforms

from mae_plugin.datasets import LoadImage, LoopFreeRandomResizedCrop, TimmTransform
from mae_plugin.datasets import picture as picture_module
from mae_plugin.datasets.picture import JpegPicture
from mae_plugin.datasets.turbojpeg import turbojpeg
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


FILES = {
    '444.jpg': jpeg(photograph(210, 150), subsampling='4:4:4'), '420.jpg': jpeg(photograph(333, 151, 1)),
    'grey.jpg': jpeg(photograph(90, 120, 2), mode='L'), 'cmyk.jpg': jpeg(photograph(90, 120, 2), mode='CMYK'),
    'turned.jpg': jpeg(photograph(120, 90, 3), exif_orientation=6),
    'progressive.jpg': jpeg(photograph(100, 100, 4), progressive=True)}


@pytest.fixture
def files(tmp_path):
    """Paths of files that data sets have; the orientation of one is to be ignored, as torchvision does."""
    for name, data in FILES.items():
        (tmp_path / name).write_bytes(data)
    photograph(150, 80, 5).save(tmp_path / 'rgb.png')
    return sorted(tmp_path.iterdir())


def test_loaded_pixels_are_those_of_torchvision_and_of_mmcv(files):
    """Grey pictures become RGB, and the orientation in a file is ignored, as torchvision's data sets do."""
    pytest.importorskip('mmcv')
    from mmcv.transforms import LoadImageFromFile
    mmcv = LoadImageFromFile(imdecode_backend='pillow', color_type='color_ignore_orientation')
    cfg = Config.fromfile(ROOT / 'configs/classification/vit-base_in1k.py').load_image
    picture, array = (TRANSFORMS.build({**cfg, 'mode': mode}) for mode in ('exact', None))
    for path in files:
        ours, theirs = (load(dict(img_path=str(path))) for load in (array, mmcv))
        assert torch.equal(rgb(ours), transforms.PILToTensor()(Image.open(path).convert('RGB')))
        assert np.array_equal(ours['img'], theirs['img'])
        for key in ('img_shape', 'ori_shape'):
            assert ours[key] == theirs[key] == picture(dict(img_path=str(path)))[key]


@pytest.mark.parametrize('library', [True, False])
def test_pictures_are_transformed_as_timm_transforms_whole_images(files, library, monkeypatch):
    """Bit for bit and with the same random numbers, in training and evaluation, though only a part is decoded."""
    if not library:
        monkeypatch.setattr(picture_module, 'turbojpeg', lambda: None)
    boxes, pixels = [], JpegPicture.pixels
    monkeypatch.setattr(JpegPicture, 'pixels', lambda self, box=None: (boxes.append(box), pixels(self, box))[1])
    cfg = Config.fromfile(ROOT / 'configs/classification/vit-base_in1k.py')
    for pipeline in (cfg.train_pipeline, cfg.test_pipeline):
        load, ours = map(TRANSFORMS.build, pipeline[:2])
        reference = create_transform(**{k: v for k, v in pipeline[1].items() if k != 'type'}, use_prefetcher=True)
        for path in files:
            for number in range(6 if pipeline is cfg.train_pipeline else 1):
                seed(number)
                expected = reference(Image.open(path).convert('RGB'))
                state = random.getstate()
                seed(number)
                got = ours(load(dict(img_path=str(path))))
                assert np.array_equal(rgb(got), expected), (path, number)
                assert random.getstate() == state
    if library and turbojpeg():
        assert len(boxes) == 5 * 7 and boxes.count(None) < 10, 'five kinds are plain JPEGs, one of them tall'


@pytest.mark.parametrize('kwargs', [
    dict(is_training=True, interpolation='random'), dict(is_training=True, interpolation='bilinear'),
    dict(crop_mode='squash', interpolation='bicubic'), dict(crop_mode='border', interpolation='bicubic'),
    dict(crop_pct=.9, interpolation='bilinear'), dict(input_size=(3, 48, 64), interpolation='bicubic')], ids=str)
def test_what_is_no_bicubic_crop_takes_the_whole_picture(files, kwargs):
    kwargs = dict(input_size=48) | kwargs
    load, ours, reference = LoadImage('fast', True), TimmTransform(**kwargs), create_transform(
        **kwargs, use_prefetcher=True)
    for path in files:
        seed(1)
        expected = reference(Image.open(path).convert('RGB'))
        seed(1)
        assert np.array_equal(rgb(ours(load(dict(img_path=str(path))))), expected)


def test_fast_is_within_a_level(files):
    for kwargs in (dict(is_training=True, interpolation='bicubic', color_jitter=None), dict(interpolation='bicubic')):
        ours = TimmTransform(input_size=64, **kwargs)
        for path in files:
            images = []
            for mode in ('exact', 'fast'):
                seed(2)
                images.append(rgb(ours(LoadImage(mode)(dict(img_path=str(path))))).int())
            difference = (images[0] - images[1]).abs().float().mean()
            assert difference < .3
            assert (difference == 0) == (path.name in ('cmyk.jpg', 'rgb.png', 'turned.jpg')), path


def test_the_loop_free_crop_of_a_picture(files):
    crop = LoopFreeRandomResizedCrop(32)
    for path in files:
        for number in range(3):
            random.seed(number)
            box = crop.box(*Image.open(path).size)
            expected = Image.open(path).convert('RGB').crop(box).resize((32, 32), Image.Resampling.BICUBIC)
            random.seed(number)
            got = crop(LoadImage('exact', True)(dict(img_path=str(path))))
            assert np.array_equal(got['img'][..., ::-1], expected)


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
