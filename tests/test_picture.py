"""Parts of JPEGs have Pillow's pixels whatever is decoded of them; the fast resize stays within a level."""

import numpy as np
import pytest
from PIL import Image
from tiny.pictures import jpeg, photograph

from mae_plugin.datasets import picture as module
from mae_plugin.datasets.image_io import ImageReadError
from mae_plugin.datasets.picture import JpegPicture, open_picture
from mae_plugin.datasets.turbojpeg import turbojpeg

needs_library = pytest.mark.skipif(turbojpeg() is None, reason='no TurboJPEG 3: pip install turbojpeg')
SHAPES = [(333, 251), (16, 16), (17, 9), (1, 40), (500, 375)]


def boxes(width, height, count):
    random = np.random.default_rng(0)
    yield 0, 0, width, height
    for _ in range(count):
        left, right = sorted(random.choice(width + 1, 2, replace=False))
        top, bottom = sorted(random.choice(height + 1, 2, replace=False))
        yield int(left), int(top), int(right), int(bottom)


def of_pillow(data, box, mode='RGB'):
    import io
    return np.asarray(Image.open(io.BytesIO(data)).convert(mode).crop(box))


@needs_library
@pytest.mark.parametrize('options', [
    dict(subsampling=sampling, progressive=progressive) for sampling in ('4:4:4', '4:2:2', '4:2:0', '4:1:1')
    for progressive in (False, True)] + [dict(mode='L'), dict(restart_marker_rows=1)], ids=str)
def test_any_box_has_pillows_pixels(options):
    for size in SHAPES:
        data = jpeg(photograph(*size), **options)
        opened = open_picture(data, 'x.jpg')
        assert isinstance(opened, JpegPicture) and opened.size == size
        for box in boxes(*size, 40):
            assert np.array_equal(opened.pixels(box), of_pillow(data, box)), (size, box)
        assert np.array_equal(opened.pixels(), of_pillow(data, None))


@pytest.mark.parametrize('channels', [1, 3])
@pytest.mark.parametrize('fast', [False, True])
def test_decoded_once_for_several_boxes(channels, fast):
    """The pixels are those of a picture that is decoded anew for each, and the file is not looked at again."""
    for data in (jpeg(photograph(333, 251)), jpeg(photograph(60, 80), mode='L'), jpeg(photograph(60, 80), mode='CMYK')):
        anew, once = (open_picture(data, 'x.jpg', channels, fast) for _ in range(2))
        once.decode()
        once.data = None
        for box in (None, *boxes(*anew.size, 5)):
            assert np.array_equal(once.pixels(box), anew.pixels(box))
            assert np.array_equal(once.resized((32, 24), box), anew.resized((32, 24), box))


@needs_library
def test_pictures_that_are_open_at_once_do_not_mix():
    files = [jpeg(photograph(*size)) for size in SHAPES]
    opened = [open_picture(data, 'x.jpg') for data in files]
    for _ in range(2):
        for data, picture in zip(files, opened, strict=True):
            assert np.array_equal(picture.pixels(), of_pillow(data, None))


@pytest.mark.parametrize('library', [True, False])
@pytest.mark.parametrize('sampling', ['4:4:4', '4:2:0'])
def test_fast_is_within_a_level_of_exact(library, sampling, monkeypatch):
    if not library:
        monkeypatch.setattr(module, 'turbojpeg', lambda: None)
    elif turbojpeg() is None:
        pytest.skip('no TurboJPEG 3')
    for size in ((333, 251), (500, 375), (60, 80)):
        data = jpeg(photograph(*size), subsampling=sampling)
        exact, fast = open_picture(data, 'x.jpg'), open_picture(data, 'x.jpg', fast=True)
        assert type(fast) is JpegPicture and fast.size == exact.size == size
        for box in boxes(*size, 5):
            assert np.array_equal(fast.pixels(box), exact.pixels(box))
            difference = abs(fast.resized((56, 48), box).astype(int) - exact.resized((56, 48), box))
            assert difference.mean() < .2


def test_exact_grey_is_pillows_luma_and_fast_grey_the_stored_one():
    data = jpeg(photograph(80, 60))
    exact, fast = (open_picture(data, 'x.jpg', 1, fast) for fast in (False, True))
    assert np.array_equal(exact.pixels((3, 4, 50, 40))[..., 0], of_pillow(data, (3, 4, 50, 40), 'L'))
    difference = abs(fast.pixels().astype(int) - exact.pixels())
    assert fast.pixels().shape == (60, 80, 1) and difference.mean() < 1 and difference.max() <= 3


@pytest.mark.parametrize('make', [
    lambda: jpeg(photograph(40, 30), exif_orientation=6), lambda: jpeg(photograph(40, 30), mode='CMYK'),
    lambda: jpeg(photograph(40, 30)) + b'trailer', lambda: jpeg(photograph(40, 30), keep_rgb=True)],
    ids=['turned', 'CMYK', 'trailer', 'RGB'])
@pytest.mark.parametrize('fast', [False, True])
def test_what_is_not_plain_takes_pillows_way(make, fast):
    opened = open_picture(make(), 'x.jpg', fast=fast)
    assert not isinstance(opened, JpegPicture)
    assert opened.size in ((40, 30), (30, 40))


@pytest.mark.parametrize('fast', [False, True])
def test_damage_is_named(fast):
    data = jpeg(photograph(120, 90))
    whole = open_picture(data, 'x.jpg', fast=fast)
    with pytest.raises(ImageReadError, match='x.jpg: .*truncated'):
        open_picture(data[:len(data) // 2], 'x.jpg', fast=fast).pixels()
    for end in (200, 400, len(data) // 2):
        broken = data[:end] + b'\xff\xd9'
        try:
            open_picture(broken, 'x.jpg', fast=fast).pixels()
            assert end > 400, 'Pillow forgives damage within the pixels'
        except ImageReadError as error:
            assert 'x.jpg' in str(error)
        assert type(open_picture(data, 'x.jpg', fast=fast)) is type(whole), 'the library is as good as new'


@pytest.mark.parametrize('fast', [False, True])
def test_a_bomb_is_refused_before_it_is_decoded(fast, monkeypatch):
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 1000)
    with pytest.raises(ImageReadError, match='x.jpg: .*DecompressionBombError'):
        open_picture(jpeg(photograph(80, 60)), 'x.jpg', fast=fast).pixels()


def test_exif_is_found_wherever_it_is():
    """After a segment with the marker of pixels in it, or behind fill bytes."""
    turned = jpeg(photograph(40, 30), exif_orientation=6)
    start = turned.index(b'\xff\xe1')
    comment = b'\xff\xfe\0\6\xff\xda..'
    for data in (turned, turned[:2] + comment + turned[2:], turned[:start] + b'\xff' + turned[start:]):
        assert open_picture(data, 'turned').size == (30, 40)
    assert isinstance(open_picture(jpeg(photograph(40, 30)), 'upright'), JpegPicture)


def test_a_damaged_header_spoils_no_other_file():
    whole = jpeg(photograph(40, 30))
    for damaged in (whole[:300] + b'\xff\xd9', b'\xff\xd8 and no more\xff\xd9'):
        with pytest.raises(ImageReadError):
            open_picture(damaged, 'damaged').pixels()
        assert isinstance(open_picture(whole, 'whole'), JpegPicture)


@pytest.mark.parametrize('fast', [False, True])
def test_an_orientation_may_be_noted_in_xmp_alone(fast):
    note = (b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
            b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>')
    assert open_picture(jpeg(photograph(40, 30), xmp=note), 'x.jpg', fast=fast).size == (30, 40)
