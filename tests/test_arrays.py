"""mode='array': the numbers of the file, whatever its format, channels and depth, and pixels without data."""

from io import BytesIO

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from mae_plugin.datasets import LoadImage, UnlabelledImages
from mae_plugin.datasets.arrays import ArrayReader
from mae_plugin.datasets.image_io import ImageReadError

KEEP = [dict(type='mae_plugin.PackUnlabelled')]
CROP = [dict(type='mae_plugin.KeyedRandomResizedCrop', size=(16, 24)), dict(type='mae_plugin.KeyedRandomFlip'),
        dict(type='mae_plugin.PackUnlabelled')]


def numbers(channels, dtype=np.uint16, size=(20, 31), seed=0):
    """Numbers that 8 bits do not hold, (H, W, channels)."""
    values = np.random.default_rng(seed).integers(1, 60_000, (*size, channels))
    return (values % 256).astype(dtype) if np.dtype(dtype).itemsize == 1 else values.astype(dtype)


def file_of(write, *arguments, **options):
    file = BytesIO()
    write(file, *arguments, **options)
    return file.getvalue()


def tiff(values, **options):
    return file_of(pytest.importorskip('tifffile').imwrite, values, **options)


def png(values):
    """By OpenCV, whose colours are the other way round."""
    return cv2.imencode('.png', values[..., ::-1] if values.shape[2] == 3 else values)[1].tobytes()


PLAIN = dict(photometric='minisblack')
FILES = {
    'npy': lambda x: file_of(np.save, x),
    'npy, channels first': lambda x: file_of(np.save, x.transpose(2, 0, 1)),
    'npz': lambda x: file_of(np.savez_compressed, image=x),
    'TIFF, interleaved': lambda x: tiff(x, planarconfig='contig', **PLAIN),
    'TIFF, in planes': lambda x: tiff(x.transpose(2, 0, 1), planarconfig='separate', **PLAIN),
    'TIFF, a page each': lambda x: tiff(x.transpose(2, 0, 1), **PLAIN),
    'TIFF, deflated tiles': lambda x: tiff(x, planarconfig='contig', compression='zlib', predictor=2, tile=(16, 16),
                                           **PLAIN),
    'BigTIFF': lambda x: tiff(x, planarconfig='contig', bigtiff=True, byteorder='>', **PLAIN),
}


@pytest.mark.parametrize('kind', FILES)
@pytest.mark.parametrize('channels, dtype', [(2, np.uint8), (5, np.uint16), (13, np.uint16), (14, np.int16)])
def test_the_numbers_of_the_file(kind, channels, dtype):
    values = numbers(channels, dtype)
    picture = ArrayReader(channels).open(FILES[kind](values), 'a')
    assert picture.size == (31, 20) and picture.pixels().dtype == np.float32
    np.testing.assert_array_equal(picture.pixels(), values)
    np.testing.assert_array_equal(picture.pixels((3, 4, 9, 20)), values[4:20, 3:9])


@pytest.mark.parametrize('kind', ['npy', 'TIFF, interleaved', 'TIFF, in planes'])
@pytest.mark.parametrize('dtype', [np.float32, np.float64, np.int32])
def test_floats(kind, dtype):
    values = (numbers(4) / 7 - 1000).astype(dtype)
    found = ArrayReader(4).open(FILES[kind](values), 'a').pixels()
    np.testing.assert_array_equal(found, values.astype(np.float32))


@pytest.mark.parametrize('values, encode', [
    (numbers(3), png), (numbers(1), png), (numbers(3, np.uint8), png), (numbers(4, np.uint8), lambda x: file_of(
        Image.fromarray(x).save, format='PNG')),
    (numbers(1)[..., 0], lambda x: file_of(np.save, x)), (numbers(1)[..., 0], lambda x: tiff(x)),
    (numbers(3), lambda x: tiff(x, photometric='rgb'))])
def test_pictures(values, encode):
    """Colours of 16 bits, of which Pillow keeps 8; alpha is a channel; a grey needs no axis of channels."""
    channels = values.shape[2] if values.ndim == 3 else 1
    found = ArrayReader(channels).open(encode(values), 'a').pixels()
    np.testing.assert_array_equal(found, values.reshape(20, 31, channels))


def test_a_shape_that_can_be_read_in_two_ways_has_its_channels_last():
    values = numbers(13, size=(13, 8))
    np.testing.assert_array_equal(ArrayReader(13).open(file_of(np.save, values), 'a').pixels(), values)
    first = values.transpose(2, 0, 1)[:, :5]  # (13, 5, 8)
    np.testing.assert_array_equal(ArrayReader(13).open(file_of(np.save, first), 'a').pixels(), first.transpose(1, 2, 0))


