"""Remote sources give what local ones give, from a server that may stall, fail, or not do what it is asked."""

import gc
import io
import os
import pickle
import re
import subprocess
import sys
import tarfile
import threading
from collections import Counter
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice

import fsspec
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from mae_plugin.datasets import image_sources, index_cache, storage
from mae_plugin.datasets.image_io import ImageReadError
from mae_plugin.datasets.image_sources import open_source
from mae_plugin.datasets.sample_key import SampleKey
from mae_plugin.datasets.samplers import KeyedSampler
from mae_plugin.datasets.storage import Storage
from mae_plugin.datasets.unlabelled import UnlabelledImages

pytest.importorskip('aiohttp')
EXTENSIONS = {'.png', '.jpg'}
CROP = [dict(type='mae_plugin.KeyedRandomResizedCrop', size=16), dict(type='mae_plugin.KeyedRandomFlip'),
        dict(type='mae_plugin.PackUnlabelled')]
SHORT = dict(timeout=.3, tries=2)


class Handler(SimpleHTTPRequestHandler):
    """Serves files, with Range, unless it is told otherwise."""

    protocol_version = 'HTTP/1.1'

    def misbehaves(self):
        self.server.requests[self.path] += 1
        if self.server.stalls(self.path):
            self.server.released.wait()
            self.close_connection = True
            return True
        if self.server.cuts:
            self.close_connection = True
            return True
        self.server.fails[self.path] -= 1
        if self.server.fails[self.path] >= 0 or self.server.broken:
            self.send_error(500)
            return True
        return False

    def do_HEAD(self):
        if not self.misbehaves():
            super().do_HEAD()

    def do_GET(self):
        asked = re.fullmatch(r'bytes=(\d+)-(\d+)', self.headers.get('Range', ''))
        if self.misbehaves():
            return
        if asked is None or self.server.ignores_range:
            super().do_GET()
            return
        with open(self.translate_path(self.path), 'rb') as file:
            data = file.read()[int(asked[1]):int(asked[2]) + 1]
        self.send_response(206)
        self.send_header('Content-Length', str(len(data)))
        self.end_headers()
        self.wfile.write(data)
        self.server.sent += len(data)

    def log_message(self, *args):
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 64  # by default 5: the kernel lets further ones wait for a second
    block_on_close = False


@pytest.fixture
def server(tmp_path):
    """Serves ``tmp_path``. ``fails[path] = n``: 500 n times; ``stalls(path)``: no answer; ``requests`` counts."""
    server = Server(('127.0.0.1', 0), partial(Handler, directory=str(tmp_path)))
    server.url = f'http://127.0.0.1:{server.server_port}'
    server.released = threading.Event()
    server.requests, server.fails, server.sent = Counter(), Counter(), 0
    server.stalls, server.ignores_range, server.broken, server.cuts = lambda path: False, False, False, False
    thread = threading.Thread(target=server.serve_forever, args=(.01,), daemon=True)
    thread.start()
    yield server
    server.released.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def _quick(tmp_path, monkeypatch):
    monkeypatch.setenv('MAE_PLUGIN_CACHE', str(tmp_path / 'cache'))
    monkeypatch.setattr(storage, '_FIRST_PAUSE', .001)


@pytest.fixture
def folder(tmp_path):
    """Twelve pictures in two folders, with names that HTTP escapes."""
    random = np.random.default_rng(0)
    for number in range(12):
        path = tmp_path / 'root' / ('a ö', 'b')[number // 6] / f'{number:02}+%.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(256, size=(20, 30, 3), dtype=np.uint8)).save(path)
    (tmp_path / 'root/b/notes.json').write_text('{}')
    return tmp_path / 'root'


def pack(path, folder, names):
    with tarfile.open(path, 'w') as archive:
        for name in names:
            archive.add(folder / name, name)


@pytest.fixture
def tars(folder, tmp_path):
    """The pictures in one tar, and in three shards with other files beside them."""
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob('*.png'))
    (tmp_path / 'shards').mkdir()
    pack(tmp_path / 'all.tar', folder, names)
    for shard in range(3):
        pack(tmp_path / f'shards/s-{shard:03}.tar', folder, [*names[shard * 4:shard * 4 + 4], 'b/notes.json'])
    return tmp_path / 'shards'


