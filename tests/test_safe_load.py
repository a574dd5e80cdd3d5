"""Files are read without running what they hold, and real checkpoints of MMEngine are read whole."""

import argparse
import ast
import io
import os
import pickle
import zipfile
from collections import OrderedDict
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import checkpoint as theirs
from mmengine.runner.checkpoint import CheckpointLoader

from mae_plugin.weights import safe_load
from mae_plugin.weights.safe_load import load_file

ROOT = Path(__file__).parents[1]


class Calls:
    """Pickles as a call of ``function`` with ``arguments``, and sets ``items`` of what it returns."""

    def __init__(self, function, *arguments, items=()):
        self.reduced = (function, arguments, None, None, iter(items))

    def __reduce__(self):
        return self.reduced


def save(path, content):
    torch.save(content, path)
    return path


def test_reads_what_mmengine_and_the_authors_write(tmp_path):
    history = HistoryBuffer()
    for value in (3., 1., 2.):
        history.update(value)
    content = dict(
        state_dict={'a': torch.arange(3)}, log_scalars={'train/loss': history}, same=history,
        array=np.asfortranarray(np.arange(6, dtype='uint8').reshape(2, 3)), empty=np.zeros((0, 2)),
        big_endian=np.arange(3, dtype='>i4'), text=np.array(['a', 'bc']), nested=[(1, {'x': np.arange(2)})],
        best=np.float64(0.5), count=np.int64(4), truth=np.bool_(True),
        args=argparse.Namespace(lr=1e-3, model='mae_vit_base_patch16', best=np.float64(.5), sizes=np.arange(2)))
    loaded = load_file(save(tmp_path / 'a.pth', content))
    for key in ('array', 'empty', 'big_endian', 'text'):
        np.testing.assert_array_equal(loaded[key], content[key])
        assert loaded[key].dtype == content[key].dtype
    np.testing.assert_array_equal(loaded['nested'][0][1]['x'], [0, 1])
    assert (loaded['best'], loaded['count'], loaded['truth']) == (0.5, 4, True)
    assert loaded['args'].sizes.tolist() == [0, 1]
    del loaded['args'].sizes, content['args'].sizes
    assert vars(loaded['args']) == vars(content['args'])
    restored = loaded['log_scalars']['train/loss']
    assert type(restored) is HistoryBuffer and restored is loaded['same']
    assert (restored.mean(), restored.statistics('min'), restored.current()) == (2., 1., 2.)


def test_numpy_1_names(tmp_path, monkeypatch):
    """NumPy 1 wrote ``numpy.core``, NumPy 2 writes ``numpy._core``."""
    path = save(tmp_path / 'a.pth', dict(x=np.arange(3), y=np.float64(2)))
    old, new = b'numpy._core.', b'numpy.core.'
    source, target = zipfile.ZipFile(path), zipfile.ZipFile(tmp_path / 'b.pth', 'w')
    for name in source.namelist():
        data = source.read(name)
        target.writestr(name, data.replace(old, new) if old in data else data.replace(new, old))
    target.close()
    loaded = load_file(tmp_path / 'b.pth')
    assert loaded['x'].tolist() == [0, 1, 2] and loaded['y'] == 2


@pytest.mark.parametrize('attack, named', [
    (lambda marker: Calls(os.mkdir, marker), 'posix.mkdir'),
    (lambda marker: Calls(eval, f'__import__("os").mkdir({marker!r})'), 'eval'),
    (lambda marker: np.array([Calls(os.mkdir, marker)], dtype=object), 'O8'),
    (lambda marker: {Calls(os.mkdir, marker): 1}, 'posix.mkdir'),
    (lambda marker: torch.nn.Linear(1, 1), 'torch.nn.modules.linear.Linear'),
    (lambda marker: np.zeros(2, dtype=[('a', 'f4')]), 'V4'),
])
def test_refuses_what_could_run_code(tmp_path, attack, named):
    marker = str(tmp_path / 'marker')
    path = save(tmp_path / 'evil.pth', dict(state_dict={}, extra=attack(marker)))
    with pytest.raises(ValueError, match='evil.pth') as refused:
        load_file(path)
    assert named in str(refused.value)
    assert not os.path.exists(marker)