@pytest.mark.parametrize('kind', ['npy', 'npy, channels first', 'TIFF, interleaved', 'TIFF, a page each'])
def test_bands_are_picked_and_ordered(kind):
    values = numbers(13)
    found = ArrayReader(3, bands=[3, 2, 1]).open(FILES[kind](values), 'a').pixels()
    np.testing.assert_array_equal(found, values[..., [3, 2, 1]])


def test_no_data_is_nan():
    values = numbers(3)
    values[2, 3], values[4, 5, 1] = 0, 0  # all channels, and one: that is a number
    found = ArrayReader(3, nodata=0).open(file_of(np.save, values), 'a').pixels()
    assert np.isnan(found[2, 3]).all() and np.isnan(found).sum() == 3
    assert found[4, 5, 1] == 0
    floats = values.astype(np.float32)
    floats[0, 0, 2], floats[0, 1] = np.nan, np.inf
    found = ArrayReader(3, nodata='nan').open(file_of(np.save, floats), 'a').pixels()
    assert np.isnan(found).sum() == 4 and np.isnan(found[0, 0, 2]) and np.isnan(found[0, 1]).all()


def test_resizing_is_pytorchs_and_gives_pixels_without_data_no_weight():
    values = numbers(2).astype(np.float32)
    picture = ArrayReader(2).open(file_of(np.save, values), 'a')
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(values[2:18, 1:31]).permute(2, 0, 1)[None], (7, 9), mode='bicubic', antialias=True)
    np.testing.assert_array_equal(picture.resized((7, 9), (1, 2, 31, 18)), expected[0].permute(1, 2, 0))
    flat = np.full((20, 32, 1), 700, np.uint16)
    flat[:, :10] = 9  # whatever stands there
    found = ArrayReader(1, nodata=9).open(file_of(np.save, flat), 'a').resized((10, 16))
    assert np.isnan(found[:, :5]).all() and np.isfinite(found[:, 5:]).all()
    np.testing.assert_allclose(found[:, 5:], 700, rtol=1e-5)
    whole = ArrayReader(2, nodata=-1).open(file_of(np.save, values), 'a')
    np.testing.assert_array_equal(whole.resized((7, 9)), picture.resized((7, 9)))


@pytest.mark.parametrize('data, message', [
    (lambda: file_of(np.save, numbers(4)), r'it has 4 channels, of shape \(20, 31, 4\), but channels=3: set channels=4 '
     r'and model.backbone.in_chans=4, or pick 3 of them by arrays=dict\(bands='),
    (lambda: file_of(np.save, np.zeros((2, 3, 4, 5))), r'\(2, 3, 4, 5\) is none of \(H, W\)'),
    (lambda: file_of(np.save, np.zeros((0, 4, 3))), 'no pixels'),
    (lambda: file_of(np.save, np.ones((5, 4, 3), complex)), 'complex128'),
    (lambda: file_of(np.save, np.array([[['a']] * 3])), '<U1'),
    (lambda: file_of(np.save, np.array([[[{}] * 3]], object), allow_pickle=True), 'allow_pickle=False'),
    (lambda: file_of(np.savez, a=numbers(3), b=numbers(3)), 'it holds the arrays a, b: one is expected'),
    (lambda: file_of(np.save, numbers(3))[:-9], 'expected 3720 bytes'),
    (lambda: tiff(numbers(3), planarconfig='contig', **PLAIN)[:-900], 'a.tif'),
    (lambda: pytest.importorskip('tifffile') and b'II*\0garbage', 'it has no page'),
    (lambda: b'PK\3\4garbage', 'a.tif'), (lambda: b'', 'a.tif'),
    (lambda: b'no image', 'not an image of a known format')])
def test_what_is_no_such_file(data, message):
    with pytest.raises(ImageReadError, match=message) as caught:
        ArrayReader(3).open(data(), 'a.tif')
    assert str(caught.value).startswith('cannot read the image a.tif: ')


def test_values_that_are_not_finite_are_data_of_nobody():
    values = np.ones((4, 4, 3), np.float32)
    values[0, 0, 0] = np.inf
    with pytest.raises(ImageReadError, match=r"NaN or infinity; .* set arrays=dict\(nodata='nan'\)"):
        ArrayReader(3).open(file_of(np.save, values), 'a').pixels()


