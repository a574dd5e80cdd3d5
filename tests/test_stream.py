"""The stream is a function of (seed, position): of no workers, no processes and no place where a run began."""

import random
import re
from itertools import islice

import pytest
import torch
from mmengine.model import BaseModel
from mmengine.runner import Runner
from tiny.pictures import jpeg, photograph
from tiny.stream import StreamRecorder

from mae_plugin.datasets import KeyedSampler, SampleKey, UnlabelledImages, samplers
from mae_plugin.datasets.picture import JpegPicture

IMAGES, BATCH, DISTANCE = 30, 8, 32
CROP = [dict(type='mae_plugin.KeyedRandomResizedCrop', size=16), dict(type='mae_plugin.KeyedRandomFlip'),
        dict(type='mae_plugin.PackUnlabelled')]


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """JPEGs, of which one is cut off and two are damaged within."""
    folder = tmp_path_factory.mktemp('images')
    for number in range(IMAGES):
        (folder / f'{number}.jpg').write_bytes(jpeg(photograph(60, 45, number)))
    data = jpeg(photograph(60, 45))
    (folder / '7.jpg').write_bytes(data[:300])
    (folder / '9.jpg').write_bytes(data[:200] + b'\xff\xd9')
    (folder / '8.jpg').write_bytes(data[:len(data) // 2] + b'\xff\xd9')
    return folder


class Nothing(BaseModel):
    """What a runner needs to go through a loader."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def forward(self, inputs, data_samples=None, mode='tensor'):
        return dict(loss=self.weight * 1)


@pytest.fixture
def read(folder, tmp_path):
    """``read(iterations, ...)``: digests of the stream by position, and what each process decoded, from real loops."""
    def read(iterations, start=0, ranks=1, workers=0, mode='exact', repeats=1, seed=3):
        recorders = []
        for rank in range(ranks):
            recorders.append(StreamRecorder())
            runner = Runner(
                model=Nothing(), work_dir=str(tmp_path), experiment_name=f'{tmp_path}-{next(numbers)}',
                train_dataloader=dict(
                    dataset=dict(type='mae_plugin.UnlabelledImages', data_root=str(folder), pipeline=CROP, mode=mode,
                                 repeats=repeats, repeat_distance=DISTANCE),
                    sampler=dict(type='mae_plugin.KeyedSampler', rank=rank, world_size=ranks),
                    collate_fn=dict(type='mae_plugin.collate_batch'), batch_size=BATCH // ranks, num_workers=workers),
                train_cfg=dict(type='mae_plugin.KeyedIterTrainLoop', max_iters=start + iterations),
                optim_wrapper=dict(optimizer=dict(type='SGD', lr=.1)), custom_hooks=[recorders[-1]],
                default_hooks=dict(checkpoint=None, logger=None), randomness=dict(seed=seed), log_level='ERROR')
            runner.train_loop._iter = start  # as a resume does
            runner.train()
        parts = [recorder.seen for recorder in recorders]
        return ([digest for step in zip(*parts, strict=True) for digest in step],
                [sum(map(bool, recorder.decoded)) for recorder in recorders])

    numbers = iter(range(99))
    return read


@pytest.mark.parametrize('repeats', [1, 3])
@pytest.mark.parametrize('mode', ['exact', 'fast'])
def test_workers_processes_and_the_start_do_not_matter(read, mode, repeats):
    iterations = 2 * repeats * DISTANCE // BATCH
    whole, _ = read(iterations, mode=mode, repeats=repeats)
    assert len(set(whole)) == len(whole) == 2 * repeats * DISTANCE
    for ranks, workers in ((1, 1), (1, 4), (2, 0), (2, 3)):
        start = random.Random(f'{mode}{ranks}{workers}').randrange(1, iterations - 4)
        part, _ = read(4, start, ranks, workers, mode, repeats)
        assert part == whole[start * BATCH:(start + 4) * BATCH], (start, ranks, workers)
    assert read(2, mode=mode, repeats=repeats, seed=4)[0] != whole[:2 * BATCH]


@pytest.mark.parametrize('ranks, workers', [(1, 0), (1, 4), (2, 2)])
def test_an_image_is_decoded_once_where_the_distance_fits(read, ranks, workers):
    seen, decoded = read(3 * DISTANCE // BATCH, ranks=ranks, workers=workers, repeats=3)
    assert len(seen) == 3 * DISTANCE and decoded == [DISTANCE // ranks] * ranks
    # In the middle of a second turn each image has to be decoded again, but is held for the third.
    _, decoded = read(5, start=6, ranks=ranks, workers=workers, repeats=3)
    assert decoded == [DISTANCE // ranks] * ranks
    _, decoded = read(3, workers=3, repeats=3)
    assert decoded == [3 * BATCH]


def test_held_crops_are_bounded_and_a_miss_gives_the_same(folder, monkeypatch):
    decodes, pixels = [], JpegPicture.pixels
    monkeypatch.setattr(JpegPicture, 'pixels', lambda picture, box=None: (
        decodes.append(picture._whole is None), pixels(picture, box))[1])
    dataset = UnlabelledImages(folder, CROP, repeats=3, repeat_distance=8)
    alone = UnlabelledImages(folder, CROP, repeats=3, repeat_distance=8)
    dataset.crops_to_hold = 2 * 8
    sampler = KeyedSampler(dataset, seed=1, rank=0, world_size=1)
    most = 0
    for key in islice(sampler, 200):
        decodes.clear()
        (found,), (expected,) = dataset.__getitems__([key]), alone.__getitems__([key])
        if 'bad_images' not in expected['data_samples']:
            assert sum(decodes) == 1 + (key.epoch % 3 == 0), 'alone each time, else once'
        most = max(most, len(dataset._held))
        assert torch.equal(found['inputs'], expected['inputs'])
        assert found['data_samples'].decoded == (key.epoch % 3 == 0) and expected['data_samples'].decoded
        assert found['data_samples'].get('bad_images') == expected['data_samples'].get('bad_images')
    assert most == 16 and not alone._held
    for index in range(IMAGES):  # what is held is never asked for
        dataset[SampleKey(5, 0, index)]
    assert len(dataset._held) == 16


@pytest.mark.parametrize('mixture', [None, [(70, 1), (31, 2)]])
def test_repeated_images_recur_after_the_distance_and_never_in_a_batch(mixture):
    size, repeats, distance = 101, 4, 24
    once = type('Images', (list, ), dict(mixture=mixture))
    images = type('Repeated', (once, ), dict(repeats=repeats, repeat_distance=distance))(range(size))
    keys = list(islice(KeyedSampler(images, seed=5, rank=0, world_size=1), 60 * distance))
    decoded = list(islice(KeyedSampler(once(range(size)), seed=5, rank=0, world_size=1), 15 * distance))
    assert len({*keys}) == len(keys)
    for position, key in enumerate(keys):
        group, turn, place = position // (distance * repeats), position // distance % repeats, position % distance
        image = decoded[group * distance + place]
        assert key == (5, image.epoch * repeats + turn, image.index)
    for start in range(0, len(keys), distance):
        batch = [(key.epoch // repeats, key.index) for key in keys[start:start + distance]]
        assert len({*batch}) == distance


def test_without_repeats_nothing_is_said_of_decoding(read):
    _, decoded = read(1)
    assert decoded == [0]


def test_a_position_is_found_without_what_came_before(read, monkeypatch):
    """10^9 samples on: as many keys are computed, and as many images read, as in the beginning."""
    computed, reads = [], []
    permutation, method = samplers.keyed_permutation, UnlabelledImages._read
    monkeypatch.setattr(samplers, 'keyed_permutation',
                        lambda offsets, *rest: (computed.append(len(offsets)), permutation(offsets, *rest))[1])

    def counted(self, indices):
        for encoded in method(self, indices):  # which reads one when it is asked for one
            reads.append(1)
            yield encoded
    monkeypatch.setattr(UnlabelledImages, '_read', counted)
    calls = []
    for start in (0, 10**9 // BATCH):
        for repeats in (1, 3):
            computed.clear(), reads.clear()
            read(2, start=start, repeats=repeats)
            assert computed[0] == 1024 and sum(computed) < 3 * 1024 and sum(reads) < 4 * BATCH
            calls.append(len(computed))
    assert max(calls) < 5


@pytest.mark.parametrize('loader, message', [
    (dict(batch_size=33), r'repeat_distance=32 is less than the batch of all processes, 33, .* a multiple of 66'),
    (dict(batch_size=8, num_workers=3), r'decoded 3 times.*repeat_distance=24 or 48, a multiple of 24'),
    (dict(batch_size=20, num_workers=2), r'decoded 3 times.*repeat_distance=40, a multiple of 40'),
    (dict(batch_size=8, num_workers=4), r'each loader worker holds up to 16 crops'),
    (dict(batch_size=7, num_workers=1), r'each loader worker holds up to 64 crops')])
def test_the_distance_and_the_workers(folder, tmp_path, caplog, loader, message):
    runner = Runner(
        model=Nothing(), work_dir=str(tmp_path), experiment_name=f'{tmp_path}', train_dataloader=dict(
            dataset=dict(type='mae_plugin.UnlabelledImages', data_root=str(folder), pipeline=CROP, repeats=3,
                         repeat_distance=DISTANCE),
            sampler=dict(type='mae_plugin.KeyedSampler'), num_workers=2) | loader,
        train_cfg=dict(type='mae_plugin.KeyedIterTrainLoop', max_iters=1),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=.1)))
    runner.logger.addHandler(caplog.handler)  # MMEngine's reach no parent
    if loader['batch_size'] > DISTANCE:
        with pytest.raises(ValueError, match=message):
            runner.build_train_loop(runner.train_loop)
    else:
        assert runner.train_loop and re.search(message, caplog.text)


@pytest.mark.parametrize('kwargs, message', [
    (dict(repeats=0), 'repeats=0 and repeat_distance=32768 are not both at least 1'),
    (dict(repeats=2, repeat_distance=0), 'repeats=2 and repeat_distance=0'),
    (dict(repeats=2, mode='device'), "repeats=2 saves nothing with mode='device'"),
    (dict(repeats=2, holdout=.3, split='val'), "repeats=2 goes with split='train'")])
def test_bad_arguments(folder, kwargs, message):
    with pytest.raises(ValueError, match=message):
        UnlabelledImages(folder, CROP, **kwargs)


def test_a_resumed_run_is_told_of_other_repeats(folder):
    assert UnlabelledImages(folder, CROP).metainfo == dict(num_images=IMAGES)
    assert UnlabelledImages(folder, CROP, repeats=2).metainfo == dict(
        num_images=IMAGES, repeats=2, repeat_distance=32768)