def test_getattr_is_not_the_real_one(tmp_path):
    """With it, a file can write into the globals of a module."""
    method = Calls(getattr, HistoryBuffer, 'update')
    path = save(tmp_path / 'evil.pth', Calls(getattr, method, '__globals__', items=[('planted', 1)]))
    with pytest.raises(ValueError, match='evil.pth'):
        load_file(path)
    import mmengine.logging.history_buffer as module
    assert not hasattr(module, 'planted')


def test_what_others_allowed_for_the_process_is_not_used(tmp_path):
    path = save(tmp_path / 'evil.pth', Calls(getattr, 'text', 'upper'))
    torch.serialization.add_safe_globals([getattr])
    try:
        assert load_file(path) is None
        assert getattr in torch.serialization.get_safe_globals()
    finally:
        torch.serialization.clear_safe_globals()


def test_drops_stored_configs(tmp_path):
    path = save(tmp_path / 'a.pth', dict(
        meta=dict(config='code', cfg='code', epoch=1), message_hub=dict(runtime_info=dict(cfg='code', iter=2))))
    assert load_file(path) == dict(meta=dict(epoch=1), message_hub=dict(runtime_info=dict(iter=2)))


@pytest.mark.parametrize('content', [
    b'', b'hello world\n' * 20, b'\xff\xd8\xff\xe0' + bytes(range(256)) * 4, pickle.dumps(dict(a=1), 2),
    pickle.dumps(dict(a=1), 4)
], ids=['empty', 'text', 'jpeg', 'pickle2', 'pickle4'])
def test_names_what_is_no_checkpoint(tmp_path, content):
    path = tmp_path / 'other.pth'
    path.write_bytes(content)
    with pytest.raises(ValueError, match='other.pth is not a checkpoint'):
        load_file(path)


def test_names_a_foreign_zip_and_a_cut_file(tmp_path):
    with zipfile.ZipFile(tmp_path / 'images.zip', 'w') as archive:
        archive.writestr('a/1.txt', 'x')
    whole = save(tmp_path / 'a.pth', dict(a=torch.zeros(1000))).read_bytes()
    (tmp_path / 'cut.pth').write_bytes(whole[:len(whole) // 2])
    for name in ('images.zip', 'cut.pth'):
        with pytest.raises(ValueError, match=f'{name} is not a checkpoint, or is cut off'):
            load_file(tmp_path / name)


def test_places_without_a_file(tmp_path):
    save(tmp_path / 'iter_5.pth', {})
    with pytest.raises(FileNotFoundError, match='iter_6.pth does not exist.*iter_5.pth'):
        load_file(tmp_path / 'iter_6.pth')
    with pytest.raises(ValueError, match='is a folder.*iter_5.pth'):
        load_file(tmp_path)
    os.mkfifo(tmp_path / 'pipe.pth')
    with pytest.raises(ValueError, match='pipe.pth is no file'):
        load_file(tmp_path / 'pipe.pth')
    with pytest.raises(ValueError, match='download it'):
        load_file('https://example.org/a.pth')


@pytest.mark.parametrize('name, content, said', [
    ('a.pth', b'', 'it is empty'),
    ('a.pth', b'\n<!DOCTYPE html><html>', 'it is a web page'),
    ('a.safetensors', b'version https://git-lfs.github.com/spec/v1\noid sha256:1', 'Git LFS.*git lfs pull'),
    ('a.safetensors', b'PK\x03\x04' + bytes(60), 'its content is that of a .pth file'),
    ('a.pth', b'\x40' + bytes(7) + b'{"__metadata__":{}}', 'its content is that of a .safetensors file'),
])
def test_says_what_is_often_taken_for_a_checkpoint(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf'{name} is not a checkpoint, .*{said}.*fetch or copy it once more'):
        load_file(tmp_path / name)


def test_names_alike_come_first(tmp_path):
    for i in range(12):
        (tmp_path / f'iter_{i}.pth').touch()
    (tmp_path / 'best.safetensors').touch()
    with pytest.raises(FileNotFoundError, match='folder: best.safetensors, iter_'):
        load_file(tmp_path / 'bset.safetensors')
    (tmp_path / 'link.pth').symlink_to(tmp_path / 'gone.pth')
    with pytest.raises(FileNotFoundError, match='link.pth is a link to .*gone.pth, which does not exist'):
        load_file(tmp_path / 'link.pth')
    with pytest.raises(FileNotFoundError, match='does not exist; nor does its folder'):
        load_file(tmp_path / 'no/a.pth')


def test_every_flipped_bit_of_the_weights_is_seen(tmp_path):
    path = save(tmp_path / 'a.pth', dict(a=torch.rand(64, generator=torch.Generator().manual_seed(0))))
    whole = bytearray(path.read_bytes())
    start = whole.index(torch.rand(64, generator=torch.Generator().manual_seed(0)).numpy().tobytes())
    for bit in range(0, 64 * 4 * 8, 37):
        damaged = bytearray(whole)
        damaged[start + bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match='a.pth .*damaged.*checksum'):
            load_file(path)


def test_flipped_bits_of_the_directory_are_seen_or_harmless(tmp_path):
    """The one that makes a record a folder would leave memory as it was in the place of the weights."""
    content = dict(a=torch.arange(20.), b=torch.ones(3))
    whole = save(tmp_path / 'a.pth', content).read_bytes()
    for place in range(whole.index(b'PK\1\2'), len(whole)):
        (tmp_path / 'a.pth').write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1:])
        try:
            loaded = load_file(tmp_path / 'a.pth')
        except ValueError as error:
            assert 'a.pth is not a checkpoint, or is cut off or damaged' in str(error)
            continue
        assert loaded.keys() == content.keys() and all(torch.equal(loaded[key], content[key]) for key in content), place