def in_memory(folder):
    """The URL of a copy in fsspec's memory."""
    url = f'memory://{folder.name}-{os.urandom(4).hex()}'
    for path in folder.rglob('*'):
        if path.is_file():
            with fsspec.open(f'{url}/{path.relative_to(folder)}', 'wb') as file:
                file.write(path.read_bytes())
    return url


def contents(source):
    return list(source.read_many(range(len(source.names))))


def message(kind, root, **settings):
    with pytest.raises(kind) as caught:
        open_source(root, EXTENSIONS, storage=Storage(**{**SHORT, **settings}))
    assert str(caught.value).startswith('data_root=') and '\n' not in str(caught.value)
    return str(caught.value)


def test_all_sources_give_the_same(folder, tars, server, tmp_path):
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob('*.png'))
    files = [(folder / name).read_bytes() for name in names]
    (tmp_path / 'list.txt').write_text('\n'.join(f'root/{name}' for name in names))
    quoted = [storage.join(f'{server.url}/root', name.encode()) for name in names]
    (tmp_path / 'urls.txt').write_text('\n'.join([*quoted[:6], *(f'root/{name}' for name in names[6:])]))
    memory = in_memory(tmp_path)
    folders = [f'{server.url}/root', f'{server.url}/root/', f'{memory}/root', f'file://{folder}']
    for root in folders:
        source = open_source(root, EXTENSIONS)
        assert [*source.names] == [name.encode() for name in names] and contents(source) == files
    for base in (tmp_path, server.url, memory):
        source = open_source(f'{base}/all.tar', EXTENSIONS)
        assert [*source.names] == [name.encode() for name in names] and contents(source) == files
        assert source.path(0) == f'{base}/all.tar!/{names[0]}'
        source = open_source(f'{base}/list.txt', EXTENSIONS)
        assert [*source.names] == [f'root/{name}'.encode() for name in names] and contents(source) == files
        shards = [f'{base}/shards', f'{base}/shards/s-{{000..002}}.tar', f'{base}/shards/*.tar',
                  f'{base}/shards/s-00{{0,1,2}}.tar']
        for root in shards:
            source = open_source(root, EXTENSIONS)
            assert [*source.names] == [f's-{i // 4:03}.tar!/{name}'.encode() for i, name in enumerate(names)]
            assert contents(source) == files and source.path(5) == f'{base}/shards/s-001.tar!/{names[5]}'
    assert sorted(contents(open_source(tmp_path / 'urls.txt', EXTENSIONS))) == sorted(files)


def test_samples_are_the_same_wherever_the_images_are(folder, tars, server):
    keys = [SampleKey(1, 2, index) for index in range(12)]
    local = UnlabelledImages(folder, CROP).__getitems__(keys).whole
    for root in (f'{server.url}/root', f'{tars}', f'{server.url}/shards/*.tar', in_memory(tars)):
        assert torch.equal(UnlabelledImages(root, CROP).__getitems__(keys).whole, local)


def test_workers_read_after_a_fork_and_leave_the_connections_alone(folder, tars, server, monkeypatch):
    dataset = UnlabelledImages([f'{server.url}/root', f'{server.url}/shards'], CROP, storage=dict(timeout=5))
    failures = []
    monkeypatch.setattr(Storage, '_pause', lambda self, error, *_: failures.append(error))

    def load(workers):
        return torch.cat([*DataLoader(
            dataset, 6, num_workers=workers, collate_fn=whole, worker_init_fn=lambda _: gc.collect())])

    expected = load(0)  # by connections that stay open
    assert torch.equal(load(2), expected) and torch.equal(load(0), expected) and not failures


def whole(samples):
    return samples.whole


def test_a_start_needs_no_more_than_the_headers_of_a_remote_tar(folder, tmp_path, server):
    with tarfile.open(tmp_path / 'big.tar', 'w') as archive:
        for number in range(4):
            for name, size in ((f'{number}.cls', 3), (f'{number}.jpg', 10**6), (f'{number}.json', 3)):
                member = tarfile.TarInfo(name)
                member.size = size
                archive.addfile(member, io.BytesIO(bytes([number]) * size))
    source = open_source(f'{server.url}/big.tar', EXTENSIONS)
    assert server.sent <= 6 * 2**16 and server.requests['/big.tar'] < 10
    assert contents(source) == [bytes([number]) * 10**6 for number in range(4)]


