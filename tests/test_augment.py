"""Crops of fixed size and colours: torchvision's pixels, with numbers that belong to the sample."""

import numpy as np
import pytest
from PIL import Image
from torchvision.transforms import InterpolationMode, Resize
from torchvision.transforms import functional as F

from mae_plugin.datasets.augment import KeyedColorJitter, KeyedResizeCrop
from mae_plugin.datasets.picture import Picture
from mae_plugin.datasets.sample_key import SampleKey

KEYS = [SampleKey(1, epoch, index) for epoch in range(4) for index in range(250)]


@pytest.fixture(scope='module')
def image():
    pixels = np.random.default_rng(0).integers(256, size=(12, 16, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((160, 120), Image.Resampling.BILINEAR)


def run(transform, image, key):
    return transform(dict(img=Picture(image), sample_key=key))['img']


def test_a_crop_of_fixed_size_is_torchvisions(image):
    crop = KeyedResizeCrop(56)
    resized = Resize(64, InterpolationMode.BICUBIC)(image)  # 64 = 56 / 0.875
    for key in KEYS[:20]:
        top, left = crop.corner(resized.height, resized.width, key)
        assert run(crop, image, key).tobytes() == F.crop(resized, top, left, 56, 56).tobytes()


def test_every_place_is_as_likely():
    corners = np.array([KeyedResizeCrop(56).corner(64, 85, key) for key in KEYS])
    assert corners.min(axis=0).tolist() == [0, 0] and corners.max(axis=0).tolist() == [8, 29]
    assert abs(np.bincount(corners[:, 0]) - 1000 / 9).max() < 42  # 4.2 sigma
    assert abs(np.corrcoef(corners.T)[0, 1]) < .14


@pytest.mark.parametrize('mode', ['RGB', 'L'])
def test_colours_are_torchvisions_for_the_same_factors(image, mode):
    jitter, picture = KeyedColorJitter(.4, .4, .4, .1), image.convert(mode)
    for key in KEYS[:20]:
        expected = picture
        for function, factor in jitter.changes(key):
            expected = getattr(F, function.__name__)(expected, factor)
        result = run(jitter, picture, key)
        assert result.tobytes() == expected.tobytes() and result.shape == (120, 160, len(mode))
    assert result.tobytes() != picture.tobytes()


def test_grey_has_neither_saturation_nor_hue(image):
    grey = image.convert('L')
    assert all(run(KeyedColorJitter(0, 0, .9, .5), grey, key).tobytes() == grey.tobytes() for key in KEYS[:20])
    assert run(KeyedColorJitter(0, 0, .9, .5), image, KEYS[0]).tobytes() != image.tobytes()


def test_factors_cover_their_ranges_in_every_order():
    drawn = [KeyedColorJitter(.4, .3, 2., .1).changes(key) for key in KEYS]
    factors = {function.__name__: np.array([dict(changes)[function] for changes in drawn]) for function, _ in drawn[0]}
    for name, low, high in (('brightness', .6, 1.4), ('contrast', .7, 1.3), ('saturation', 0, 3), ('hue', -.1, .1)):
        values = factors[f'adjust_{name}']
        assert low <= values.min() < low + .02 * (high - low) and high - .02 * (high - low) < values.max() <= high
    orders = [tuple(function.__name__ for function, _ in changes) for changes in drawn]
    assert len(set(orders)) == 24 and abs(np.corrcoef([factors['adjust_hue'], factors['adjust_contrast']])[0, 1]) < .14


def test_nothing_to_change_changes_nothing(image):
    assert run(KeyedColorJitter(0, 0, 0, 0), image, KEYS[0]).tobytes() == image.tobytes()


@pytest.mark.parametrize('transform', [KeyedResizeCrop(56), KeyedColorJitter()])
def test_choices_depend_on_the_key_alone(image, transform):
    forwards = {key: run(transform, image, key).tobytes() for key in KEYS[:50]}
    assert {key: run(transform, image, key).tobytes() for key in reversed(KEYS[:50])} == forwards
    assert len(set(forwards.values())) > 30  # of the 9 x 30 places some come twice
    others = [key._replace(epoch=9) for key in KEYS[:50]], [key._replace(seed=9) for key in KEYS[:50]]
    for keys in others:
        assert [run(transform, image, key).tobytes() for key in keys] != list(forwards.values())


def test_bad_arguments(image):
    with pytest.raises(ValueError, match='KeyedColorJitter: .*hue=0.9'):
        KeyedColorJitter(hue=.9)
    with pytest.raises(ValueError, match='brightness=-1'):
        KeyedColorJitter(-1)
    with pytest.raises(ValueError, match='float64 of 3 channels'):
        KeyedColorJitter()(dict(img=np.zeros((4, 4, 3)), sample_key=KEYS[0]))
    with pytest.raises(ValueError, match='uint8 of 4 channels'):
        KeyedColorJitter()(dict(img=np.zeros((4, 4, 4), np.uint8), sample_key=KEYS[0]))