@pytest.mark.filterwarnings('ignore:Duplicate name:UserWarning')
@pytest.mark.parametrize('other_first', [False, True])
def test_two_records_of_one_name(tmp_path, other_first):
    path = save(tmp_path / 'a.pth', dict(a=torch.ones(2)))
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(tmp_path / 'b.pth', 'w') as target:
        for name in source.namelist():
            data = source.read(name)
            for each in (bytes(len(data)), data)[::1 if other_first else -1] if name.endswith('data/0') else (data, ):
                target.writestr(name, each)
    with pytest.raises(ValueError, match='b.pth .*data/0 is there twice'):
        load_file(tmp_path / 'b.pth')


def test_old_format_and_safetensors(tmp_path):
    torch.save(dict(a=torch.ones(2)), tmp_path / 'old.pth', _use_new_zipfile_serialization=False)
    assert load_file(tmp_path / 'old.pth')['a'].tolist() == [1, 1]
    safetensors = pytest.importorskip('safetensors.torch')
    safetensors.save_file(dict(a=torch.ones(2)), tmp_path / 'a.safetensors')
    assert load_file(tmp_path / 'a.safetensors')['a'].tolist() == [1, 1]
    (tmp_path / 'b.safetensors').write_bytes(b'no' * 100)
    with pytest.raises(ValueError, match='b.safetensors is not a checkpoint'):
        load_file(tmp_path / 'b.safetensors')


def dump(path, content, protocol=4):
    path.write_bytes(pickle.dumps(content, protocol))
    return path


@pytest.mark.parametrize('protocol', range(2, 6))
def test_plain_pickles_of_arrays_are_read_as_tensors(tmp_path, protocol):
    weights = dict(a=np.random.default_rng(0).normal(size=(2, 3)).astype('float32'), b=np.arange(4, dtype='>i8'),
                   c=np.asfortranarray(np.arange(6).reshape(2, 3)), d=np.zeros((0, 2)), e=np.array(True),
                   f=np.arange(8)[::2])
    content = dict(model=OrderedDict(weights), __author__='someone', matching_heuristics=True, best=np.float64(.5),
                   names=np.array(['a', 'bc']))
    found = load_file(dump(tmp_path / 'a.pkl', content, protocol))
    assert found['names'].tolist() == ['a', 'bc']
    assert (found['__author__'], found['matching_heuristics'], found['best']) == ('someone', True, .5)
    for name, value in weights.items():
        assert isinstance(found['model'][name], torch.Tensor) and found['model'][name].shape == value.shape
        assert found['model'][name].numpy().dtype == value.dtype.newbyteorder('=')
        np.testing.assert_array_equal(found['model'][name], value)
    assert load_file(dump(tmp_path / 'b.pkl', weights, protocol))['a'].equal(found['model']['a'])
    # the suffix alone does not make it one
    assert load_file(save(tmp_path / 'c.pkl', dict(a=torch.ones(2))))['a'].tolist() == [1, 1]


