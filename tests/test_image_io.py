"""Every format and mode becomes the right 8-bit picture; whatever is wrong with a file is one error that names it."""

import pickle
import warnings
from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageOps

from mae_plugin.datasets.image_io import ImageReadError, decode_image

RAMP = np.add.outer(np.arange(12), 16 * np.arange(15)).astype(np.uint8)  # 12 x 15, 0 to 235, smooth
COLOURS = np.stack([RAMP, RAMP[::-1], RAMP[:, ::-1]], axis=2)


def encode(image, form, **kwargs):
    buffer = BytesIO()
    image.save(buffer, form, **kwargs)
    return buffer.getvalue()


def decode(data, channels=3):
    image = decode_image(BytesIO(data), 'some/file.x', channels)
    assert image.mode == {1: 'L', 3: 'RGB'}[channels]
    return np.asarray(image)


def grey(pixels):
    return np.repeat(pixels[..., None], 3, axis=2)


@pytest.mark.parametrize('form, kwargs, tolerance', [
    ('JPEG', dict(quality=98, subsampling=0), 4), ('JPEG', dict(quality=98, progressive=True, subsampling=0), 4),
    ('PNG', {}, 0), ('WEBP', dict(lossless=True), 0), ('WEBP', dict(quality=99), 25), ('BMP', {}, 0), ('TIFF', {}, 0),
    ('TIFF', dict(compression='tiff_lzw'), 0)])
def test_formats(form, kwargs, tolerance):
    data = encode(Image.fromarray(COLOURS), form, **kwargs)
    assert abs(decode(data).astype(int) - COLOURS).max() <= tolerance
    assert abs(decode(data, 1).astype(int) - np.asarray(Image.fromarray(COLOURS).convert('L'))).max() <= tolerance


@pytest.mark.parametrize('form', ['PNG', 'TIFF', 'BMP'])
def test_grey_is_repeated(form):
    data = encode(Image.fromarray(RAMP), form)
    assert (decode(data) == grey(RAMP)).all() and (decode(data, 1) == RAMP).all()
    bits = RAMP > 100
    assert (decode(encode(Image.fromarray(bits), form)) == grey(bits * np.uint8(255))).all()


@pytest.mark.parametrize('form', ['PNG', 'TIFF', 'WEBP'])
def test_alpha_is_dropped(form):
    alpha = np.where(RAMP > 120, 0, 200).astype(np.uint8)
    pixels = np.concatenate([COLOURS, alpha[..., None]], axis=2)
    kwargs = dict(lossless=True, exact=True) if form == 'WEBP' else {}
    assert (decode(encode(Image.fromarray(pixels), form, **kwargs)) == COLOURS).all()
    if form != 'WEBP':
        assert (decode(encode(Image.fromarray(np.stack([RAMP, alpha], axis=2)), form)) == grey(RAMP)).all()


