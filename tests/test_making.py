"""Folders that appear whole, safe unpacking, equal pictures."""

import io
import json
import subprocess
import sys
import tarfile
import threading
import time

import numpy as np
import pytest
from PIL import Image

from mae_plugin.datasets.making import describe_overlaps, ensure_folder, find_overlaps, keep_once, leave_out, unpack


def fill(folder):
    (folder / 'data.txt').write_text('whole')


def refuse(folder):
    raise AssertionError('made again')


def test_folder_is_made_once_and_records_its_settings(tmp_path):
    root = tmp_path / 'deep' / 'root'
    assert ensure_folder(root, {'seed': 1}, fill) == root
    assert json.loads((root / 'meta.json').read_text()) == {'seed': 1}
    ensure_folder(root, {'seed': 1}, refuse)
    with pytest.raises(ValueError, match='seed=1 instead of 2'):
        ensure_folder(root, {'seed': 2}, refuse)
    assert [path.name for path in root.parent.iterdir()] == ['root']


def test_folder_appears_whole(tmp_path):
    """It is renamed, not filled or copied: while it is made nothing is at its place."""
    seen = []

    def make(folder):
        seen.append((folder.stat().st_ino, (tmp_path / 'root').exists()))

    ensure_folder(tmp_path / 'root', {}, make)
    assert seen == [((tmp_path / 'root').stat().st_ino, False)]


def test_an_interruption_leaves_nothing(tmp_path):
    def interrupted(folder):
        fill(folder)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ensure_folder(tmp_path / 'root', {}, interrupted)
    assert not list(tmp_path.iterdir())


def test_folder_of_others_is_left_alone(tmp_path):
    (tmp_path / 'photo.jpg').touch()
    with pytest.raises(ValueError, match='no data set made here'):
        ensure_folder(tmp_path, {}, refuse)


def test_first_to_finish_wins(tmp_path):
    """Two machines that share a folder may both make the data; the slower one keeps the other's."""
    def slow(folder):
        fill(folder)
        ensure_folder(tmp_path / 'root', {}, lambda other: (other / 'data.txt').write_text('first'))

    ensure_folder(tmp_path / 'root', {}, slow)
    assert (tmp_path / 'root' / 'data.txt').read_text() == 'first'
    assert [path.name for path in tmp_path.iterdir()] == ['root']


def test_other_processes_of_a_machine_wait(tmp_path, monkeypatch):
    monkeypatch.setenv('LOCAL_RANK', '1')
    with pytest.raises(TimeoutError, match='within 0 s'):
        ensure_folder(tmp_path / 'root', {}, refuse, patience=0)
    waiting = threading.Thread(target=ensure_folder, args=(tmp_path / 'root', {}, refuse), daemon=True)
    waiting.start()
    time.sleep(.3)
    assert waiting.is_alive()
    code = (f'import pathlib\nfrom mae_plugin.datasets.making import ensure_folder\n'
            f'ensure_folder({str(tmp_path / "root")!r}, {{}}, lambda folder: None)')
    monkeypatch.setenv('LOCAL_RANK', '0')
    subprocess.run([sys.executable, '-c', code], check=True)
    waiting.join(10)
    assert not waiting.is_alive()


def tar_of(path, *members):
    with tarfile.open(path, 'w') as tar:
        for name, kind in members:
            member = tarfile.TarInfo(name)
            member.type, member.linkname, member.size = kind, '/etc/passwd', 2 if kind == tarfile.REGTYPE else 0
            tar.addfile(member, io.BytesIO(b'ok'))
    return path


def test_unpack(tmp_path):
    archive = tar_of(tmp_path / 'a.tar', ('top', tarfile.DIRTYPE), ('./top/a.txt', tarfile.REGTYPE))
    unpack(archive, tmp_path / 'out')
    assert (tmp_path / 'out' / 'top' / 'a.txt').read_bytes() == b'ok'


@pytest.mark.parametrize('name, kind', [
    ('../outside', tarfile.REGTYPE), ('/tmp/outside', tarfile.REGTYPE), ('link', tarfile.SYMTYPE),
    ('link', tarfile.LNKTYPE), ('pipe', tarfile.FIFOTYPE)])
def test_unpack_refuses(tmp_path, name, kind):
    archive = tar_of(tmp_path / 'a.tar', ('good', tarfile.REGTYPE), (name, kind))
    with pytest.raises(ValueError, match=f'a.tar.*{name}'):
        unpack(archive, tmp_path / 'out')
    assert sorted(path.name for path in tmp_path.rglob('*')) == ['a.tar', 'good', 'out']


def test_unpack_names_what_is_no_tar(tmp_path):
    (tmp_path / 'a.tar').write_bytes(b'no tar' * 999)
    with pytest.raises(ValueError, match='a.tar is not a tar'):
        unpack(tmp_path / 'a.tar', tmp_path / 'out')


@pytest.fixture
def pictures(tmp_path):
    """Seven files of four pictures: grey as L and as RGB in other formats are equal, one pixel apart is not."""
    grey = np.random.default_rng(0).integers(0, 255, (4, 6), np.uint8)
    other = grey.copy()
    other[2, 3] ^= 1
    images = {'a.png': grey, 'b.bmp': np.stack([grey] * 3, -1), 'c.png': other, 'd.png': grey.reshape(6, 4),
              'e.tif': grey, 'f.webp': np.zeros((4, 6, 3), np.uint8), 'g.png': other}
    for name, image in images.items():
        Image.fromarray(image).save(tmp_path / name, lossless=True)
    return tmp_path


def test_overlaps(pictures):
    a, b, c, d, e, f, g = sorted(pictures.iterdir())
    overlaps = find_overlaps({'one': [a, c, f], 'two': [b, d, g, e]})
    assert overlaps == [{'one': [a], 'two': [b, e]}, {'one': [c], 'two': [g]}]
    assert describe_overlaps(overlaps) == [
        'one and two: pictures in both: 2', 'two: pictures that occur more than once: 1']
    assert leave_out([a, c, f], overlaps, ['two']) == [f]
    assert leave_out([b, d, g, e], overlaps, ['one']) == [d]
    assert leave_out([a, c, f], overlaps, ['three']) == [a, c, f]
    assert keep_once([a, b, c, d, e, f, g], overlaps) == [a, c, d, f]
    assert keep_once([g, e, a, c], overlaps) == [g, e]


def test_overlaps_name_what_is_no_image(tmp_path):
    (tmp_path / 'bad.jpg').write_bytes(b'no image')
    with pytest.raises(ValueError, match='bad.jpg'):
        find_overlaps({'one': [tmp_path / 'bad.jpg']})