def test_the_index_of_remote_tars_holds_until_one_is_written(tars, folder, server, monkeypatch):
    monkeypatch.setattr(index_cache, 'SMALLEST', 1)
    monkeypatch.setattr(index_cache, '_SETTLED_NS', -10**12)
    searches = []
    monkeypatch.setattr(image_sources, '_find_in_tar', lambda *args, find=image_sources._find_in_tar: (
        searches.append(args[-1]), find(*args))[1])
    first = contents(open_source(f'{server.url}/shards', EXTENSIONS))
    assert contents(open_source(f'{server.url}/shards', EXTENSIONS)) == first and len(searches) == 3
    pack(tars / 's-001.tar', folder, ['b/08+%.png'])
    os.utime(tars / 's-001.tar', (10**9, 10**9))
    assert len(open_source(f'{server.url}/shards', EXTENSIONS).names) == 9 and len(searches) == 6
    (tars / 's-002.tar').rename(tars / 's-003.tar')
    assert open_source(f'{server.url}/shards', EXTENSIONS).names[-1].startswith(b's-003') and len(searches) == 9


def test_what_may_pass_is_tried_again_as_often_as_is_set(folder, server):
    source = open_source(f'{server.url}/root', EXTENSIONS, storage=Storage(timeout=.3, tries=3))
    path = '/root/b/11%2B%25.png'
    server.requests.clear()
    server.fails[path] = 2
    assert isinstance(contents(source)[11], bytes) and server.requests[path] == 3
    server.fails[path] = 3
    *others, failed = contents(source)
    assert server.requests[path] == 6 and all(isinstance(data, bytes) for data in others)
    assert isinstance(failed, ConnectionError) and str(failed).startswith('500') and 'tried 3 times' in str(failed)
    server.stalls = lambda asked: asked == path
    *others, failed = contents(source)
    assert server.requests[path] == 9 and all(isinstance(data, bytes) for data in others)
    assert str(failed) == 'no answer within 0.3 s, tried 3 times'
    server.stalls = lambda asked: False
    (folder / 'b/11+%.png').unlink()
    assert isinstance(contents(source)[11], FileNotFoundError) and server.requests[path] == 10  # not tried again


def test_local_drives_are_tried_again_too(folder, monkeypatch):
    source = open_source(folder, EXTENSIONS)
    errors = [OSError(116, 'Stale file handle'), OSError(5, 'Input/output error')]
    def unsteady(*args, open=open, **kwargs):
        if errors:
            raise errors.pop()
        return open(*args, **kwargs)
    monkeypatch.setattr(image_sources, 'open', unsteady, raising=False)
    assert all(isinstance(data, bytes) for data in contents(source)) and not errors
    errors[:] = [PermissionError(13, 'Permission denied')]
    assert isinstance(contents(source)[0], PermissionError)


def test_a_bad_image_of_a_server_is_replaced_and_says_why(folder, server, tmp_path):
    urls = [f'{server.url}/root/b/{number:02}%2B%25.png' for number in range(6, 12)]
    (tmp_path / 'list.txt').write_text('\n'.join([*urls, f'{server.url}/root/gone.png']))
    dataset = UnlabelledImages(tmp_path / 'list.txt', CROP, storage=SHORT)
    (named, reason), *_ = dataset[6]['data_samples'].bad_images
    assert named.endswith('gone.png') and 'FileNotFoundError' in reason
    server.fails['/root/b/06%2B%25.png'] = 2
    assert 'tried 2 times' in dataset[0]['data_samples'].bad_images[0][1]
    assert 'bad_images' not in dataset[0]['data_samples']


@pytest.mark.parametrize('what, answer, reason', [
    ('stalls', lambda path: True, 'no answer within 0.2 s'), ('broken', True, '500'), ('cuts', True, 'disconnected')])
def test_a_server_that_is_gone_ends_the_run_soon(folder, server, what, answer, reason):
    dataset = UnlabelledImages(f'{server.url}/root', CROP, storage=dict(timeout=.2, tries=4))
    server.requests.clear()
    setattr(server, what, answer)
    with pytest.raises(ImageReadError, match=f'50 images in a row .* vanished.*{reason}.*tried once'):
        dataset.__getitems__([SampleKey(0, 0, index) for index in range(12)])
    # 12 images of 4 tries, then one for each of 49. (aiohttp repeats once what is cut, before it says so.)
    assert sum(server.requests.values()) <= (12 * 4 + 49) * (2 if what == 'cuts' else 1)


def test_of_a_batch_that_a_gone_server_is_asked_for_16_speak_for_all(folder, server):
    reader = storage.Storage(timeout=.2, tries=2)
    server.stalls = lambda path: True
    results = reader.read_many([(f'{server.url}/root/{number}.png', None, None) for number in range(60)])
    assert all(isinstance(result, ConnectionError) for result in results)
    assert sum(server.requests.values()) <= 2 * 16


