"""A store gives the pictures of its source, at once, and is refused where it would give others."""

import csv
import json
import os
import pickle
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from tiny.pictures import jpeg, photograph
from tiny.tools import TINY, run_tool  # noqa: F401
from torch.utils.data import DataLoader

from mae_plugin.datasets import store as module
from mae_plugin.datasets.image_io import ImageReadError
from mae_plugin.datasets.picture import JpegPicture, open_picture, resize_exact
from mae_plugin.datasets.reader import EXTENSIONS
from mae_plugin.datasets.sample_key import SampleKey
from mae_plugin.datasets.store import ImageStore, StoreBuilder
from mae_plugin.datasets.unlabelled import UnlabelledImages

CROP = [dict(type='mae_plugin.KeyedRandomResizedCrop', size=32), dict(type='mae_plugin.KeyedRandomFlip'),
        dict(type='mae_plugin.PackUnlabelled')]
NAMES = [f'{"ab"[number % 2]}/{number:02}.jpg' for number in range(24)]


@pytest.fixture
def folder(tmp_path):
    """24 JPEGs of 50 to 96 x 60 pixels, the last one 120 x 200, in two folders."""
    for number, name in enumerate(NAMES):
        path = tmp_path / 'root' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        size = (50 + 2 * number, 60) if number < 23 else (120, 200)
        path.write_bytes(jpeg(photograph(*size, seed=number), quality=96, subsampling='4:4:4'))
    return tmp_path / 'root'


@pytest.fixture
def several_shards(monkeypatch):
    monkeypatch.setattr(module, '_SHARD_BYTES', 1 << 16)


def build(folder, root, workers=2, max_bad=.01, extensions=EXTENSIONS, **settings):
    builder = StoreBuilder(folder, root, extensions, **dict(dict(short_side=0), **settings))
    builder.build(workers, max_bad)
    return builder


def cached(folder, root, **settings):
    return UnlabelledImages(folder, CROP, mode='cached', cache=str(root), **settings)


def inputs(dataset, epoch=3):
    return torch.stack([dataset[SampleKey(1, epoch, index)]['inputs'] for index in range(len(dataset))])


def names(dataset):
    return [dataset.path(index).removeprefix(dataset.source.root).lstrip('!/') for index in range(len(dataset))]


@pytest.mark.parametrize('channels', [1, 3])
@pytest.mark.parametrize('format', ['raw', 'jpeg'])
def test_at_full_size_all_is_as_in_mode_fast(folder, tmp_path, several_shards, format, channels):
    build(folder, tmp_path / 'store', format=format, channels=channels)
    assert len(list((tmp_path / 'store').glob('*.bin'))) > (format == 'raw')
    fast = UnlabelledImages(folder, CROP, mode='fast', channels=channels)
    dataset = cached(folder, tmp_path / 'store', channels=channels)
    assert names(dataset) == names(fast)
    for index in range(24):
        assert dataset.read(index).size == fast.read(index).size
        for box in (None, (3, 4, 41, 50)):
            assert np.array_equal(dataset.read(index).pixels(box), fast.read(index).pixels(box))
    assert torch.equal(inputs(dataset), inputs(fast))
    assert dataset[3]['data_samples'].ori_shape == fast[3]['data_samples'].ori_shape
    assert 'all as in the files' in dataset.source.describe()


def test_short_side_is_kept_to_and_nothing_is_enlarged(folder, tmp_path):
    (folder / 'small.png').write_bytes(open_png(photograph(20, 30)))
    build(folder, tmp_path / 'store', short_side=56)
    dataset = cached(folder, tmp_path / 'store')
    for index, name in enumerate(names(dataset)):
        original = np.asarray(Image.open(folder / name))
        height, width = original.shape[:2]
        expected = original
        if min(height, width) > 56:
            scale = 56 / min(height, width)
            expected = resize_exact(original, (round(height * scale), round(width * scale)))
            assert min(expected.shape[:2]) == 56
        assert np.array_equal(dataset.read(index).pixels(), expected), name
    assert '20 of 25 images are not the original ones, but shrunk to a shorter side of 56' in dataset.source.describe()


def open_png(picture):
    from io import BytesIO
    file = BytesIO()
    picture.save(file, 'PNG')
    return file.getvalue()


