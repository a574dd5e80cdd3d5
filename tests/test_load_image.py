import numpy as np
import pytest
from PIL import Image

from mae_plugin.datasets import LoadImage


def load(path):
    return LoadImage()(dict(img_path=str(path)))


def test_blue_comes_first(tmp_path):
    Image.new('RGB', (3, 2), (10, 20, 30)).save(tmp_path / 'a.png')
    results = load(tmp_path / 'a.png')
    assert results['img'].shape == (2, 3, 3) and results['img'][0, 0].tolist() == [30, 20, 10]
    assert results['img_shape'] == results['ori_shape'] == (2, 3)


def test_16_bits_are_scaled(tmp_path):
    Image.fromarray(np.array([[0, 257 * 100, 65535]], np.uint16)).save(tmp_path / 'a.png')
    assert load(tmp_path / 'a.png')['img'][0, :, 0].tolist() == [0, 100, 255]


def test_images_are_turned_upright(tmp_path):
    image = Image.fromarray(np.arange(6, dtype=np.uint8).reshape(2, 3) * 40)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    image.save(tmp_path / 'a.png', exif=exif)
    assert load(tmp_path / 'a.png')['img'][..., 0].tolist() == [[120, 0], [160, 40], [200, 80]]


def test_another_mode_is_refused():
    with pytest.raises(ValueError, match="mode='device' is not 'exact', 'fast', 'array' or None"):
        LoadImage(mode='device')


def test_what_an_inferencer_has_read_stays():
    image = np.zeros((2, 3, 3), np.uint8)
    assert LoadImage(mode='fast')(dict(img=image))['img'] is image