@pytest.mark.parametrize('protocol', [0, 2, 4, 5])
@pytest.mark.parametrize('attack, named', [
    (lambda marker: Calls(os.mkdir, marker), 'posix.mkdir'),
    (lambda marker: Calls(os.system, f'mkdir {marker}'), 'posix.system'),
    (lambda marker: Calls(eval, f'__import__("os").mkdir({marker!r})'), 'eval'),
    (lambda marker: Calls(getattr, Calls(__import__, 'os'), 'mkdir'), 'getattr|__import__'),
    (lambda marker: np.array([Calls(os.mkdir, marker)], dtype=object), "arrays of type 'O8'|posix.mkdir"),
    (lambda marker: {'deep': [({'x': Calls(os.mkdir, marker)}, )]}, 'posix.mkdir'),
    (lambda marker: argparse.Namespace(a=1), 'argparse.Namespace|copy_?reg._reconstructor'),
    (lambda marker: torch.ones(2), 'torch._utils._rebuild_tensor_v2'),
])
def test_refuses_plain_pickles_that_could_run_code(tmp_path, attack, named, protocol):
    marker = str(tmp_path / 'marker')
    path = dump(tmp_path / 'evil.pkl', dict(model={}, extra=attack(marker)), protocol)
    with pytest.raises(ValueError, match=rf'evil.pkl is .*({named})'):
        load_file(path)
    assert not os.path.exists(marker)


@pytest.mark.parametrize('content, reason', [
    # sets __defaults__ and an attribute of the function; of the class
    (b'cnumpy.core.multiarray\nscalar\n(NC\x00}X\x0c\x00\x00\x00__defaults__)stb.', 'sets the state of a function'),
    (b'cnumpy.core.multiarray\nscalar\n}X\x01\x00\x00\x00aK\x01sb.', 'sets the state of a function'),
    (b'cnumpy\ndtype\n(N}X\x08\x00\x00\x00__init__Nstb.', 'sets the state of a function'),
    (b'cnumpy\ndtype\n)\x81.', 'NEWOBJ'),
    (b'\x80\x04\x8c\x05numpy\x8c\x0edtype.__init__\x93.', 'refused: it holds numpy.dtype.__init__'),
    (b'X\x01\x00\x00\x00aQ.', 'persistent'),
    (b'\x82\x01.', 'extension'),
    (b'}r\xff\xff\xff\xff.', 'numbers more objects'),  # would make a table of 64 GiB
    (b'\x8e' + b'\xff' * 7 + b'\x7f' + b'abc.', 'expected'),
    (b'l' * 3000 + b'.', ''), (b'(' + b']' * 100000 + b'a' * 99999 + b'.', 'recursion'),
])
def test_odd_plain_pickles_change_nothing(tmp_path, content, reason):
    path = tmp_path / 'odd.pkl'
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f'odd.pkl .*{reason}'):
        load_file(path)
    assert safe_load._scalar.__defaults__ is None and not vars(safe_load._scalar)
    assert safe_load._DType('f4').restore() == np.float32


@pytest.mark.parametrize('protocol', [2, 4])
def test_cut_and_flipped_plain_pickles(tmp_path, protocol):
    """All that is cut is seen. There is no checksum: a flipped bit changes what is read, or it is seen, too."""
    path = tmp_path / 'a.pkl'
    whole = dump(path, dict(model={'a.weight': np.ones((2, 2), 'float32'), 'b': np.arange(3)}), protocol).read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match='a.pkl is not a checkpoint, or is cut off'):
            load_file(path)
    seen = 0
    for bit in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            load_file(path)
        except ValueError as error:
            assert str(error).startswith(str(path))
            seen += 1
    assert seen > 2 * len(whole)