def test_a_store_of_jpegs_takes_plain_ones_as_they_are_and_encodes_the_rest(folder, tmp_path):
    (folder / 'a.png').write_bytes(open_png(photograph(60, 50)))
    build(folder, tmp_path / 'store', format='jpeg', short_side=100)
    store = ImageStore(tmp_path / 'store')
    pictures = [store.read(number) for number in range(25)]
    assert all(type(picture) is JpegPicture and picture.fast for picture in pictures)
    for picture, name in zip(pictures, map(os.fsdecode, store.names), strict=True):
        original = open_picture((folder / name).read_bytes(), name)
        if name == 'b/23.jpg':
            assert picture.size == (100, 167)
        elif name == 'a.png':
            difference = abs(picture.pixels().astype(int) - original.pixels())
            assert 0 < difference.mean() < 3
        else:
            assert picture.data == (folder / name).read_bytes()
    assert '2 of 25 images are not the original ones' in store.describe()


def test_splits_are_those_of_the_source(folder, tmp_path):
    build(folder, tmp_path / 'store')
    for settings in (dict(holdout=.3), dict(holdout=.3, split='val'), dict(max_images=7)):
        source = UnlabelledImages(folder, CROP, mode='fast', **settings)
        for data_root in (folder, None):
            dataset = cached(data_root, tmp_path / 'store', **settings)
            assert names(dataset) == names(source) and torch.equal(inputs(dataset), inputs(source))


def test_a_store_for_each_of_several_sources(folder, tmp_path):
    for name in 'ab':
        build(folder / name, tmp_path / f'store_{name}')
    roots, stores = [str(folder / name) for name in 'ab'], [str(tmp_path / f'store_{name}') for name in 'ab']
    source = UnlabelledImages(roots, CROP, mode='fast', weights=[1, 3])
    for data_root in (roots, None):
        dataset = UnlabelledImages(data_root, CROP, mode='cached', cache=stores, weights=[1, 3])
        assert dataset.mixture == source.mixture and torch.equal(inputs(dataset), inputs(source))
    with pytest.raises(ValueError, match='a store for each of the sources'):
        UnlabelledImages(roots, CROP, mode='cached', cache=stores[0])


def test_a_store_may_be_moved_and_outlive_its_source(folder, tmp_path, several_shards):
    build(folder, tmp_path / 'store')
    expected = inputs(UnlabelledImages(folder, CROP, mode='fast'))
    moved = (tmp_path / 'store').rename(tmp_path / 'moved')
    shutil.rmtree(folder)
    dataset = cached(str(folder), moved)
    assert torch.equal(inputs(dataset), expected)
    again = pickle.loads(pickle.dumps(dataset))
    assert not again.source._mapped and torch.equal(inputs(again), expected)
    loader = DataLoader(dataset, sampler=[SampleKey(1, 3, index) for index in range(24)], batch_size=8, num_workers=2,
                        collate_fn=list, multiprocessing_context='fork')
    assert torch.equal(torch.stack([sample['inputs'] for batch in loader for sample in batch]), expected)


def test_an_interrupted_store_goes_on_where_it_was(folder, tmp_path, several_shards, monkeypatch):
    plain, root = module._write, tmp_path / 'store'

    def interrupted(path, write):
        if path.name == '00002.bin':
            def half(file):
                file.write(b'half')
                os._exit(9)
            plain(path, half)
        plain(path, write)

    monkeypatch.setattr(module, '_write', interrupted)
    with pytest.raises(Exception, match='exit code 9'):
        build(folder, root, workers=1)
    assert not (root / '00002.bin').exists() and not (root / 'index.npz').exists()
    with pytest.raises(ValueError, match='not finished: run tools/cache_images.py'):
        ImageStore(root)
    before = {path.name: path.stat().st_mtime_ns for path in root.glob('*.bin')}
    assert set(before) == {'00000.bin', '00001.bin'}
    monkeypatch.setattr(module, '_write', plain)
    seen = []
    builder = StoreBuilder(folder, root, EXTENSIONS, short_side=0)
    assert 0 < builder.done < 24
    builder.build(2, progress=seen.append)
    assert {name: (root / name).stat().st_mtime_ns for name in before} == before and seen[-1] == 24
    assert not list(root.glob('*.tmp')) and not list(root.glob('0*.npz'))
    assert torch.equal(inputs(cached(folder, root)), inputs(UnlabelledImages(folder, CROP, mode='fast')))