def test_sources_that_cannot_be_opened(folder, tars, server, tmp_path):
    url = server.url
    assert '404' in message(FileNotFoundError, f'{url}/nowhere.tar')
    assert 'nowhere' in message(FileNotFoundError, f'{url}/nowhere')
    assert 'nowhere' in message(FileNotFoundError, f'{url}/nowhere.txt')
    assert 's-003.tar' in message(FileNotFoundError, f'{url}/shards/s-{{000..003}}.tar')
    assert '1 files (of 4)' in message(FileNotFoundError, f'{tars}/s-{{000..003}}.tar')
    assert 'matches no file' in message(FileNotFoundError, f'{url}/shards/x*.tar')
    assert 'matches no file' in message(FileNotFoundError, f'{tars}/x*.tar')
    assert 'nowhere' in message(FileNotFoundError, 'memory://nowhere')
    (tmp_path / 'empty').mkdir()
    assert 'holds no image among its 0 files' in message(ValueError, f'{url}/empty')
    pack(tmp_path / 'none.tar', folder, ['b/notes.json'])
    assert '(1 .json)' in message(ValueError, f'{url}/none.tar')
    assert 'only uncompressed .tar' in message(ValueError, f'{url}/x.tar.gz')
    (tmp_path / 'blank.txt').write_text('\n')
    assert 'empty list' in message(ValueError, f'{url}/blank.txt')
    assert 'Protocol not known: ftq' in message(ValueError, 'ftq://host/x')


def test_servers_that_cannot_be_read_at_the_start(folder, tars, server):
    server.ignores_range = True
    assert 'ignores Range' in message(ValueError, f'{server.url}/all.tar')
    server.broken = True
    for root in ('all.tar', 'shards/*.tar', 'shards', 'root', 'list.txt'):
        assert '500' in message(ConnectionError, f'{server.url}/{root}')
    server.requests.clear()
    server.broken, server.stalls = False, lambda path: True
    assert 'no answer within 0.3 s, tried 2 times' in message(ConnectionError, f'{server.url}/all.tar')
    assert server.requests == {'/all.tar': 2}
    assert 'no answer within 0.3 s, tried 2 times' in message(ConnectionError, f'{server.url}/root')


def test_a_missing_package_is_named_with_its_command():
    with pytest.raises(ImportError) as caught:
        sys.modules.setdefault('s3fs', None)
        open_source('s3://bucket/images', EXTENSIONS)
    assert 'pip install "fsspec[s3]"' in str(caught.value) and '\n' not in str(caught.value)


@pytest.mark.parametrize('remote', [False, True])
def test_damaged_tars_name_the_shard_and_the_byte(tars, server, remote):
    data = (tars / 's-001.tar').read_bytes()
    with tarfile.open(tars / 's-001.tar') as archive:
        third = archive.getmembers()[2].offset
    for damaged, place in (
            (data[:third + 700], 'at byte'), (data[:third + 100], f'at byte {third}:'), (b'x' * 1000, 'at byte 0:'),
            (data[:third] + b'x' * 512 + data[third + 512:], f'at byte {third}:')):
        (tars / 's-001.tar').write_bytes(damaged)
        text = message(ValueError, f'{server.url}/shards' if remote else tars)
        assert 's-001.tar is a damaged tar' in text and place in text
    (tars / 's-001.tar').write_bytes(data[:third])  # without an end, as tars that were appended to
    assert len(open_source(tars, EXTENSIONS).names) == 10


@pytest.mark.parametrize('remote', [False, True])
def test_a_member_cut_later_is_a_bad_image(tars, server, remote):
    source = open_source(f'{server.url}/shards' if remote else tars, EXTENSIONS)
    data = (tars / 's-001.tar').read_bytes()
    (tars / 's-001.tar').write_bytes(data[:source.columns['offset'][5] + 10])
    read = contents(source)
    assert [isinstance(image, bytes) for image in read] == [True] * 5 + [False] * 3 + [True] * 4
    assert isinstance(read[5], EOFError)


@pytest.mark.parametrize('settings, text', [
    (dict(timeout=0), 'storage.timeout=0'), (dict(tries=0), 'storage.tries=0'), (dict(tries=1.5), 'storage.tries=1.5'),
    (dict(options=dict(anon=True)), 'dict for each protocol'), (dict(retries=3), "storage has 'retries'")])