def test_a_package_that_is_missing_is_named(monkeypatch):
    lzw = file_of(Image.fromarray(numbers(1)[..., 0]).save, format='TIFF', compression='tiff_lzw')
    try:
        import imagecodecs  # noqa: F401
    except ImportError:
        pytest.importorskip('tifffile')
        with pytest.raises(ImportError, match=r'pip install imagecodecs, or mae-plugin\[tiff\]'):
            ArrayReader(1).open(lzw, 'a')
    monkeypatch.setitem(__import__('sys').modules, 'tifffile', None)
    with pytest.raises(ImportError, match=r'image a: .* pip install tifffile, or mae-plugin\[tiff\]'):
        ArrayReader(1).open(lzw, 'a')


@pytest.fixture
def tiles(tmp_path):
    for number in range(20):
        np.save(tmp_path / f'{number:02}.npy', numbers(13, seed=number))
    return tmp_path


def test_samples(tiles):
    dataset = UnlabelledImages(tiles, CROP, mode='array', channels=13)
    assert len(dataset) == 20
    batch = dataset.__getitems__(range(3))
    assert batch.whole.shape == (3, 13, 16, 24) and batch.whole.dtype == torch.float32
    assert batch[0]['data_samples'].ori_shape == (20, 31)
    kept = UnlabelledImages(tiles, KEEP, mode='array', channels=2, arrays=dict(bands=[12, 0]))[5]['inputs']
    np.testing.assert_array_equal(kept, numbers(13, seed=5)[..., [12, 0]].transpose(2, 0, 1))
    repeated = UnlabelledImages(tiles, CROP, mode='array', channels=13, repeats=2)[3]
    assert torch.equal(repeated['inputs'], dataset[3]['inputs'])


def test_another_number_of_channels_is_an_error_at_the_start_and_a_bad_image_later(tiles):
    with pytest.raises(ValueError, match=r'none of the first 16 can be read: .*00.npy: it has 13 channels.*channels=4'):
        UnlabelledImages(tiles, KEEP, mode='array', channels=4)
    np.save(tiles / '07.npy', numbers(5))
    sample = UnlabelledImages(tiles, KEEP, mode='array', channels=13)[7]
    (path, reason), = sample['data_samples'].bad_images
    assert path.endswith('07.npy') and 'it has 5 channels' in reason


@pytest.mark.parametrize('kwargs, message', [
    (dict(channels=13), r"channels=13 is not one of \[1, 3\], .* set mode='array'"),
    (dict(channels=13, mode='device'), "pictures of mode='device'"),
    (dict(arrays=dict(nodata=0)), r"arrays=\{'nodata': 0\} goes with mode='array', not mode='exact'"),
    (dict(mode='array', cache='store'), "mode='array' with cache='store'"),
    (dict(mode='array', channels=0), 'channels=0 is not a whole number of at least 1'),
    (dict(mode='array', arrays=dict(band=[1])), "arrays has 'band', but knows only bands and nodata"),
    (dict(mode='array', arrays=dict(bands=[1])), r'bands=\[1\] has to name 3 channels'),
    (dict(mode='array', arrays=dict(bands=[0, 1, -1])), r'counted from 0'),
    (dict(mode='array', arrays=dict(nodata='none')), "nodata='none' is neither a number, nor 'nan'"),
    (dict(mode='array', arrays=dict(bands=[0, 1, 13])), r'it has 13 channels, .* but bands=\[0, 1, 13\]')])
def test_bad_arguments(tiles, kwargs, message):
    with pytest.raises(ValueError, match=message):
        UnlabelledImages(tiles, KEEP, **kwargs)


def test_other_modes_pass_arrays_by(tiles):
    with pytest.raises(ValueError, match='images end in'):
        UnlabelledImages(tiles, KEEP)


def test_labelled_images_are_read_alike(tmp_path):
    values = numbers(13)
    values[3, 4] = 0
    np.save(tmp_path / 'a.npy', values)
    load = LoadImage(mode='array', channels=13, arrays=dict(nodata=0), fill=range(13))
    found = load(dict(img_path=str(tmp_path / 'a.npy')))
    values[3, 4] = np.arange(13)
    np.testing.assert_array_equal(found['img'], values)
    assert found['img'].dtype == np.float32 and found['img_shape'] == (20, 31)
    three = LoadImage(mode='array', arrays=dict(bands=[2, 1, 0]))(dict(img_path=str(tmp_path / 'a.npy')))['img']
    np.testing.assert_array_equal(three, np.load(tmp_path / 'a.npy')[..., :3])  # the last first, as to_rgb=True expects
    for kwargs in (dict(channels=13), dict(mode='array', arrays=dict(nodata=0)), dict(mode='array', fill=[1, 2, 3]),
                   dict(mode='array', arrays=dict(nodata=0), fill=[1])):
        with pytest.raises(ValueError, match='LoadImage: '):
            LoadImage(**kwargs)
