"""Images that cannot be read are replaced, listed with the reason, and stop a run where they are too many."""

import csv
import json
import struct
import zlib
from itertools import count, islice
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import tiny_mae_cfg
from mmengine.model import BaseDataPreprocessor
from mmengine.runner import Runner
from mmengine.runner.checkpoint import CheckpointLoader
from mmengine.structures import BaseDataElement
from PIL import Image
from tiny.generated import make_images
from tiny.pictures import jpeg, photograph
from tiny.processes import train
from tiny.stream import digests
from tiny.tools import TINY

from mae_plugin.datasets import KeyedSampler, UnlabelledImages, collate_batch, image_sources
from mae_plugin.engine import BadImagesHook
from mae_plugin.registry import MODELS
from mae_plugin.weights.safe_load import load_file

CROP = [dict(type='mae_plugin.KeyedRandomResizedCrop', size=64), dict(type='mae_plugin.PackUnlabelled')]
JPEG = jpeg(photograph(60, 45))
_numbers = count()


def png_bomb():
    """A PNG of a few bytes that claims 400 million pixels."""
    def chunk(kind, data):
        return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))
    header = struct.pack('>IIBBBBB', 20_000, 20_000, 8, 2, 0, 0, 0)
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + chunk(b'IDAT', zlib.compress(b'')) + chunk(b'IEND', b'')


def jpeg_bomb():
    """A JPEG whose header claims 65,000 x 65,000 pixels."""
    place = JPEG.index(b'\xff\xc0') + 5
    return JPEG[:place] + struct.pack('>HH', 65_000, 65_000) + JPEG[place + 4:]


BAD = {  # name: content, reason
    'bomb.png': (png_bomb(), 'DecompressionBombError'), 'bomb.jpg': (jpeg_bomb(), 'DecompressionBombError'),
    'cut.jpg': (JPEG[:len(JPEG) // 2], 'truncated'), 'head.jpg': (JPEG[:200] + b'\xff\xd9', ''),
    'empty.jpg': (b'', 'not an image'), 'html.jpg': (b'<html>404</html>', 'not an image'),
    'denied.jpg': (JPEG, 'PermissionError'), 'vanished.jpg': (JPEG, 'FileNotFoundError')}


def save_odd(folder):
    """Images that are unusual and readable."""
    picture = photograph(60, 45)
    (folder / 'cmyk.jpg').write_bytes(jpeg(picture, mode='CMYK'))
    (folder / 'turned.jpg').write_bytes(jpeg(picture, exif_orientation=6))
    (folder / 'progressive.jpg').write_bytes(jpeg(picture, progressive=True))
    picture.save(folder / 'png.jpg', 'PNG')
    Image.fromarray(np.full((45, 60), 40_000, np.uint16)).save(folder / '16bit.png')


@pytest.fixture(autouse=True)
def _read_checkpoints_safely(monkeypatch):
    monkeypatch.setitem(CheckpointLoader._schemes, '', load_file)


@pytest.fixture
def dataset(tmp_path, monkeypatch):
    """``dataset(mode)``: 20 plain images, 5 odd ones and those of ``BAD``."""
    folder = tmp_path / 'images'
    folder.mkdir()
    for number in range(20):
        (folder / f'{number:02}.jpg').write_bytes(jpeg(photograph(60, 45, number)))
    save_odd(folder)
    read = image_sources.Files._read

    def refuse(self, number):
        if self.path(number).endswith('denied.jpg'):  # root may read everything
            raise PermissionError(13, 'Permission denied', self.path(number))
        return read(self, number)

    monkeypatch.setattr(image_sources.Files, '_read', refuse)

    def make(mode='exact'):
        for name, (content, _) in BAD.items():
            (folder / name).write_bytes(content)
        images = UnlabelledImages(folder, CROP, mode=mode)
        (folder / 'vanished.jpg').unlink()
        return images
    return make


def runner(work_dir, dataset, iterations=5, workers=0, hook=(), resume=False, **kwargs):
    return Runner(
        model=MODELS.build(tiny_mae_cfg(depth=1)), work_dir=str(work_dir), experiment_name=f'bad{next(_numbers)}',
        train_dataloader=dict(
            dataset=dataset, sampler=dict(type='mae_plugin.KeyedSampler'), batch_size=8, num_workers=workers,
            collate_fn=dict(type='mae_plugin.collate_batch')),
        train_cfg=dict(type='mae_plugin.KeyedIterTrainLoop', max_iters=iterations, val_begin=100),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=.01)),
        default_hooks=dict(bad_images=dict(type='mae_plugin.BadImagesHook', **{'max_share': 1., **dict(hook)}),
                           checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=3),
                           logger=dict(type='LoggerHook', interval=1)),
        log_processor=dict(by_epoch=False), resume=resume, randomness=dict(seed=1), **kwargs)


