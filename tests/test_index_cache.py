"""A large source is looked through once, and again when anything in it has changed."""

import os
import tarfile

import numpy as np
import pytest

from mae_plugin.datasets import image_sources, index_cache
from mae_plugin.datasets.index_cache import Strings, cache_dir


@pytest.fixture
def folder(tmp_path):
    for name in ('a/b/1.png', 'a/2.png', '3.png', 'c/4.jpg'):
        (tmp_path / 'root' / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / 'root' / name).write_bytes(name.encode())
    return tmp_path / 'root'


@pytest.fixture
def names(tmp_path, monkeypatch):
    """``names(root)`` are the images found; ``names.searches`` counts how often they were looked for."""
    monkeypatch.setenv('MAE_PLUGIN_CACHE', str(tmp_path / 'cache'))
    monkeypatch.setattr(index_cache, 'SMALLEST', 1)
    monkeypatch.setattr(index_cache, '_SETTLED_NS', -10**12)  # trust what has just been written

    def result(root, extensions=('.png', '.jpg')):
        return list(image_sources.open_source(root, extensions).names)

    def counted(search):
        def wrapper(*args):
            result.searches += 1
            return search(*args)
        return wrapper

    result.searches = 0
    for name in ('find_in_folder', 'find_in_list', 'find_in_tars', 'find_in_zip'):
        monkeypatch.setattr(image_sources, name, counted(getattr(image_sources, name)))
    return result


def test_an_unchanged_folder_is_looked_through_once(folder, names):
    assert names(folder) == names(folder) == [b'3.png', b'a/2.png', b'a/b/1.png', b'c/4.jpg']
    assert names.searches == 1
    assert names(folder, ('.jpg',)) == [b'c/4.jpg'] and names.searches == 2


@pytest.mark.parametrize('change, expected', [
    (lambda root: (root / 'a/b/5.png').write_bytes(b''), b'a/b/5.png'),
    (lambda root: (root / 'a/b/1.png').rename(root / 'a/b/6.png'), b'a/b/6.png'),
    (lambda root: (root / 'a/b').rename(root / 'a/x'), b'a/x/1.png'),
    (lambda root: (root / 'c/4.jpg').unlink(), None),
], ids=['added', 'renamed', 'moved', 'removed'])
def test_a_change_at_any_depth_is_noticed(folder, names, change, expected):
    before = names(folder)
    change(folder)
    after = names(folder)
    assert names.searches == 2 and after != before and (expected is None or expected in after)


def test_a_folder_replaced_with_its_old_times_is_noticed(folder, names):
    before = os.stat(folder / 'c')
    names(folder)
    (folder / 'c/4.jpg').rename(folder / 'c/5.jpg')
    os.utime(folder / 'c', ns=(before.st_atime_ns, before.st_mtime_ns))  # what cp -a and rsync -a leave
    assert b'c/5.jpg' in names(folder)


def test_archives_and_lists(folder, names, tmp_path):
    def pack(members):
        with tarfile.open(tmp_path / 'x.tar', 'w') as archive:
            for member in members:
                archive.add(folder / member, member)

    pack(['3.png', 'a/2.png'])
    assert names(tmp_path / 'x.tar') == names(tmp_path / 'x.tar') == [b'3.png', b'a/2.png'] and names.searches == 1
    source = image_sources.open_source(tmp_path / 'x.tar', ('.png', '.jpg'))
    assert [source.read(0), source.read(1)] == [b'3.png', b'a/2.png'] and names.searches == 1
    pack(['c/4.jpg', 'a/2.png'])
    assert names(tmp_path / 'x.tar') == [b'a/2.png', b'c/4.jpg'] and names.searches == 2

    (tmp_path / 'x.txt').write_text('root/3.png')
    assert names(tmp_path / 'x.txt') == names(tmp_path / 'x.txt') and names.searches == 3
    (tmp_path / 'x.txt').write_text('root/a/2.png')
    assert names(tmp_path / 'x.txt') == [b'root/a/2.png']


def test_what_changed_just_now_is_not_trusted(folder, names, monkeypatch):
    monkeypatch.setattr(index_cache, '_SETTLED_NS', 2 * 10**9)
    assert names(folder) == names(folder)
    assert names.searches == 2 and not cache_dir().exists()


def test_small_sources_leave_nothing_behind(folder, names, monkeypatch):
    monkeypatch.setattr(index_cache, 'SMALLEST', 5)
    names(folder)
    assert not cache_dir().exists()


@pytest.mark.parametrize('damage', [b'', b'PK\3\4 no archive', None])
def test_a_damaged_cache_is_made_anew(folder, names, damage):
    first = names(folder)
    file, = cache_dir().iterdir()
    if damage is None:
        np.savez(file, names=np.zeros(3, np.uint8))
    else:
        file.write_bytes(damage)
    assert names(folder) == names(folder) == first and names.searches == 2


def test_a_cache_that_cannot_be_written_is_no_error(folder, names, tmp_path):
    (tmp_path / 'cache').write_text('a file where the folder should be')
    assert names(folder) == names(folder) and names.searches == 2


def test_an_interrupted_write_leaves_no_file(folder, names, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, 'No space left on device')
    monkeypatch.setattr(np, 'savez', full)
    assert names(folder) and not list(cache_dir().iterdir())


def test_place_of_the_cache(monkeypatch):
    monkeypatch.setenv('HOME', '/home/someone')
    monkeypatch.delenv('MAE_PLUGIN_CACHE', raising=False)
    assert str(cache_dir()) == '/home/someone/.cache/mae_plugin/index'
    monkeypatch.setenv('MAE_PLUGIN_CACHE', '/scratch')
    assert str(cache_dir()) == '/scratch/index'


def test_strings():
    words = [b'', b'a', b'\xff\xfe', b'', 'ä'.encode(), b'last']
    strings = Strings.pack(words)
    assert len(strings) == 6 and list(strings) == words and [strings[i] for i in range(6)] == words
    assert strings[-1] == b'last'
    assert not list(Strings.pack([]))
