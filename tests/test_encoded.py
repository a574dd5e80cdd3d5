"""JPEGs that are left to the GPU: the same crops as by mode 'fast', here decoded by torchvision on the CPU."""

import copy
import logging
from io import BytesIO
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.runner import Runner
from PIL import Image
from tiny.pictures import jpeg, photograph

from mae_plugin.datasets import UnlabelledImages, collate_batch, encoded, reader
from mae_plugin.datasets.encoded import EncodedCrop, EncodedImages, is_baseline, why_not_on_gpu
from mae_plugin.datasets.image_io import ImageReadError
from mae_plugin.datasets.picture import JpegPicture, open_picture
from mae_plugin.datasets.sample_key import SampleKey
from mae_plugin.engine.prefetch import prefetch
from mae_plugin.models import MAEDataPreprocessor

CROP = [dict(type='mae_plugin.KeyedRandomResizedCrop', size=(48, 56)), dict(type='mae_plugin.KeyedRandomFlip'),
        dict(type='mae_plugin.PackUnlabelled')]
PICTURE = photograph(160, 120)
# By name what the GPU is left, then what it is not.
LEFT = {f'{name}.jpg': jpeg(picture, **options) for name, picture, options in (
    ('a444', PICTURE, dict(subsampling='4:4:4')), ('b420', photograph(200, 90, 1), dict(subsampling='4:2:0')),
    ('c422', photograph(64, 80, 2), dict(subsampling='4:2:2')), ('d_grey', photograph(150, 150, 3), dict(mode='L')))}
OTHER = {
    'e_progressive.jpg': jpeg(PICTURE, progressive=True), 'f_turned.jpg': jpeg(PICTURE, exif_orientation=6),
    'g_cmyk.jpg': jpeg(PICTURE, mode='CMYK')}
_TABLES, _FRAME = (LEFT['a444.jpg'].index(marker) for marker in (b'\xff\xdb', b'\xff\xc0'))
# Without its quantisation tables a file has a good header, but no decoder can go on.
BROKEN = LEFT['a444.jpg'][:_TABLES] + LEFT['a444.jpg'][_FRAME:]


@pytest.fixture
def folder(tmp_path):
    for name, data in (LEFT | OTHER).items():
        (tmp_path / name).write_bytes(data)
    photograph(90, 70, 4).save(tmp_path / 'h.png')
    return tmp_path


@pytest.fixture
def preprocessor():
    return MAEDataPreprocessor(mean=[0.] * 3, std=[1.] * 3)


@pytest.fixture(autouse=True)
def _a_gpu_there_is(monkeypatch):
    monkeypatch.setattr(reader, 'why_not_on_gpu', lambda: None)


def batches(folder, mode, workers=0, count=6, collate='mae_plugin.collate_batch', **kwargs):
    loader = Runner.build_dataloader(dict(
        dataset=dict(type='mae_plugin.UnlabelledImages', data_root=str(folder), pipeline=copy.deepcopy(CROP), mode=mode,
                     **kwargs),
        sampler=dict(type='mae_plugin.KeyedSampler'), collate_fn=dict(type=collate), batch_size=5, num_workers=workers),
        seed=3)
    stream = iter(loader)
    return [next(stream) for _ in range(count)]


def test_a_worker_hands_over_batches_of_jpegs_alone(folder, preprocessor):
    for name in (*OTHER, 'h.png'):
        (folder / name).unlink()
    for ours, fast in zip(batches(folder, 'device', 1, 2), batches(folder, 'fast', 1, 2), strict=True):
        assert len(ours['inputs'].crops) == 5
        assert (preprocessor(ours)['inputs'] - fast['inputs']).abs().mean() < .3


