"""Folder, list, tar and zip give the same images, and say what is wrong when they give none."""

import errno
import os
import pickle
import subprocess
import sys
import tarfile
import zipfile

import pytest

from mae_plugin.datasets import storage
from mae_plugin.datasets.image_sources import open_source

EXTENSIONS = {'.png', '.jpg'}
FILES = {'b.png': b'bb', 'a/z.JPG': b'zzz', 'a/ä ö/日本.png': b'nihon' * 50, 'a.png': b'a', 'a/b/c/d/e.jpg': b''}
NAMES = sorted(name.encode() for name in FILES)


def read_all(source):
    return {source.names[i]: source.read(i) for i in range(len(source.names))}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv('MAE_PLUGIN_CACHE', str(tmp_path / 'cache'))


@pytest.fixture
def folder(tmp_path):
    """A folder with FILES and with files that are not to be taken."""
    root = tmp_path / 'root'
    others = ('notes.txt', 'a/x.npy', '.hidden.png', '.git/y.png', 'a/._z.jpg', 'noextension')
    for name, data in {**FILES, **dict.fromkeys(others, b'')}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


@pytest.fixture
def tar(folder, tmp_path):
    with tarfile.open(tmp_path / 'images.tar', 'w') as archive:
        archive.add(folder, '.')
    return tmp_path / 'images.tar'


def make_zip(folder, path, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, 'w', method) as archive:
        for name in ('a', *FILES, 'notes.txt', '.git/y.png'):
            archive.write(folder / name, name)
        archive.writestr('__MACOSX/b.png', b'')
    return path


def test_all_sources_give_the_same(folder, tar, tmp_path):
    paths = tmp_path / 'list.txt'
    paths.write_text('\n'.join(f'root/{name}' for name in FILES), 'utf-8')
    prefixed = tmp_path / 'prefixed.txt'
    prefixed.write_text('\ufeff' + '\r\n\r\n'.join(FILES) + '\r\n', 'utf-8')
    absolute = tmp_path / 'absolute.txt'
    absolute.write_text('\n'.join(str(folder / name) for name in FILES), 'utf-8')
    sources = [
        open_source(folder, EXTENSIONS), open_source(f'{folder}/', EXTENSIONS), open_source(tar, EXTENSIONS),
        open_source(make_zip(folder, tmp_path / 'deflated.zip'), EXTENSIONS),
        open_source(make_zip(folder, tmp_path / 'stored.zip', zipfile.ZIP_STORED), EXTENSIONS),
        open_source(prefixed, EXTENSIONS, str(folder))]
    expected = {name.encode(): data for name, data in FILES.items()}
    for source in sources:
        assert list(source.names) == NAMES and read_all(source) == expected
    for path, prefix in ((paths, 'root/'), (absolute, f'{folder}/')):
        assert read_all(open_source(path, EXTENSIONS)) == {
            f'{prefix}{name}'.encode(): data for name, data in FILES.items()}


def test_paths_for_people(folder, tar):
    assert open_source(folder, EXTENSIONS).path(0) == f'{folder}/a.png'
    assert open_source(tar, EXTENSIONS).path(0) == f'{tar}!/a.png'


def test_home_and_relative_roots(folder, monkeypatch):
    monkeypatch.setenv('HOME', str(folder.parent))
    monkeypatch.chdir(folder.parent)
    assert open_source('~/root', EXTENSIONS).root == open_source('root', EXTENSIONS).root == str(folder)


def test_extensions(folder):
    assert list(open_source(folder, {'.jpg'}).names) == [b'a/b/c/d/e.jpg', b'a/z.JPG']


def test_names_that_are_not_unicode(folder):
    name = b'caf\xe9.png'
    with open(os.path.join(os.fsencode(folder), name), 'wb') as file:
        file.write(b'latin')
    source = open_source(folder, EXTENSIONS)
    assert source.read(list(source.names).index(name)) == b'latin'


def test_links_are_followed_once_and_pipes_left_alone(folder, tmp_path):
    elsewhere = tmp_path / 'elsewhere'
    elsewhere.mkdir()
    (elsewhere / 'f.png').write_bytes(b'f')
    (folder / 'link').symlink_to(elsewhere)
    (folder / 'a' / 'loop').symlink_to(folder)
    (folder / 'linked.png').symlink_to(elsewhere / 'f.png')
    (folder / 'dangling.png').symlink_to(elsewhere / 'g.png')
    (folder / 'folder.png').mkdir()
    os.mkfifo(folder / 'pipe.png')
    assert list(open_source(folder, EXTENSIONS).names) == sorted([*NAMES, b'link/f.png', b'linked.png'])


def test_hard_links_in_a_tar_are_images(folder, tmp_path):
    os.link(folder / 'b.png', folder / 'c.png')
    with tarfile.open(tmp_path / 'hard.tar', 'w') as archive:
        archive.add(folder, 'deep')
    source = open_source(tmp_path / 'hard.tar', EXTENSIONS)
    assert read_all(source)[b'deep/b.png'] == read_all(source)[b'deep/c.png'] == b'bb'


def test_a_member_stored_twice_counts_once_and_the_later_holds(folder, tmp_path):
    for path, open_archive in ((tmp_path / 'twice.tar', tarfile.open), (tmp_path / 'twice.zip', zipfile.ZipFile)):
        with open_archive(path, 'w') as archive:
            add = archive.add if path.suffix == '.tar' else archive.write
            add(folder / 'a.png', 'x.png')
            if path.suffix == '.zip':
                with pytest.warns(UserWarning, match='Duplicate'):
                    add(folder / 'b.png', 'x.png')
            else:
                add(folder / 'b.png', 'x.png')
        assert read_all(open_source(path, EXTENSIONS)) == {b'x.png': b'bb'}