def test_bad_settings(folder, settings, text):
    with pytest.raises(ValueError, match=re.escape(text)):
        UnlabelledImages(folder, CROP, storage=settings)


def test_options_reach_the_file_system_of_their_protocol(folder, server):
    with pytest.raises(TypeError, match='surprise'):
        Storage(options=dict(http=dict(client_kwargs=dict(surprise=1)))).read(f'{server.url}/all.tar')
    Storage(options=dict(s3=dict(anon=True))).read(f'{server.url}/root/b/notes.json')


def test_a_source_is_pickled_without_what_is_open(folder, tars, server):
    sources = [open_source(root, EXTENSIONS) for root in (folder, tars, f'{server.url}/root', f'{server.url}/shards')]
    expected = [contents(source) for source in sources]  # opens everything here
    assert [contents(source) for source in pickle.loads(pickle.dumps(sources))] == expected
    code = ('import pickle, sys, threading, mae_plugin.datasets; sources = pickle.load(sys.stdin.buffer);'
            'print("aiohttp" in sys.modules, threading.active_count());'  # nothing is opened by an import
            'print([list(source.read_many(range(12))) for source in sources])')
    output = subprocess.run([sys.executable, '-c', code], input=pickle.dumps(sources), capture_output=True, check=True,
                            env={**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path)})
    assert output.stdout.decode() == f'False 1\n{expected}\n'


@pytest.fixture
def three(folder, tmp_path):
    """Sources of 12, 6 and 6 pictures; the last two have the same names."""
    for copy in ('x', 'y'):
        (tmp_path / copy).mkdir()
        for path in (folder / 'b').glob('*.png'):
            (tmp_path / copy / path.name).write_bytes(path.read_bytes())
    return [str(folder), str(tmp_path / 'x'), str(tmp_path / 'y')]


def test_several_sources_are_one_data_set(three):
    dataset = UnlabelledImages(three, CROP)
    alone = [UnlabelledImages(root, CROP) for root in three]
    paths = [single.path(index) for single in alone for index in range(len(single))]
    assert [dataset.path(index) for index in range(24)] == paths and len(dataset) == 24 and dataset.mixture is None
    assert torch.equal(dataset.__getitems__([20, 3, 13])[0]['inputs'], dataset[20]['inputs'])
    assert [dataset[20]['data_samples'].img_path, dataset[3]['data_samples'].img_path] == [paths[20], paths[3]]
    train, val = (UnlabelledImages(three, CROP, holdout=.3, split=split) for split in ('train', 'val'))
    assert sorted([data.path(i) for data in (train, val) for i in range(len(data))]) == sorted(paths)
    assert train.metainfo == dict(num_images=len(train))


def test_weights_follow_the_split(three):
    dataset = UnlabelledImages(three, CROP, weights=[1, 2, 1], holdout=.3)
    sizes = [sum(dataset.path(i).startswith(f'{root}/') for i in range(len(dataset))) for root in three]
    assert dataset.mixture == [*zip(sizes, [1, 2, 1], strict=True)] and sum(sizes) == len(dataset) < 24
    assert dataset.metainfo == dict(num_images=len(dataset), mixture=dataset.mixture)
    indices = [key.index for key in islice(KeyedSampler(dataset, seed=0), len(dataset))]
    drawn = Counter(next(root for root in three if dataset.path(index).startswith(f'{root}/')) for index in indices)
    assert abs(drawn[three[1]] - len(dataset) / 2) < 1


@pytest.mark.parametrize('weights', [[1], [1, 1, 1, 1], [1, -1, 1], [0, 0, 0], [1, float('nan'), 1]])
def test_bad_weights(three, weights):
    with pytest.raises(ValueError, match='weights=.* has to be a number of at least 0 for each of the sources'):
        UnlabelledImages(three, CROP, weights=weights)


def test_bad_mixtures(three):
    with pytest.raises(ValueError, match='weights=.1. has to be'):
        UnlabelledImages(three[0], CROP, weights=[1])
    with pytest.raises(ValueError, match='names no source'):
        UnlabelledImages([], CROP)
    with pytest.raises(FileNotFoundError, match='nowhere'):
        UnlabelledImages([*three, 'nowhere'], CROP)
    with pytest.raises(ValueError, match='leave it none'):
        UnlabelledImages(three, CROP, weights=[1, 1, 1], max_images=1)
