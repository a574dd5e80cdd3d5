"""torchvision's law and torchvision's pixels, with numbers that belong to the sample."""

import numpy as np
import pytest
import torch
from mmengine.dataset import Compose
from PIL import Image
from torchvision.transforms import CenterCrop, InterpolationMode, RandomResizedCrop, Resize
from torchvision.transforms.functional import resized_crop

from mae_plugin.datasets.picture import Picture
from mae_plugin.datasets.sample_key import SampleKey
from mae_plugin.datasets.transforms import KeyedRandomFlip, KeyedRandomResizedCrop, PackUnlabelled, ResizeCenterCrop

KEYS = [SampleKey(1, epoch, index) for epoch in range(4) for index in range(500)]


@pytest.fixture(scope='module')
def image():
    pixels = np.random.default_rng(0).integers(256, size=(12, 16, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((160, 120), Image.Resampling.BILINEAR)


def run(transform, image, key):
    return transform(dict(img=Picture(image), sample_key=key))['img']


@pytest.mark.parametrize('size', [32, (32, 64), (90, 41), 224])
def test_crop_has_torchvisions_pixels(image, size):
    crop = KeyedRandomResizedCrop(size)
    for key in KEYS[:20]:
        left, top, right, bottom = crop.box(*image.size, key)
        expected = resized_crop(image, top, left, bottom - top, right - left, crop.size, InterpolationMode.BICUBIC)
        result = run(crop, image, key)
        assert result.tobytes() == expected.tobytes() and result.shape == (*crop.size, 3)


def kolmogorov_smirnov(first, second):
    """Largest distance between two empirical distribution functions, times sqrt(n / 2): 1.95 at p = 0.001."""
    values = np.sort(np.concatenate([first, second]))
    distance = abs(np.searchsorted(np.sort(first), values, 'right') - np.searchsorted(np.sort(second), values, 'right'))
    return distance.max() / len(first) * np.sqrt(len(first) / 2)


@pytest.mark.parametrize('width, height', [(160, 120), (500, 375), (60, 200), (37, 41)])
def test_box_follows_torchvisions_law(width, height):
    torch.manual_seed(0)
    canvas = Image.new('L', (width, height))
    theirs = np.array([RandomResizedCrop.get_params(canvas, (.2, 1.), (3 / 4, 4 / 3)) for _ in KEYS])
    crop = KeyedRandomResizedCrop(8)
    boxes = np.array([crop.box(width, height, key) for key in KEYS])
    ours = np.stack([boxes[:, 1], boxes[:, 0], boxes[:, 3] - boxes[:, 1], boxes[:, 2] - boxes[:, 0]], axis=1)
    ours, theirs = (
        np.concatenate([box, box[:, 2:3] * box[:, 3:], box[:, 3:] / box[:, 2:3]], axis=1).T for box in (ours, theirs))
    for name, mine, other in zip(('top', 'left', 'height', 'width', 'area', 'shape'), ours, theirs, strict=True):
        assert kolmogorov_smirnov(mine, other) < 1.95, name


def test_box_lies_in_the_image_and_in_the_ranges():
    crop = KeyedRandomResizedCrop(8, scale=(.3, .5), ratio=(.8, 1.5))
    boxes = np.array([crop.box(400, 300, key) for key in KEYS])
    left, top, right, bottom = boxes.T
    assert (left >= 0).all() and (top >= 0).all() and (right <= 400).all() and (bottom <= 300).all()
    area, shape = (right - left) * (bottom - top) / 120000, (right - left) / (bottom - top)
    assert .297 < area.min() < .31 and .49 < area.max() < .503 and abs(area.mean() - .4) < .01
    assert .79 < shape.min() < .82 and 1.46 < shape.max() < 1.51
    assert left.min() == top.min() == 0 and right.max() == 400 and bottom.max() == 300


@pytest.mark.parametrize('size, box', [
    ((30, 300), (0, 130, 30, 170)), ((300, 30), (130, 0, 170, 30)), ((1, 1), (0, 0, 1, 1))])
def test_where_no_draw_fits_the_centre_is_taken(size, box):
    assert KeyedRandomResizedCrop(8, scale=(.9, 1.)).box(*size, KEYS[0]) == box


def test_choices_depend_on_the_key_alone(image):
    pipeline = Compose([
        dict(type='mae_plugin.KeyedRandomResizedCrop', size=16), dict(type='mae_plugin.KeyedRandomFlip')])
    def pictures(keys):
        return {key: run(pipeline, image, key).tobytes() for key in keys}
    forwards = pictures(KEYS[:50])
    torch.manual_seed(5), np.random.seed(5)
    assert pictures(reversed(KEYS[:50])) == forwards
    assert len(set(forwards.values())) == 50
    other_epoch = pictures([key._replace(epoch=9) for key in KEYS[:50]])
    other_seed = pictures([key._replace(seed=9) for key in KEYS[:50]])
    assert not set(forwards.values()) & (set(other_epoch.values()) | set(other_seed.values()))


@pytest.mark.parametrize('prob', [0, .2, .5, 1])
def test_flip_rate(image, prob):
    mirrored = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).tobytes()
    small = image.tobytes()
    flips = [KeyedRandomFlip(prob)(dict(img=np.asarray(image), sample_key=key))['img'] for key in KEYS]
    results = [flipped.tobytes() for flipped in flips]
    assert set(results) <= {mirrored, small}
    assert abs(np.mean([result == mirrored for result in results]) - prob) < .05 * (0 < prob < 1) + 1e-9  # 4.5 sigma


def test_flip_is_unrelated_to_the_crop():
    crop, pixels = KeyedRandomResizedCrop(8), np.array([[[0], [255]]], np.uint8)
    flips = [KeyedRandomFlip()(dict(img=pixels, sample_key=key))['img'][0, 0, 0] for key in KEYS]
    for column in np.array([crop.box(500, 375, key) for key in KEYS]).T:
        assert abs(np.corrcoef(column, flips)[0, 1]) < .1  # 4.5 sigma


@pytest.mark.parametrize('source', [(160, 120), (120, 160), (333, 127), (20, 20), (61, 500)])
@pytest.mark.parametrize('size', [32, 64])
def test_centre_equals_torchvisions(image, source, size):
    picture = image.resize(source)
    expected = CenterCrop(size)(Resize(int(size / .875), InterpolationMode.BICUBIC)(picture))
    assert run(ResizeCenterCrop(size), picture, KEYS[0]).tobytes() == expected.tobytes()


@pytest.mark.parametrize('source', [(160, 120), (120, 160), (333, 20)])
@pytest.mark.parametrize('size', [(32, 64), (64, 32), (7, 64)])
def test_centre_of_a_rectangle_is_filled_and_in_shape(source, size):
    # A picture whose grey rises to the right: after any crop that keeps its shape, the middle is mid-grey.
    ramp = Image.fromarray(np.tile(np.linspace(20, 235, source[0]).astype(np.uint8), (source[1], 1)))
    pixels = run(ResizeCenterCrop(size, crop_share=1), ramp, KEYS[0])[..., 0].astype(int)
    assert pixels.shape == size and pixels.min() >= 18
    covered = min(source[1] * size[1] / size[0] / source[0], 1)
    assert abs(pixels.max() - pixels.min() - 215 * covered) < 12 and abs(pixels[:, size[1] // 2] - 127).max() < 12


@pytest.mark.parametrize('mode, channels', [('RGB', 3), ('L', 1)])
def test_pack(image, mode, channels):
    picture = image.convert(mode)
    packed = PackUnlabelled()(dict(img=Picture(picture), sample_key=KEYS[3], img_path='a/b.png', ori_shape=(120, 160)))
    assert set(packed) == {'inputs', 'data_samples'}
    assert packed['inputs'].dtype == torch.uint8 and packed['inputs'].shape == (channels, 120, 160)
    assert packed['inputs'].is_contiguous()
    assert packed['inputs'][:, 7, 11].tolist() == list(np.atleast_1d(picture.getpixel((11, 7))))
    sample = packed['data_samples']
    assert (sample.sample_key, sample.img_path, sample.ori_shape) == ((1, 0, 3), 'a/b.png', (120, 160))
    assert type(sample.sample_key) is tuple and set(sample.metainfo) == {'sample_key', 'img_path', 'ori_shape'}


@pytest.mark.parametrize('make, message', [
    (lambda: KeyedRandomResizedCrop(0), 'size=0'), (lambda: KeyedRandomResizedCrop((3, 4, 5)), r'size=\(3, 4, 5\)'),
    (lambda: KeyedRandomResizedCrop(8, scale=(.5, 1.1)), r'scale=\(0.5, 1.1\)'),
    (lambda: KeyedRandomResizedCrop(8, scale=(0, 1)), 'scale='),
    (lambda: KeyedRandomResizedCrop(8, ratio=(2, 1)), 'ratio='),
    (lambda: KeyedRandomFlip(1.5), 'prob=1.5'), (lambda: ResizeCenterCrop(8, crop_share=0), 'crop_share=0'),
    (lambda: ResizeCenterCrop('8'), "size='8'")])
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