@pytest.mark.parametrize('kind', ['tar', 'zip'])
def test_archives_are_read_after_a_fork_and_after_pickling(folder, tar, tmp_path, kind):
    source = open_source(tar if kind == 'tar' else make_zip(folder, tmp_path / 'x.zip'), EXTENSIONS)
    expected = read_all(source)  # opens the archive in this process
    readers = [os.pipe() for _ in range(2)]
    children = []
    for _, end in readers:
        child = os.fork()
        if child == 0:
            for _ in range(200):
                good = read_all(source) == expected
            os.write(end, b'1' if good else b'0')
            os._exit(0)
        children.append(child)
    assert all(read_all(source) == expected for _ in range(200))
    assert [os.read(end, 1) for end, _ in readers] == [b'1', b'1']
    for child in children:
        os.waitpid(child, 0)
    code = 'import pickle, sys; s = pickle.load(sys.stdin.buffer); print([s.read(i) for i in range(len(s.names))])'
    output = subprocess.run([sys.executable, '-c', code], input=pickle.dumps(source), capture_output=True, check=True,
                            env={**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path)})
    assert output.stdout.decode().strip() == str(list(expected.values()))


def test_damage_inside_an_archive_is_noticed(folder, tmp_path):
    path = make_zip(folder, tmp_path / 'x.zip', zipfile.ZIP_STORED)
    data = path.read_bytes()
    path.write_bytes(data.replace(b'nihonnihon', b'nihonNihon', 1))
    source = open_source(path, EXTENSIONS)
    number = list(source.names).index('a/ä ö/日本.png'.encode())
    with pytest.raises(ValueError, match='checksum'):
        source.read(number)
    path.write_bytes(b'\0' * len(data))
    with pytest.raises(ValueError, match='changed while it was in use'):
        source.read(number)
    path.write_bytes(data[:10])
    with pytest.raises(EOFError, match='ends inside'):
        source.read(number)


def error(kind, *args):
    with pytest.raises(kind) as caught:
        open_source(*args)
    assert '\n' not in str(caught.value)
    return str(caught.value)


def test_a_root_that_does_not_exist(tmp_path):
    message = error(FileNotFoundError, f'{tmp_path}/no/such/root', EXTENSIONS)
    assert f"'{tmp_path}/no/such/root' does not exist" in message and message.endswith(f"'{tmp_path}'")


def test_a_folder_without_images_says_what_it_holds(folder):
    message = error(ValueError, folder, {'.webp', '.bmp'})
    assert f"'{folder}'" in message and '10 files' in message and message.endswith('images end in .bmp, .webp')
    assert '4 .png' in message and '1 .npy' in message and '1 without extension' in message


def test_an_archive_without_images(folder, tar, tmp_path):
    assert 'holds no image among its' in error(ValueError, tar, {'.bmp'})
    assert 'holds no image among its' in error(ValueError, make_zip(folder, tmp_path / 'x.zip'), {'.bmp'})


def test_lists_that_cannot_be_used(folder, tmp_path):
    paths = tmp_path / 'list.txt'
    paths.write_text('root/b.png\nroot/gone.png\nroot/zgone.png\n')
    message = error(FileNotFoundError, paths, EXTENSIONS)
    assert '2 files (of 3)' in message and f"below '{tmp_path}', the first: 'root/gone.png'" in message
    paths.write_text('\n \n')
    assert 'empty list' in error(ValueError, paths, EXTENSIONS)
    assert "data_prefix='x' goes with a .txt list" in error(ValueError, folder, EXTENSIONS, 'x')


@pytest.mark.parametrize('mode, method', [('gz', 'gzip'), ('bz2', 'bzip2'), ('xz', 'xz')])
def test_compressed_tars_are_refused(folder, tmp_path, mode, method):
    with tarfile.open(tmp_path / f'x.tar.{mode}', f'w:{mode}') as archive:
        archive.add(folder, '.')
    assert f'compressed with {method}' in error(ValueError, tmp_path / f'x.tar.{mode}', EXTENSIONS)


def test_files_that_are_no_source(folder, tar, tmp_path):
    assert 'neither a .txt list of paths nor a tar nor a zip' in error(ValueError, folder / 'b.png', EXTENSIONS)
    (tmp_path / 'cut.tar').write_bytes(tar.read_bytes()[:3000])
    assert 'damaged tar' in error(ValueError, tmp_path / 'cut.tar', EXTENSIONS)
    data = make_zip(folder, tmp_path / 'x.zip').read_bytes()
    (tmp_path / 'bad.zip').write_bytes(data.replace(b'PK\1\2', b'PK\1\3'))
    assert 'damaged zip' in error(ValueError, tmp_path / 'bad.zip', EXTENSIONS)
    make_zip(folder, tmp_path / 'lzma.zip', zipfile.ZIP_LZMA)
    assert 'another method than deflate' in error(ValueError, tmp_path / 'lzma.zip', EXTENSIONS)


def test_a_stale_handle_of_an_archive_is_opened_anew(tar, monkeypatch):
    source = open_source(str(tar), EXTENSIONS)
    expected, pread, stale = read_all(source), os.pread, source._opened(str(tar)).fileno()
    kept = source._opened(str(tar))  # so that its number is not given to the next

    def fail(descriptor, *rest):
        if descriptor == stale:
            raise OSError(errno.ESTALE, 'Stale file handle')
        return pread(descriptor, *rest)

    monkeypatch.setattr(os, 'pread', fail)
    monkeypatch.setattr(storage, '_FIRST_PAUSE', .001)
    assert read_all(source) == expected and not kept.closed