@pytest.mark.parametrize('workers', [0, 2])
def test_crops_flips_and_order_are_those_of_fast(folder, preprocessor, workers):
    flips = set()
    for ours, fast in zip(batches(folder, 'device', workers), batches(folder, 'fast'), strict=True):
        images = ours['inputs']
        assert isinstance(images, EncodedImages) and len(images) == 5
        named = [sample.img_path.rpartition('/')[2] for sample in ours['data_samples']]
        assert [crop.position for crop in images.crops] == [i for i, name in enumerate(named) if name in LEFT]
        assert images.decoded_positions == [i for i, name in enumerate(named) if name not in LEFT]
        assert images.files.is_shared() == images.decoded.is_shared() == (workers > 0)
        assert len(images.files) == sum(len(LEFT.get(name, b'')) for name in named)
        flips |= {crop.flip for crop in images.crops}
        pixels = preprocessor.decode(ours)['inputs']
        assert pixels.dtype == torch.uint8 and pixels.shape == fast['inputs'].shape
        assert torch.equal(pixels[images.decoded_positions], fast['inputs'][images.decoded_positions])
        for left, right in zip(pixels, fast['inputs'], strict=True):
            assert (left.int() - right.int()).abs().float().mean() < .3
        assert [s.metainfo for s in ours['data_samples']] == [s.metainfo for s in fast['data_samples']]
    assert flips == {True, False}


def test_a_loader_without_our_collate_serves_too(folder, preprocessor):
    for ours, plain in zip(batches(folder, 'device'), batches(folder, 'device', collate='pseudo_collate'), strict=True):
        assert isinstance(plain['inputs'], list)
        assert torch.equal(preprocessor(ours)['inputs'], preprocessor(plain)['inputs'])


def test_grey(folder):
    grey = MAEDataPreprocessor(mean=[0.], std=[1.])
    for ours, fast in zip(batches(folder, 'device', channels=1), batches(folder, 'fast', channels=1), strict=True):
        pixels = grey(ours)['inputs']
        assert ours['inputs'].crops and pixels.shape == (5, 1, 48, 56)
        assert (pixels - fast['inputs']).abs().mean(dim=(1, 2, 3)).max() < .3


def test_groups_that_are_decoded_at_once_change_nothing(folder, preprocessor, monkeypatch):
    first = [preprocessor(batch)['inputs'] for batch in batches(folder, 'device')]
    monkeypatch.setattr(encoded, '_DECODED_AT_ONCE', 100_000)
    sizes, decode = [], encoded._decode
    monkeypatch.setattr(encoded, '_decode', lambda files, *args: (sizes.append(len(files)), decode(files, *args))[1])
    second = [preprocessor(batch)['inputs'] for batch in batches(folder, 'device')]
    assert max(sizes) < 5 and all(map(torch.equal, first, second))


def test_a_crop_makes_its_pixels_for_a_transform_that_asks(folder):
    """Also where it cannot be left to the GPU: the middle of the resized image."""
    centre = [dict(type='mae_plugin.ResizeCenterCrop', size=32), dict(type='mae_plugin.PackUnlabelled')]
    ours, fast = (UnlabelledImages(folder, centre, mode=mode) for mode in ('device', 'fast'))
    assert all(torch.equal(ours[i]['inputs'], fast[i]['inputs']) for i in range(len(ours)))
    ours, fast = (UnlabelledImages(folder, CROP, mode=mode) for mode in ('device', 'fast'))
    for epoch in range(4):
        crop = ours[SampleKey(0, epoch, 0)]['inputs']
        assert isinstance(crop, EncodedCrop) and crop.size == (56, 48)
        expected = fast[SampleKey(0, epoch, 0)]['inputs'].permute(1, 2, 0).numpy()
        assert np.array_equal(crop.pixels(), expected)
        assert np.array_equal(crop.flipped().pixels((3, 4, 9, 8)), expected[4:8, ::-1][:, 3:9])


def test_what_the_engine_takes():
    for data in LEFT.values():
        assert is_baseline(data)
    for data in (OTHER['e_progressive.jpg'], b'\xff\xd8', b'\xff\xd8\xff\xe0\x00\x00' * 9, b'no JPEG', b''):
        assert not is_baseline(data)


def test_what_the_kernel_cannot_reduce_at_once_is_not_left():
    picture = encoded.left_to_gpu(open_picture(LEFT['a444.jpg'], 'x.jpg', fast=True))
    assert isinstance(picture.resized((4, 5)), EncodedCrop)  # 32 times
    made = picture.resized((4, 4))  # 40 times
    assert isinstance(made, np.ndarray) and made.shape == (4, 4, 3)


def crop(data, name='x.jpg'):
    return EncodedCrop(JpegPicture(data, name, 3, None, (160, 120), True), (10, 20, 110, 100), (48, 56), flip=True)