def test_a_finished_store_is_left_alone(folder, tmp_path):
    build(folder, tmp_path / 'store')
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / 'store').iterdir()}
    assert build(folder, tmp_path / 'store').finished
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / 'store').iterdir()} == before


def test_other_settings_or_images_in_the_same_folder_are_refused(folder, tmp_path):
    build(folder, tmp_path / 'store')
    with pytest.raises(ValueError, match='made with channels=3 instead of 1, short_side=0 instead of 56: name another'):
        build(folder, tmp_path / 'store', short_side=56, channels=1)
    (folder / 'a/00.jpg').rename(folder / 'a/new.jpg')
    with pytest.raises(ValueError, match='made with other names of images: name'):
        build(folder, tmp_path / 'store')
    (tmp_path / 'other').mkdir()
    (tmp_path / 'other/x').touch()
    with pytest.raises(ValueError, match='holds something else than a store'):
        build(folder, tmp_path / 'other')


def test_a_data_set_refuses_a_store_of_other_images_or_settings(folder, tmp_path):
    root = tmp_path / 'store'
    build(folder, root)
    with pytest.raises(ValueError, match=r'channels=1 does not go with cache=.* made with channels=3'):
        cached(None, root, channels=1)
    with pytest.raises(ValueError, match=r"extensions=\['.jpg'\] does not go with"):
        cached(None, root, extensions=['jpg'])
    shutil.copy(folder / 'a/00.jpg', folder / 'new.jpg')
    with pytest.raises(ValueError, match=f"built from 24 images of '{folder}', but .* now holds 25 images"):
        cached(folder, root)
    (folder / 'new.jpg').unlink()
    (folder / 'a/00.jpg').write_bytes(jpeg(photograph(50, 60, seed=99)))
    with pytest.raises(ValueError, match=f'{folder}/a/00.jpg is another file now: build a new store'):
        cached(folder, root)
    with pytest.raises(ValueError, match='is another file now'):
        build(folder, root)
    for settings in (dict(mode='cached'), dict(mode='fast', cache=str(root))):
        with pytest.raises(ValueError, match='with cache=.*tools/cache_images.py'):
            UnlabelledImages(folder, CROP, **settings)


def test_bad_images_are_listed_and_replaced_as_in_the_source(folder, tmp_path, several_shards):
    (folder / 'a/04.jpg').write_bytes(b'no image')
    (folder / 'b/23.jpg').write_bytes((folder / 'b/23.jpg').read_bytes()[:2000])
    with pytest.raises(ValueError, match='2 of 24 images cannot be read, more than a share of 0.01: see .*bad_im'):
        build(folder, tmp_path / 'store')
    with open(tmp_path / 'store/bad_images.csv', newline='') as file:
        rows = list(csv.DictReader(file))
    assert [row['image'] for row in rows] == [f'{folder}/a/04.jpg', f'{folder}/b/23.jpg']
    assert 'not an image of a known format' in rows[0]['reason'] and 'truncated' in rows[1]['reason']
    assert build(folder, tmp_path / 'store', max_bad=.1).bad == 2
    source, dataset = UnlabelledImages(folder, CROP, mode='fast'), cached(folder, tmp_path / 'store')
    assert torch.equal(inputs(dataset), inputs(source))
    (path, reason), *_ = dataset[SampleKey(1, 3, 2)]['data_samples'].bad_images
    assert path == f'{tmp_path}/store!/a/04.jpg' and 'not an image of a known format' in reason