def listed(work_dir):
    with open(work_dir / 'bad_images.csv', newline='') as file:
        head, *rows = csv.reader(file)
    assert head == ['path', 'reason', 'iteration']
    assert len({path for path, _, _ in rows}) == len(rows)
    return {path.rsplit('/', 1)[1]: (reason, int(iteration)) for path, reason, iteration in rows}


def log(work_dir, name):
    lines = [json.loads(line) for file in sorted(work_dir.glob('*/vis_data/scalars.json'))
             for line in file.read_text().splitlines()]
    return [line.get(name) for line in lines]


@pytest.mark.parametrize('mode', ['exact', 'fast'])
def test_the_list_is_what_was_planted(dataset, tmp_path, mode):
    images = dataset(mode)
    for workers in (0, 2):
        run = runner(tmp_path / f'{workers}', images, workers=workers)
        run.train()
        found = listed(tmp_path / f'{workers}')
        assert found.keys() == BAD.keys()
        for name, (reason, iteration) in found.items():
            assert BAD[name][1] in reason and name in reason and 1 <= iteration <= 5
        losses = log(tmp_path / f'{workers}', 'loss')
        assert len(losses) == 5 and np.isfinite(losses).all()
        counts = log(tmp_path / f'{workers}', 'bad_images')
        assert counts == [sum(first <= i for _, first in found.values()) or None for i in range(1, 6)]
    assert listed(tmp_path / '0') == listed(tmp_path / '2')
    text = next((tmp_path / '0').glob('*/*.log')).read_text()
    assert text.count('Another image takes the place of') == len(BAD)


def test_a_resumed_run_goes_on_with_the_list_and_a_new_one_begins_anew(dataset, tmp_path):
    images = dataset()
    runner(tmp_path, images, iterations=3).train()
    first = listed(tmp_path)
    assert 0 < len(first) < len(BAD)
    with open(tmp_path / 'bad_images.csv', 'a') as file:
        file.write('/half/a/li')  # a run that was killed
    second = runner(tmp_path, images, iterations=10, resume=True)
    second.train()
    whole = listed(tmp_path)
    assert whole.keys() == BAD.keys() and first.items() <= whole.items()
    drawn, bad = second.message_hub.get_info('images_drawn_and_bad')
    straight = runner(tmp_path / 'straight', images, iterations=10)
    straight.train()
    assert straight.message_hub.get_info('images_drawn_and_bad') == [drawn, bad] and drawn == 80 + bad
    assert listed(tmp_path / 'straight') == whole
    runner(tmp_path, images, iterations=1).train()
    assert not (tmp_path / 'bad_images.csv').exists() or max(at for _, at in listed(tmp_path).values()) == 1


def test_too_many_stop_the_run(dataset, tmp_path):
    run = runner(tmp_path, dataset(), iterations=50, hook=dict(max_share=.01))
    with pytest.raises(ValueError) as caught:
        run.train()
    message = str(caught.value)
    drawn, bad = run.message_hub.get_info('images_drawn_and_bad')
    assert bad >= 11 and bad - 8 <= 10 and '\n' not in message, 'more than 1 % of the first 1,000'
    assert message.startswith(f'{bad} of the {drawn} images drawn so far ({bad / drawn:.2%}) could not be read, more '
                              'than default_hooks.bad_images.max_share=0.01 allows')
    assert str(tmp_path / 'bad_images.csv') in message
    assert all(f'{name}: {reason.split(": ", 1)[1]}' in message for name, (reason, _) in listed(tmp_path).items())


def test_none_is_allowed(dataset, tmp_path):
    run = runner(tmp_path, dataset(), hook=dict(max_share=0))
    with pytest.raises(ValueError, match='max_share=0 allows'):
        run.train()
    assert run.iter + 1 == min(at for _, at in listed(tmp_path).values())


class Plain:
    """A runner for the hook alone."""

    def __init__(self, folder):
        self.work_dir, self.iter, self.max_iters, self.hooks, self._resume = folder, 0, 10**9, [], False
        info = {}
        self.message_hub = SimpleNamespace(runtime_info=info, update_info=info.__setitem__)


def batch(size, *bad):
    samples = [BaseDataElement() for _ in range(size)]
    for sample, path in zip(samples, bad, strict=False):
        sample.set_metainfo(dict(bad_images=((path, 'broken'), )))
    return dict(inputs=torch.zeros(size), data_samples=samples)