@pytest.fixture
def install(monkeypatch):
    """``install()`` for one test."""
    monkeypatch.setattr(CheckpointLoader, '_schemes', CheckpointLoader._schemes)
    for name in {'load_from_http', '_safe_torch_load'} & vars(theirs).keys():
        monkeypatch.setattr(theirs, name, getattr(theirs, name))
    monkeypatch.setenv('TORCH_FORCE_WEIGHTS_ONLY_LOAD', '0')
    return safe_load.install


def test_install_covers_mmengine_and_torch(tmp_path, install):
    marker = tmp_path / 'marker'
    path = save(tmp_path / 'evil.pth', Calls(os.mkdir, str(marker)))
    install()
    with pytest.raises(ValueError, match='refused'):
        CheckpointLoader.load_checkpoint(str(path))
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=False)
    assert not marker.exists()


def test_install_covers_what_is_downloaded(tmp_path, monkeypatch, install):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'cache'))
    site = tmp_path / 'site'
    site.mkdir()
    save(site / 'good.pth', dict(state_dict=dict(a=torch.ones(2)), meta=dict(config='raise SystemExit')))
    save(site / 'evil.pth', Calls(os.mkdir, str(tmp_path / 'marker')))
    content = (site / 'good.pth').read_bytes()
    place = content.index(torch.ones(2).numpy().tobytes())
    (site / 'flipped.pth').write_bytes(content[:place] + b'\1' + content[place + 1:])
    handler = partial(SimpleHTTPRequestHandler, directory=site)
    monkeypatch.setattr(SimpleHTTPRequestHandler, 'log_message', lambda *args: None)
    with ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        address = f'http://127.0.0.1:{server.server_port}'
        install()
        for load in (CheckpointLoader.load_checkpoint, theirs.load_from_http):  # the second for torchvision:// and such
            loaded = load(f'{address}/good.pth')
            assert loaded['state_dict']['a'].tolist() == [1, 1] and 'config' not in loaded['meta']
            with pytest.raises(ValueError, match='refused: it holds posix.mkdir'):
                load(f'{address}/evil.pth')
            with pytest.raises(ValueError, match='the checksum of its record'):
                load(f'{address}/flipped.pth')
        server.shutdown()
    assert CheckpointLoader.load_checkpoint(f'{address}/good.pth')['state_dict']['a'].tolist() == [1, 1]  # kept


def test_install_replaces_the_reader_of_onedl_that_allows_getattr(tmp_path, install):
    if not hasattr(theirs, '_safe_torch_load'):
        pytest.skip('the original MMEngine has no such reader')
    path = save(tmp_path / 'evil.pth', Calls(getattr, 'x', 'upper'))
    assert callable(theirs._safe_torch_load(path))
    install()
    with pytest.raises(ValueError, match='holds a NoneType'):
        theirs._safe_torch_load(path)
    assert theirs._safe_torch_load(io.BytesIO(path.read_bytes())) is None
    good = save(tmp_path / 'good.pth', dict(a=torch.ones(2), meta=dict(config='raise SystemExit')))
    loaded = theirs._safe_torch_load(io.BytesIO(good.read_bytes()))
    assert loaded['a'].tolist() == [1, 1] and loaded['meta'] == {}


def test_nothing_else_reads_files_in_a_way_that_runs_code():
    """``torch.load`` and pickle only here, and no evaluating or unpacking of whole archives anywhere."""
    forbidden = {'torch.load', 'eval', 'exec', 'yaml.load', 'joblib.load'}
    found = []
    for file in [*(ROOT / 'mae_plugin').rglob('*.py'), *(ROOT / 'tools').rglob('*.py')]:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func)
                unsafe = any(k.arg in ('shell', 'allow_pickle') and ast.unparse(k.value) == 'True'
                             for k in node.keywords)
                if name in forbidden or unsafe or name.endswith(('.extractall', 'Config.fromstring')):
                    found.append(f'{file.relative_to(ROOT)}: {name}')
            elif isinstance(node, (ast.Import, ast.ImportFrom)):
                modules = {getattr(node, 'module', None), *(alias.name for alias in node.names)}
                found += [f'{file.relative_to(ROOT)}: {module}'
                          for module in modules & {'pickle', '_pickle', 'cPickle', 'dill', 'cloudpickle', 'shelve'}]
    assert sorted(found) == [f'mae_plugin/weights/safe_load.py: {name}' for name in ('pickle', 'torch.load')]
