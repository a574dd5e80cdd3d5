"""Measuring loaders: the corpus is what it says, contenders give crops of the same files, and the parts add up."""

import json
from io import BytesIO
from itertools import islice

import numpy as np
import pytest
import torch
from PIL import Image
from tiny.tools import run_tool  # noqa: F401

from mae_plugin.benchmark import corpus, loader, report
from mae_plugin.benchmark.loaders import LoaderContender, data_options, sample_of, with_data
from mae_plugin.datasets.sample_key import SampleKey
from mae_plugin.utils.run_config import load_config

pytest.importorskip('sklearn')
CONFIG = 'configs/pretrain/mae_vit-base-p16_in1k.py'
IMAGES = 40


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return corpus.ensure_corpus(tmp_path_factory.mktemp('corpus') / 'images', IMAGES)


@pytest.fixture
def cfg(folder):
    return load_config(CONFIG, [f'train_dataloader.dataset.data_root={folder}', 'model.backbone.img_size=32',
                                '+train_dataloader.dataset.cache=unused'])


def test_the_corpus_is_like_imagenet(folder, cfg):
    facts = corpus.facts_of(sample_of(cfg))
    assert facts['files'] == IMAGES == len(list(folder.rglob('*.jpg')))
    assert facts['mean_kilobytes'] == pytest.approx(110, rel=.05)
    assert facts['bits_per_pixel'] == pytest.approx(4.7, rel=.04)
    assert facts['mean_megapixels'] == pytest.approx(.1875, rel=.08)
    assert facts['kinds'] == '100 % JPEG baseline 4:4:4'
    assert 5 < facts['portrait_percent'] < 40 and facts['most_kilobytes'] > 2 * facts['least_kilobytes']
    tables = Image.open(next(folder.rglob('*.jpg'))).quantization
    reference = BytesIO()
    Image.new('RGB', (8, 8)).save(reference, 'JPEG', quality=96)
    assert tables == Image.open(reference).quantization


def test_a_file_of_the_corpus_is_a_function_of_its_number(folder, tmp_path):
    files = sorted(folder.rglob('*.jpg'))
    assert corpus.corpus_file(0, 3) == files[3].read_bytes() != corpus.corpus_file(1, 3)
    with pytest.raises(ValueError, match='images=40 instead of 41'):
        corpus.ensure_corpus(folder, 41)
    with pytest.raises(ValueError, match='--images 0: at least 1'):
        corpus.ensure_corpus(tmp_path / 'none', 0)


def test_facts_tell_formats_apart():
    files = []
    for mode, options in (('RGB', dict(subsampling=2, progressive=True)), ('L', {}), ('RGB', dict(format='PNG'))):
        file = BytesIO()
        Image.new(mode, (30, 20)).save(file, **dict(format='JPEG') | options)
        files.append(file.getvalue())
    assert corpus.facts_of(files)['kinds'] == '33.3 % JPEG progressive 4:2:0, 33.3 % JPEG baseline L, 33.3 % PNG RGB'


@pytest.mark.parametrize('name', ['exact', 'fast', 'mmpretrain', 'torchvision', 'torchvision-float'])
def test_contenders_read_the_same_files_in_the_same_order(cfg, name, tmp_path):
    if name == 'mmpretrain':
        pytest.importorskip('mmpretrain')
    colours = np.random.default_rng(0).integers(256, size=(8, 3), dtype=np.uint8)
    for number, colour in enumerate(colours):
        picture = Image.fromarray(np.tile(colour, (30, 40, 1)))
        picture.save(tmp_path / f'{number}.jpg', quality=100, subsampling=0)
    cfg.train_dataloader.dataset.data_root = str(tmp_path)
    keys = list(islice(LoaderContender(cfg, 'exact', 4).loader(0).sampler, 4))
    assert isinstance(keys[0], SampleKey)
    batch = next(LoaderContender(cfg, name, 4).batches(0))
    images = batch['inputs'] if isinstance(batch, dict) else batch
    assert images.shape == (4, 3, 32, 32)
    if name == 'torchvision-float':
        images = 255 * (images * torch.tensor([.229, .224, .225])[:, None, None]
                        + torch.tensor([.485, .456, .406])[:, None, None])
    else:
        assert images.dtype == torch.uint8
    if name == 'mmpretrain':  # blue first
        images = images.flip(1)
    expected = torch.from_numpy(colours[[key.index for key in keys]]).float()[..., None, None]
    assert (images.float() - expected).abs().max() <= 3