def test_a_file_that_the_device_refuses_is_decoded_by_pillow(monkeypatch):
    expected, bad = EncodedImages([crop(LEFT['a444.jpg'])] * 5).decode('cpu')
    decode, calls = encoded.decode_jpeg, []
    refused = jpeg(PICTURE, subsampling='4:4:4', progressive=True)  # the same coefficients in another order

    def refuse(files, *args, **kwargs):
        calls.append(len(files))
        if any(file.numpy().tobytes() == refused for file in files):
            raise RuntimeError('Failed to decode batch: 6')
        return decode(files, *args, **kwargs)
    monkeypatch.setattr(encoded, 'decode_jpeg', refuse)
    files = [LEFT['a444.jpg']] * 3 + [refused, LEFT['a444.jpg']]
    images, bad = EncodedImages([crop(data) for data in files]).decode('cpu')
    assert torch.equal(images, expected) and not bad
    assert calls == [5, 2, 3, 1, 2, 1, 1]


def test_a_bad_image_is_reported_and_the_first_good_one_stands_in(tmp_path, preprocessor):
    for name in 'abcdef':
        (tmp_path / f'{name}.jpg').write_bytes(BROKEN if name in 'ad' else jpeg(photograph(160, 120, ord(name))))
    data = UnlabelledImages(tmp_path, CROP, mode='device')
    batch = collate_batch(data.__getitems__([SampleKey(0, 0, i) for i in range(6)]))
    pixels = preprocessor(batch)['inputs']
    for name, image, sample in zip('abcdef', pixels, batch['data_samples'], strict=True):
        if name not in 'ad':
            assert 'bad_images' not in sample
            continue
        (path, reason), = sample.bad_images
        assert path == f'{tmp_path}/{name}.jpg' and f'{name}.jpg: ' in reason
        assert torch.equal(image, pixels[1])
    assert not torch.equal(pixels[1], pixels[2])
    with pytest.raises(ImageReadError, match='x.jpg'):
        EncodedImages([crop(BROKEN)] * 2).decode('cpu')


def test_no_memory_is_not_the_fault_of_a_file(monkeypatch):
    def decode_jpeg(files, *args, **kwargs):
        calls.append(files)
        raise RuntimeError('Error while decoding JPEG images: CUDA out of memory. Tried to allocate')
    calls = []
    monkeypatch.setattr(encoded, 'decode_jpeg', decode_jpeg)
    with pytest.raises(RuntimeError, match='out of memory'):
        EncodedImages([crop(LEFT['a444.jpg'])] * 4).decode('cpu')
    assert len(calls) == 1


def test_crops_of_different_sizes_are_refused():
    with pytest.raises(ValueError, match=r'differ in shape: \[\(3, 48, 56\), \(3, 48, 57\)\]'):
        EncodedImages([crop(LEFT['a444.jpg']), torch.zeros(3, 48, 57, dtype=torch.uint8)])


def test_a_thread_decodes_the_same_one_batch_ahead(folder, preprocessor):
    inline = [preprocessor(batch)['inputs'] for batch in batches(folder, 'device')]
    ahead = list(prefetch(batches(folder, 'device', 2), 'cpu', preprocessor.decode))
    assert all(batch['inputs'].dtype == torch.uint8 for batch in ahead)
    assert all(torch.equal(preprocessor(batch)['inputs'], images) for batch, images in zip(ahead, inline, strict=True))


@pytest.fixture
def log(monkeypatch):
    """The lines that are logged."""
    lines = []
    handler = logging.Handler()
    handler.emit = lambda record: 'JPEG' in record.getMessage() and lines.append(record.getMessage())
    logger = MMLogger.get_instance('test_encoded')
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield lines
    logger.removeHandler(handler)