def test_a_full_disk_is_seen_before_the_start(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(module.shutil, 'disk_usage', lambda path: SimpleNamespace(free=100_000))
    with pytest.raises(ValueError, match=r'would take about 0.000\d+ GB more, but only 0.0001 GB are free there: name'):
        build(folder, tmp_path / 'store')
    assert not (tmp_path / 'store').exists()


@pytest.mark.parametrize('damage, message', [
    (lambda root: os.truncate(root / '00003.bin', 100), r'00003.bin has 100 bytes instead of \d+'),
    (lambda root: (root / '00003.bin').unlink(), '00003.bin has no bytes instead of'),
    (lambda root: os.truncate(root / 'index.npz', 900), 'the index of the store is damaged'),
    (lambda root: (root / 'meta.json').write_text('{'), 'meta.json of the store is damaged'),
    (lambda root: (root / 'meta.json').write_text(json.dumps(dict(version=99))), 'of version 99, this is version 1'),
    (lambda root: (root / 'meta.json').unlink(), 'is no store of images'),
], ids=['truncated', 'missing', 'index', 'meta', 'version', 'no store'])
def test_damage_is_named_when_a_store_is_opened(folder, tmp_path, several_shards, damage, message):
    build(folder, tmp_path / 'store')
    damage(tmp_path / 'store')
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        ImageStore(tmp_path / 'store')


def test_damage_while_it_is_in_use_is_a_bad_image(folder, tmp_path, several_shards):
    build(folder, tmp_path / 'store', format='jpeg')
    last = max((tmp_path / 'store').glob('*.bin'))
    with open(last, 'r+b') as file:
        file.seek(-300, os.SEEK_END)
        file.write(b'damage')
    dataset = cached(folder, tmp_path / 'store')
    with pytest.raises(ImageReadError, match='image .*!/b/23.jpg: its checksum is not the one in the index'):
        dataset.source.read(23)
    last.unlink()
    dataset = pickle.loads(pickle.dumps(dataset))
    for index, reason in ((23, 'No such file'), (0, None)):
        sample = dataset[index]['data_samples']
        if reason:
            (path, text), *_ = sample.bad_images
            assert path.endswith('!/b/23.jpg') and reason in text and not sample.img_path.endswith('b/23.jpg')
        else:
            assert 'bad_images' not in sample


@pytest.mark.parametrize('settings', [dict(format='png'), dict(quality=0), dict(short_side=-1)])
def test_arguments_out_of_range(folder, tmp_path, settings):
    with pytest.raises(ValueError, match=f'{next(iter(settings))}='):
        build(folder, tmp_path / 'store', **settings)


def test_the_tool_and_a_training_from_its_store(folder, tmp_path, monkeypatch, run_tool):  # noqa: F811
    monkeypatch.chdir(tmp_path)
    arguments = ('root', 'store', '--short-side', '0', '--extensions', 'JPG', '--workers', '2')
    code, out, err = run_tool('cache_images', *arguments)
    assert code == 0 and '24/24' in err, err
    *_, facts, line = out.splitlines()
    assert '24 images' in facts and 'all as in the files' in facts
    config = eval(f'dict({line.partition(": ")[2]})')
    assert config == dict(data_root='root', mode='cached', cache=str(tmp_path / 'store'), extensions=['JPG'])
    code, out, _ = run_tool('cache_images', *arguments)
    assert code == 0 and 'is finished; nothing to do' in out
    code, _, err = run_tool('cache_images', 'root', 'store', '--extensions', 'JPG')
    assert code == 1 and err.startswith('error: ') and 'short_side=0 instead of 512' in err and 'Traceback' not in err

    states = []
    for name, options in dict(fast=dict(data_root='root', mode='fast'), cached=config).items():
        options = [f'+train_dataloader.dataset.{key}={value}' for key, value in options.items() if key != 'extensions']
        options += ['+train_dataloader.dataset.extensions=[jpg]', 'train_cfg.max_iters=3', 'train_cfg.val_interval=3']
        code, out, err = run_tool('train', TINY / 'tiny_mae.py', '--work-dir', name, '--cfg-options', *options)
        assert code == 0, err
        assert out.count(f"mode '{name}'") == 2  # that of validation too
        states.append(torch.load(tmp_path / name / 'iter_3.pth', weights_only=True)['state_dict'])
    assert all(torch.equal(first, second) for first, second in zip(*map(dict.values, states), strict=True))


def test_validation_reads_the_store_that_training_reads():
    from mae_plugin.utils.run_config import _share_images
    train = dict(dataset=dict(data_root=None, mode='cached', cache='store', holdout=.1))
    val = dict(dataset=dict(data_root=None, holdout=.1, split='val'))
    _share_images(train, val)
    assert val['dataset'] == dict(train['dataset'], split='val')
    own = dict(dataset=dict(data_root=None, mode='exact', holdout=.1, split='val'))
    _share_images(train, own)
    assert 'cache' not in own['dataset']