def test_everything_is_measured(cfg, tmp_path):
    cfg.train_dataloader.dataset.cache = str(tmp_path / 'store')
    names = ['exact', 'fast', 'cached', 'torchvision']
    result = loader.measure(cfg, [*names, 'no-such-mode'], [0, 2], 4, 2, 0., lambda text: None)
    assert [(row['name'], row['workers']) for row in result['rows']] == [
        (name, workers) for workers in (0, 2) for name in (*names, 'exact (again)')]
    assert all(len(row['seconds']) == len(row['cpu']) == 2 and min(row['seconds'] + row['cpu']) > 0
               for row in result['rows'])
    assert "mode='no-such-mode' is not one of" in result['errors']['no-such-mode']
    for name in ('exact', 'fast'):
        parts = result['splits'][name]
        assert tuple(parts) == loader.STAGES and min(parts.values()) > 0
    stages = result['splits']['cached']
    assert stages['decode'] == 0 < min(stages[name] for name in ('read', 'resize', 'collate'))
    assert set(result['memory']) == set(result['first_batch']) == {'exact', 'fast', 'cached'}
    text = report.loader_markdown(result)
    assert text.count('\n| exact (again) | ') == 4 and text.count('\n| torchvision | ') == 5
    assert json.loads(json.dumps(result)) == result


def test_a_stage_inside_another_counts_once(monkeypatch):
    now = iter(range(100))
    monkeypatch.setattr(loader.time, 'perf_counter', lambda: next(now))
    watch = loader._Stopwatch()
    inner = watch.wrap('decode', lambda: None)
    watch.wrap('other', lambda: (inner(), inner()))()
    assert watch.seconds == dict(decode=2, other=3) and sum(watch.seconds.values()) == 5


def test_the_memory_of_a_worker_is_that_of_its_batches(cfg, monkeypatch):
    contender = LoaderContender(cfg, 'fast', 16)
    memory = loader.worker_memory(contender, 16, rounds=1)
    if memory is None:
        pytest.skip('the system does not tell')
    assert memory['batches'] == 2 * 16 * 3 * 32 * 32
    held, make = [], type(contender.dataset).__getitems__

    def hoard(self, keys):
        if len(keys) > 1:
            held.append(np.ones(2**20))  # 8 MB, which a worker never gives back
        return make(self, keys)
    monkeypatch.setattr(type(contender.dataset), '__getitems__', hoard)
    assert loader.worker_memory(contender, 16, rounds=1)['bytes'] > memory['bytes'] + 2**23


def test_what_is_left_to_the_gpu_is_counted(cfg):
    contender = LoaderContender(cfg, 'device', 4)
    contender.dataset.reader.mode = 'device'  # which it is only with a GPU
    batch = next(contender.batches(0))
    assert loader._bytes_of(batch) == sum(len(contender.dataset.source.read(sample.sample_key[2]))
                                          for sample in batch['data_samples'])


def test_variants_are_settings():
    assert data_options('cached') == ['+train_dataloader.dataset.mode=cached']
    assert data_options('mine:a.b=1,+c=2') == ['a.b=1', '+c=2']


def test_only_images_without_labels(cfg):
    cfg.train_dataloader.dataset.type = 'ImageNet'
    with pytest.raises(ValueError, match="train_dataloader.dataset.type='ImageNet': a config of pretraining is needed"):
        with_data(cfg, 'fast')


def test_training_from_files(run_tool, folder, tmp_path):  # noqa: F811
    tiny = ['model.backbone.img_size=32', 'model.backbone.embed_dim=32', 'model.backbone.depth=1',
            'model.backbone.num_heads=2', 'model.neck.decoder_embed_dim=32', 'model.neck.decoder_depth=1',
            'model.neck.decoder_num_heads=2', 'optim_wrapper.dtype=float32']
    code, out, err = run_tool(
        'benchmark', 'train', CONFIG, '--data', folder, '--batch', 4, '--iters', 2, '--rounds', 2, '--workers', 0, 1,
        '--out', tmp_path, '--cfg-options', *tiny)
    assert code == 0, err
    assert '- kinds: 100 % JPEG baseline 4:4:4' in out and '| fast | 4 | 1 | ' in out
    rows = json.loads((tmp_path / 'train.json').read_text())['rows']
    assert [(row['name'], row['workers']) for row in rows] == [('exact', 0), ('exact', 1), ('fast', 0), ('fast', 1)]
    for row in rows:
        assert len(row['in_loop']) == len(row['bare']) == len(row['waits']) == 2
        assert all(0 < wait < 1 for wait in row['waits'])


def test_one_source_of_images(run_tool, tmp_path):  # noqa: F811
    code, _, err = run_tool('benchmark', 'loader', CONFIG, '--data', tmp_path, '--corpus', tmp_path)
    assert code == 1 and '--data and --corpus: give one of them' in err
    code, _, err = run_tool('benchmark', 'loader', CONFIG, '--workers', -1)
    assert code == 1 and '--workers [-1]: at least 0 is needed' in err
