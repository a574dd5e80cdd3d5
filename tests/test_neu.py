"""The steel converter on a small copy of its archives, and on the real ones where they are."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mae_plugin.datasets.neu import DET_CLASSES, ensure_neu
from mae_plugin.datasets.prepare import prepare_data

VOC = ('<annotation><object><name>{}</name><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax>'
       '</bndbox></object></annotation>')


def save(path, seed, mode='RGB'):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (20, 30), np.uint8)
    Image.fromarray(pixels).convert(mode).save(path, format='PNG')  # lossless, whatever the name


def archives(folder):
    """Five images of each class, the last for val; NEU-Seg shares a picture with each of them.

    Equal pictures: det crazing_1 = crazing_2, det crazing_3 = seg test 2, det scratches_5 (val) = seg training 4.
    """
    det, seg = folder / 'neu_det', folder / 'neu_seg'
    seeds = {'crazing_2': 1001, 'crazing_1': 1001}
    for row, name in enumerate(DET_CLASSES):
        for number in range(1, 6):
            stem = f'{name}_{number}'
            save(det / 'images' / f'{stem}.jpg', seeds.get(stem, 10 * row + number))
            xml = det / 'annotations' / f'{stem}.xml'
            xml.parent.mkdir(exist_ok=True)
            xml.write_text(VOC.format(name, 1, number, 30, 20))
    for split in ('train', 'val'):
        chosen = [f'{name}_{number}' for name in DET_CLASSES for number in (range(1, 5) if split == 'train' else [5])]
        (det / f'{split}.txt').write_text('\n'.join(chosen))
    for split, numbers in (('training', range(1, 6)), ('test', range(1, 3))):
        for number in numbers:
            seed = (7000 if split == 'test' else 8000) + number
            seed = {7002: 3, 8004: 55}.get(seed, seed)
            save(seg / 'images' / split / f'{number:06d}.jpg', seed, 'L')
            path = seg / 'annotations' / split / f'{number:06d}.png'
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((20, 30), number % 4, np.uint8)).save(path)
    return det, seg


@pytest.fixture
def raw(tmp_path):
    return archives(tmp_path / 'raw')


def lines(path):
    return path.read_text().splitlines()


def test_layout(raw, tmp_path):
    root = ensure_neu(tmp_path / 'neu', *raw)
    folders = Counter(path.parent.relative_to(root).as_posix() for path in root.rglob('*') if path.is_file())
    assert folders == {
        '.': 4, 'detection/images': 30, 'detection/annotations': 2, 'classification': 2,
        'segmentation/images/train': 5, 'segmentation/annotations/train': 5, 'segmentation/images/test': 2,
        'segmentation/annotations/test': 2}
    assert lines(root / 'classification' / 'val.txt') == [f'{name}_5.jpg {row}' for row, name in enumerate(DET_CLASSES)]
    assert len(lines(root / 'classification' / 'train.txt')) == 24


def test_boxes(raw, tmp_path):
    root = ensure_neu(tmp_path / 'neu', *raw)
    coco = json.loads((root / 'detection' / 'annotations' / 'val.json').read_text())
    assert [kind['name'] for kind in coco['categories']] == list(DET_CLASSES)
    assert coco['images'][5] == dict(id=6, file_name='scratches_5.jpg', width=30, height=20)
    # VOC: pixels 1 to 30 and 5 to 20, both in the box; COCO: 30 wide, 16 high, from pixel (0, 4)
    assert coco['annotations'][5] == dict(
        id=6, image_id=6, category_id=6, bbox=[0, 4, 30, 16], area=480, iscrowd=0)


def test_pretraining_leaves_out_every_held_out_picture_and_keeps_each_once(raw, tmp_path, capsys):
    root = ensure_neu(tmp_path / 'neu', *raw)
    train = lines(root / 'pretrain_train.txt')
    expected = {f'detection/images/{name}_{number}.jpg' for name in DET_CLASSES for number in range(1, 5)}
    expected |= {f'segmentation/images/train/{number:06d}.jpg' for number in (1, 2, 3, 5)}
    expected -= {'detection/images/crazing_2.jpg', 'detection/images/crazing_3.jpg'}
    assert sorted(train) == sorted(expected)
    assert len(lines(root / 'pretrain_val.txt')) == 6 + 2
    for name in train + lines(root / 'pretrain_val.txt'):
        assert (root / name).is_file()
    report = lines(root / 'report.txt')
    assert 'detection train and segmentation test: pictures in both: 1' in report
    assert 'detection val and segmentation train: pictures in both: 1' in report
    assert 'detection train: pictures that occur more than once: 1' in report
    assert any('26 distinct pictures, in the 27 of 29 training images' in line for line in report)
    assert capsys.readouterr().out.splitlines() == report


def test_archives_folders_and_missing_lists_give_the_same(raw, tmp_path):
    for folder in raw:
        with tarfile.open(folder.with_suffix('.tar'), 'w') as tar:
            tar.add(folder, folder.name)
    fresh = shutil.copytree(raw[0], tmp_path / 'unpacked' / 'NEU-DET')
    (fresh / 'images').rename(fresh / 'IMAGES')
    (fresh / 'annotations').rename(fresh / 'ANNOTATIONS')
    for split in ('train', 'val'):
        (fresh / f'{split}.txt').unlink()
    roots = [ensure_neu(tmp_path / 'tar', *(folder.with_suffix('.tar') for folder in raw)),
             ensure_neu(tmp_path / 'folder', *raw), ensure_neu(tmp_path / 'upper', tmp_path / 'unpacked', raw[1])]
    first, *others = ({path.relative_to(root): path.read_bytes() for path in root.rglob('*') if path.is_file()}
                      for root in roots)
    assert others == [first, first]


XML, MAP = 'annotations/patches_2.xml', 'annotations/test/000001.png'


@pytest.mark.parametrize('break_it, message', [
    (lambda det, seg: (det / XML).unlink(), 'patches_2.xml is no Pascal VOC annotation'),
    (lambda det, seg: (det / XML).write_text('<a'), 'patches_2.xml is no Pascal VOC annotation'),
    (lambda det, seg: (det / XML).write_text(VOC.format('patches', '', 1, 2, 2)), 'patches_2.xml is no Pascal VOC'),
    (lambda det, seg: (det / XML).write_text(VOC.format('rust', 1, 1, 2, 2)), "patches_2.xml: no class 'rust'"),
    (lambda det, seg: (det / XML).write_text(VOC.format('patches', 0, 1, 2, 2)), r'patches_2.xml: box \(0, 1, 2, 2\)'),
    (lambda det, seg: (det / XML).write_text(VOC.format('patches', 1, 1, 31, 2)), 'leaves the image of 30x20'),
    (lambda det, seg: (det / XML).write_text(VOC.format('patches', 5, 1, 4, 2)), 'is empty'),
    (lambda det, seg: (det / 'images/patches_2.jpg').rename(det / 'images/rust_2.jpg'), 'rust_2.jpg: the name'),
    (lambda det, seg: (det / 'images/patches_2.jpg').unlink(), "not so 'patches_2'"),
    (lambda det, seg: (det / 'train.txt').write_text('patches_2'), 'name each image once'),
    (lambda det, seg: shutil.rmtree(det / 'annotations'), 'holds no folders'),
    (lambda det, seg: shutil.rmtree(seg / 'images' / 'test'), "holds no folder 'test'"),
    (lambda det, seg: (seg / MAP).unlink(), '000001.png is missing'),
    (lambda det, seg: Image.new('L', (30, 20), 4).save(seg / MAP), 'values 0 to 3 .*up to 4'),
    (lambda det, seg: Image.new('L', (20, 30)).save(seg / MAP), r'size \(30, 20\)'),
    (lambda det, seg: (seg / 'images/test/000001.jpg').write_bytes(b'no image'), '000001.jpg'),
])
def test_what_is_not_as_published_is_named(raw, tmp_path, break_it, message):
    break_it(*raw)
    with pytest.raises((ValueError, OSError), match=message):
        ensure_neu(tmp_path / 'neu', *raw)
    assert not (tmp_path / 'neu').exists()


def test_prepare_data_names_the_missing_archive(tmp_path, raw):
    spec = dict(type='neu', root=str(tmp_path / 'neu'), det=str(raw[0]), seg='data/nowhere.tar')
    with pytest.raises(FileNotFoundError, match='data/nowhere.tar does not exist: put the archive of NEU-Seg there'):
        prepare_data(dict(prepare_data=spec))
    prepare_data(dict(prepare_data=spec | dict(seg=str(raw[1]))))
    prepare_data(dict(prepare_data=spec))  # made by now: the archives are not needed again


def test_tool(raw, tmp_path):
    tool = Path(__file__).parents[1] / 'tools' / 'datasets' / 'neu.py'
    done = subprocess.run([sys.executable, tool, *raw, '--out', tmp_path / 'neu'], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.splitlines()[0] == 'detection train: 24 images, 24 boxes'
    refused = subprocess.run([sys.executable, tool, raw[0], 'nowhere', '--out', tmp_path / 'other'],
                             capture_output=True, text=True)
    assert refused.returncode == 1 and refused.stderr.startswith('error: nowhere does not exist')
    assert len(refused.stderr.splitlines()) == 1


ARCHIVES = Path(os.environ.get('NEU_ARCHIVES', 'data'))


@pytest.mark.skipif(not (ARCHIVES / 'neu_det.tar').exists(), reason='NEU_ARCHIVES names no folder with the archives')
def test_real_archives(tmp_path):
    root = ensure_neu(tmp_path / 'neu', ARCHIVES / 'neu_det.tar', ARCHIVES / 'neu_seg.tar')
    assert len(lines(root / 'pretrain_train.txt')) == 4227
    assert 'in the 4410 of 5070 training images' in (root / 'report.txt').read_text()
    coco = {split: json.loads((root / f'detection/annotations/{split}.json').read_text()) for split in ('train', 'val')}
    assert [len(coco[split]['images']) for split in coco] == [1440, 360]
    assert [len(coco[split]['annotations']) for split in coco] == [3335, 854]
    assert [line.rpartition(' ')[2] for line in lines(root / 'classification' / 'val.txt')] == [
        label for label in '012345' for _ in range(60)]
    assert len(list((root / 'segmentation' / 'annotations').rglob('*.png'))) == 3630 + 840