def test_the_share_is_that_of_what_was_drawn(tmp_path):
    hook, run = BadImagesHook(max_share=.01), Plain(tmp_path)
    hook.before_train(run)
    for _ in range(3):
        hook.after_train_iter(run, 0, batch(990, *map(str, range(10))))
        run.iter += 200
        hook.after_val(run)
        assert hook.counts[1] * 100 == hook.counts[0] and len(hook.listed) == 10, 'each time it is drawn it counts'
    hook.after_val_iter(run, 0, batch(1, 'x'))
    hook.after_val_iter(run, 0, batch(1, 'y'))
    with pytest.raises(ValueError, match='32 of the 3,004 images .* 12 different'):
        hook.after_val(run)
    assert hook.listed['x'] == ('broken', 600)


def test_batches_of_other_kinds_are_left_alone(tmp_path):
    hook, run = BadImagesHook(max_share=0), Plain(tmp_path)
    hook.before_train(run)
    for other in (None, [torch.zeros(2)], dict(inputs=torch.zeros(2)), dict(inputs=[], data_samples=None),
                  dict(inputs=[], data_samples=[]), batch(3)):
        hook.after_train_iter(run, 0, other)
        run.iter += 1
    hook.after_train(run)
    assert hook.counts == [3, 0] and not list(tmp_path.iterdir())
    BadImagesHook().after_val(run)  # without a training


def test_names_that_are_no_text_come_back(tmp_path):
    name = b'/a/\xff,"\n\xc3\xa4.jpg'.decode(errors='surrogateescape')
    hook, run = BadImagesHook(1.), Plain(tmp_path)
    hook.before_train(run)
    hook.after_train_iter(run, 0, batch(1, name))
    run._resume = True
    again = BadImagesHook(1.)
    again.before_train(run)
    assert again.listed == hook.listed == {name: ('broken', 1)}


class Decoder(BaseDataPreprocessor):
    """Finds the second image of each batch damaged, as one that decodes on the device may."""

    def forward(self, data, training=False):
        sample = data['data_samples'][1]
        sample.set_metainfo(dict(bad_images=(*sample.get('bad_images', ()), (sample.img_path, 'no restart marker'))))
        data = self.cast_data(data)
        return dict(data, inputs=data['inputs'].float())


def test_a_preprocessor_adds_what_it_finds(dataset, tmp_path):
    run = runner(tmp_path, dataset(), iterations=2)
    run.model.data_preprocessor = Decoder()
    run.train()
    assert [reason for reason, _ in listed(tmp_path).values()].count('no restart marker') == 2


@pytest.mark.parametrize('kwargs', [dict(max_share=1.1), dict(max_share=-.1), dict(interval=0)])
def test_bad_arguments(kwargs):
    (name, value), = kwargs.items()
    with pytest.raises(ValueError, match=f'BadImagesHook: {name}={value}'):
        BadImagesHook(**kwargs)


def test_two_processes_list_what_both_find_see_the_stream_of_one_and_stop_together(tmp_path):
    make_images(tmp_path / 'data/images')
    for number in range(4):
        (tmp_path / f'data/images/x{number}.jpg').write_text('<html>404</html>')
    codes, said = train(
        tmp_path, 2, TINY / 'tiny_mae.py', '--work-dir', 'run', '--cfg-options', 'default_hooks.bad_images.max_share=0',
        'default_hooks.bad_images.interval=8', 'default_hooks.checkpoint.interval=100', 'train_cfg.max_iters=100',
        '+train_cfg.val_begin=100', 'train_dataloader.num_workers=2', '+train_dataloader.dataset.repeats=2',
        '+train_dataloader.dataset.repeat_distance=8', '+custom_hooks=[{"type":"StreamRecorder"}]')
    assert codes == [1, 1] and 'images drawn so far' in said and 'max_share=0 allows' in said, said
    ranks = [(tmp_path / f'run/stream_{rank}.txt').read_text().split() for rank in range(2)]
    images = UnlabelledImages(tmp_path / 'data/images', [
        dict(type='mae_plugin.KeyedRandomResizedCrop', size=32), dict(type='mae_plugin.KeyedRandomFlip'),
        dict(type='mae_plugin.PackUnlabelled')], repeats=2, repeat_distance=8)
    keys = list(islice(KeyedSampler(images, seed=0, rank=0, world_size=1), 32))
    samples = images.__getitems__(keys)
    assert [digest for step in zip(*ranks, strict=True) for digest in step] == digests(collate_batch(samples))
    bad = [{path.rsplit('/', 1)[1] for sample in samples[rank::2]
            for path, _ in sample['data_samples'].get('bad_images', ())} for rank in range(2)]
    assert listed(tmp_path / 'run').keys() == bad[0] | bad[1] != bad[0], 'those of both processes'
    trained, decoded = (log(tmp_path / 'run', name)[1:] for name in ('images_per_s', 'decoded_per_s'))
    assert decoded == pytest.approx([x * (i in (2, 5, 6)) for i, x in enumerate(trained, 2)]), 'by turns'