@pytest.mark.parametrize('transparency', [None, 3, bytes(range(64))])
def test_palette_becomes_its_colours(transparency):
    image = Image.fromarray((RAMP // 4).astype(np.uint8), 'L')
    palette = np.random.default_rng(0).integers(256, size=(64, 3), dtype=np.uint8)
    image.putpalette(palette.tobytes())
    kwargs = {} if transparency is None else dict(transparency=transparency)
    data = encode(image, 'PNG', **kwargs)
    assert Image.open(BytesIO(data)).mode == 'P'
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert (decode(data) == palette[RAMP // 4]).all()


@pytest.mark.parametrize('form, tolerance', [('JPEG', 6), ('TIFF', 2)])
def test_cmyk(form, tolerance):
    ink = np.stack([*np.moveaxis(255 - COLOURS, 2, 0), np.zeros_like(RAMP)], axis=2)
    kwargs = dict(quality=98) if form == 'JPEG' else {}
    data = encode(Image.fromarray(ink, 'CMYK'), form, **kwargs)
    assert Image.open(BytesIO(data)).mode == 'CMYK'
    assert abs(decode(data).astype(int) - COLOURS).max() <= tolerance


@pytest.mark.parametrize('form', ['PNG', 'TIFF'])
def test_16_bit_grey_is_scaled_by_the_range_of_its_type(form):
    values = np.linspace(0, 65535, 180).round().astype(np.uint16).reshape(12, 15)
    data = encode(Image.fromarray(values), form)
    assert (decode(data, 1) == np.rint(values / 257)).all() and decode(data).max() == 255
    # A picture that uses 12 of its 16 bits is dark, not stretched, and nothing is clipped.
    assert decode(encode(Image.fromarray(values // 16), form)).max() == 16


def test_other_wide_greys():
    values = np.linspace(0, 65535, 180).round().reshape(12, 15)
    expected = np.rint(values / 257)
    big_endian = Image.frombytes('I;16B', (15, 12), values.astype('>u2').tobytes())
    assert (decode(encode(big_endian, 'TIFF'), 1) == expected).all()
    assert (decode(encode(Image.fromarray(values.astype(np.int32)), 'TIFF'), 1) == expected).all()
    assert (decode(encode(Image.fromarray((values / 65535).astype(np.float32)), 'TIFF'), 1) == expected).all()


@pytest.mark.parametrize('values', [[-.1, 1], [0, 1.5], [0, np.nan], [-np.inf, 0]])
def test_greys_without_a_defined_white_are_refused(values):
    data = encode(Image.fromarray(np.array([values], np.float32)), 'TIFF')
    with pytest.raises(ImageReadError, match=r'some/file.x: float32 greys from .* rescale to \[0, 1\]'):
        decode(data)
    with pytest.raises(ImageReadError, match=r'int32 greys from -5 to 70000: rescale to \[0, 65535\]'):
        decode(encode(Image.fromarray(np.array([[-5, 70000]], np.int32)), 'TIFF'))


@pytest.mark.parametrize('orientation', range(10))
@pytest.mark.parametrize('form', ['JPEG', 'PNG', 'TIFF', 'WEBP'])
def test_exif_orientation_is_applied(form, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(Image.fromarray(COLOURS), form, exif=exif)
    assert (decode(data) == np.asarray(ImageOps.exif_transpose(Image.open(BytesIO(data))))).all()
    assert decode(data).shape == ((15, 12, 3) if 5 <= orientation <= 8 else (12, 15, 3))


@pytest.mark.parametrize('exif', [b'Exif\0\0II*\0\xff\xff\xff\x7f garbage', b'Exif\0\0no TIFF header'])
def test_damaged_exif_is_no_reason_to_refuse(exif):
    data = encode(Image.fromarray(COLOURS), 'JPEG', exif=exif, dpi=(72, 72), quality=98, subsampling=0)
    assert abs(decode(data).astype(int) - COLOURS).max() <= 4


def test_first_picture_of_several():
    pictures = [Image.fromarray(COLOURS), Image.fromarray(255 - COLOURS)]
    for form in ('TIFF', 'PNG'):
        assert (decode(encode(pictures[0], form, save_all=True, append_images=pictures[1:])) == COLOURS).all()


@pytest.mark.parametrize('data, reason', [
    (b'', 'not an image of a known format'), (b'<html>404</html>', 'not an image of a known format'),
    (encode(Image.fromarray(COLOURS), 'JPEG')[:-100], '[Tt]runcated'),
    (encode(Image.fromarray(COLOURS), 'PNG')[:60], ''),
    (encode(Image.fromarray(COLOURS), 'TIFF')[:300], ''), (encode(Image.fromarray(COLOURS), 'WEBP')[:60], '')])
def test_no_image_or_half_of_one(data, reason):
    with pytest.raises(ImageReadError, match=f'cannot read the image some/file.x: .*{reason}'):
        decode(data)


def test_too_many_pixels(monkeypatch):
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 50)
    with pytest.raises(ImageReadError, match='some/file.x: .*DecompressionBomb'):
        decode(encode(Image.fromarray(COLOURS), 'PNG'))


def test_random_damage_is_decoded_or_one_error():
    random = np.random.default_rng(0)
    outcomes = {True: 0, False: 0}
    for form in ('JPEG', 'PNG', 'TIFF', 'WEBP', 'BMP'):
        whole = np.frombuffer(encode(Image.fromarray(COLOURS), form), np.uint8)
        for _ in range(150):
            damaged = whole.copy()
            places = random.integers(min(len(whole), 400), size=3)
            damaged[places] = random.integers(256, size=3)
            try:
                decode(damaged.tobytes())
                outcomes[True] += 1
            except ImageReadError as error:
                outcomes[False] += 1
                assert 'some/file.x' in str(error)
    assert min(outcomes.values()) > 100


def test_error_survives_the_way_out_of_a_worker():
    error = ImageReadError('cannot read the image x: y')
    assert str(pickle.loads(pickle.dumps(error))) == str(type(error)(str(error))) == str(error)