def test_one_line_says_which_path_runs(folder, log, monkeypatch):
    assert UnlabelledImages(folder, CROP, mode='device').reader.mode == 'device'
    assert 'JPEGs are decoded by the GPU (nvJPEG)' in log[-1] and len(log) == 1
    monkeypatch.setattr(reader, 'why_not_on_gpu', why_not_on_gpu)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    data = UnlabelledImages(folder, CROP, mode='device')
    assert data.reader.mode == 'fast' and isinstance(data[0]['inputs'], torch.Tensor)
    assert "decoded in the workers, mode 'fast' instead of 'device' (no GPU)" in log[-1] and len(log) == 2
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'current_device', lambda: 0)

    def decode_jpeg(*args, **kwargs):
        raise RuntimeError('torchvision not compiled with nvJPEG support\nException raised from')
    monkeypatch.setattr(encoded, 'decode_jpeg', decode_jpeg)
    assert UnlabelledImages(folder, CROP, mode='device').reader.mode == 'fast'
    assert '(torchvision not compiled with nvJPEG support), ' in log[-1] and len(log) == 3


@pytest.mark.gpu
def test_the_gpu_decodes_the_same_pictures(folder):
    assert why_not_on_gpu() is None
    preprocessor = MAEDataPreprocessor(mean=[0.] * 3, std=[1.] * 3).cuda()
    for ours, fast in zip(batches(folder, 'device', 2), batches(folder, 'fast'), strict=True):
        pixels = preprocessor.decode(ours)['inputs']
        assert pixels.is_cuda
        difference = (pixels.cpu().int() - fast['inputs'].int()).abs().float().mean(dim=(1, 2, 3))
        named = [sample.img_path.rpartition('/')[2] for sample in ours['data_samples']]
        for name, value in zip(named, difference.tolist(), strict=True):
            assert value < (2 if name[0] in 'bc' else 1), name  # nvJPEG enlarges chroma in another way


def test_the_host_waits_for_the_stream_before_each_call(monkeypatch):
    """The order on a GPU, where the decoder overwrites what was freed on the stream."""
    events = []
    wait = SimpleNamespace(synchronize=lambda: events.append('wait'))
    monkeypatch.setattr(torch.cuda, 'current_stream', lambda device: SimpleNamespace(record_event=lambda: wait))

    def decode_jpeg(files, mode, device):
        events.append(len(files))
        if len(files) > 1:
            raise RuntimeError('one of them')
        return files
    monkeypatch.setattr(encoded, 'decode_jpeg', decode_jpeg)
    assert encoded._decode([1, 2], 3, torch.device('cuda')) == [1, 2]
    assert events == ['wait', 2, 'wait', 1, 'wait', 1]


@pytest.mark.gpu
@pytest.mark.parametrize('ahead', [False, True])
def test_what_the_decoder_writes_is_used_by_nobody_else(ahead):
    """pytorch/vision#9606: sums of a busy device, whose memory is freed while they are still to run, stay right."""
    random = np.random.default_rng(0)
    files = []
    for _ in range(12):
        file = BytesIO()
        Image.fromarray(random.integers(256, size=(375, 500, 3), dtype=np.uint8)).save(file, 'JPEG', quality=96)
        files.append(file.getvalue())
    preprocessor = MAEDataPreprocessor(mean=[0.] * 3, std=[1.] * 3).cuda()

    def stream(count):
        for i in range(count):
            yield dict(inputs=EncodedImages([EncodedCrop(
                JpegPicture(files[(i + j) % 12], 'x.jpg', 3, None, (500, 375), True), (0, 0, 500, 375), (224, 224))
                for j in range(64)]))

    def checksum(images):
        return (images.long() * torch.arange(images[0].numel(), device='cuda').view_as(images[0])).sum(dim=(1, 2, 3))
    expected = []
    for batch in stream(12):
        torch.cuda.synchronize()
        expected.append(checksum(preprocessor.decode(batch)['inputs']).tolist())
    weight, sums, own = torch.randn(4096, 4096, device='cuda'), [], []
    decoded = prefetch(stream(60), 'cuda', preprocessor.decode) if ahead else map(preprocessor.decode, stream(60))
    for batch in decoded:
        for _ in range(30):
            weight = weight @ weight / 64  # keeps the device behind the host
        filled = [torch.full((3, 375, 500), 7, dtype=torch.uint8, device='cuda') for _ in range(64)]
        own.append(sum(x.long().sum() for x in filled))
        sums.append(checksum(batch['inputs']))
        del filled, batch
    assert [x.tolist() for x in sums] == [expected[i % 12] for i in range(60)]
    assert {int(x) for x in own} == {64 * 3 * 375 * 500 * 7}
