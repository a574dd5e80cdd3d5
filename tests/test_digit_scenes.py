"""The built-in data: reproducible, split by digits, and labels that agree with each other and with the pixels."""

import hashlib
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mae_plugin.datasets import digit_scenes
from mae_plugin.datasets.digit_scenes import ScenePainter, ensure_digit_scenes, load_sources

pytest.importorskip('sklearn')
FEW = dict(seed=3, pretrain_train=6, pretrain_val=2, detection_train=12, detection_val=5, classification_train=20,
           classification_val=10)


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    return ensure_digit_scenes(tmp_path_factory.mktemp('data') / 'digits', **FEW)


def digests(root):
    return {path.relative_to(root).as_posix(): hashlib.md5(path.read_bytes()).hexdigest()
            for path in root.rglob('*') if path.is_file()}


def test_layout_and_counts(root):
    counts = Counter('/'.join(name.split('/')[:-1]) for name in digests(root))
    expected = {'': 1, 'detection/annotations': 2, 'pretrain/train/000': 6, 'pretrain/val/000': 2}
    for split, images in (('train', 12), ('val', 5)):
        for folder in (f'detection/{split}', f'segmentation/images/{split}', f'segmentation/annotations/{split}'):
            expected[folder] = images
        expected |= {f'classification/{split}/{label}': 2 if split == 'train' else 1 for label in range(10)}
    assert counts == expected
    assert {Image.open(path).size for path in root.rglob('*.jpg')} == {(96, 96)}


def test_same_seed_same_bytes_and_more_scenes_leave_the_first(root, tmp_path):
    first = digests(root)
    assert digests(ensure_digit_scenes(tmp_path / 'same', **FEW)) == first
    larger = {name: value + (name != 'seed') for name, value in FEW.items()}
    more = digests(ensure_digit_scenes(tmp_path / 'more', **larger))
    assert {name for name in first if more.get(name) != first[name]} == {
        'meta.json', *(f'detection/annotations/{name}.json' for name in ('train', 'val'))}
    other = digests(ensure_digit_scenes(tmp_path / 'other', **FEW | dict(seed=4)))
    assert not {other[name] for name in other if name.endswith('.jpg')} & set(first.values())


def test_train_and_val_share_neither_digits_nor_regions(tmp_path, monkeypatch):
    given = []
    paint = ScenePainter.__init__
    monkeypatch.setattr(ScenePainter, '__init__', lambda self, *args: (given.append(args), paint(self, *args))[1])
    ensure_digit_scenes(tmp_path / 'digits', **FEW)
    (digits, labels, photos, _), (val_digits, val_labels, val_photos, _) = given
    all_digits, all_labels, all_photos = load_sources()
    assert len(digits) + len(val_digits) == len(all_digits) == 1797
    assert not {digit.tobytes() for digit in digits} & {digit.tobytes() for digit in val_digits}
    np.testing.assert_array_equal(np.concatenate([labels, val_labels]), all_labels)
    assert min(np.bincount(labels)) > 100 and min(np.bincount(val_labels)) > 40
    for photo, left, right in zip(all_photos, photos, val_photos, strict=True):
        np.testing.assert_array_equal(np.concatenate([left, right], 1), photo)


def decode(rle):
    """Read COCO's uncompressed RLE, written out again from its definition."""
    values = np.concatenate([np.full(count, number % 2) for number, count in enumerate(rle['counts'])])
    return values.reshape(rle['size'][::-1]).T.astype(bool)


@pytest.mark.parametrize('split', ['train', 'val'])
def test_boxes_masks_and_maps_agree(root, split):
    coco = json.loads((root / 'detection' / 'annotations' / f'{split}.json').read_text())
    assert [(kind['id'], kind['name']) for kind in coco['categories']] == [(i + 1, str(i)) for i in range(10)]
    assert len({item['id'] for item in coco['annotations']}) == len(coco['annotations'])
    for image in coco['images']:
        items = [item for item in coco['annotations'] if item['image_id'] == image['id']]
        assert 1 <= len(items) <= 4
        expected = np.zeros((image['height'], image['width']), np.uint8)
        for item in items:
            mask = decode(item['segmentation'])
            rows, columns = np.nonzero(mask)
            assert item['bbox'] == [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
            assert item['area'] == mask.sum() > 50
            assert not expected[mask].any()  # visible pixels belong to one digit
            expected[mask] = item['category_id']
        path = root / 'segmentation' / 'annotations' / split / image['file_name'].replace('.jpg', '.png')
        with Image.open(path) as opened:
            assert opened.mode == 'L'
            np.testing.assert_array_equal(np.asarray(opened), expected)
        copies = [root / folder / split / image['file_name'] for folder in ('detection', 'segmentation/images')]
        assert copies[0].read_bytes() == copies[1].read_bytes()


def test_masks_are_what_coco_reads(root):
    mask_api = pytest.importorskip('pycocotools.mask')
    coco = json.loads((root / 'detection' / 'annotations' / 'train.json').read_text())
    for item in coco['annotations']:
        rle = mask_api.frPyObjects(item['segmentation'], 96, 96)
        np.testing.assert_array_equal(mask_api.decode(rle), decode(item['segmentation']))
        assert mask_api.toBbox(rle).tolist() == item['bbox'] and mask_api.area(rle) == item['area']


@pytest.fixture(scope='module')
def painter():
    digits, labels, _ = load_sources()
    return ScenePainter(digits, labels, [np.full((200, 200, 3), 128, np.uint8)], 128)


def test_labels_lie_on_the_painted_pixels(painter):
    """On a plain photograph, what is painted is where it is labelled, but for a soft edge of a few pixels."""
    for seed in range(20):
        image, owner, labels = painter.scene(np.random.default_rng(seed))
        assert sorted(set(owner.ravel()) - {0}) == list(range(1, len(labels) + 1))
        background = np.array(Counter(map(tuple, image.reshape(-1, 3))).most_common(1)[0][0], int)
        painted = abs(image.astype(int) - background).max(-1) > 6
        assert painted[owner > 0].mean() > .98
        grown = sum(np.roll(owner > 0, (y, x), (0, 1)) for y in range(-4, 5) for x in range(-4, 5)) > 0
        assert not (painted & ~grown).any()


@pytest.mark.parametrize('corner', [(5, 7), (-2, 100), (126, -1), (-1, -2)])
def test_a_digit_is_cut_at_the_edges(painter, corner):
    alpha = np.random.default_rng(0).random((6, 4))
    window, cut = painter._placed(alpha, corner)
    around = np.zeros((148, 148))  # the scene and 10 pixels more on each side
    around[corner[0] + 10:corner[0] + 16, corner[1] + 10:corner[1] + 14] = alpha
    scene = np.zeros((128, 128))
    scene[window] = cut
    np.testing.assert_array_equal(scene, around[10:-10, 10:-10])


def test_label_is_the_digit_that_is_painted():
    """Of label 3 there are full squares, of label 5 thin diagonals: they fill much and little of their boxes."""
    digits = np.stack([np.ones((8, 8)), np.eye(8)]).astype(np.float32)
    shapes = ScenePainter(digits, np.array([3, 5]), [np.zeros((200, 200, 3), np.uint8)], 128)

    def share(mask):
        rows, columns = np.nonzero(mask)
        return mask.sum() / ((np.ptp(rows) + 1) * (np.ptp(columns) + 1))

    found = []
    for seed in range(10):
        _, owner, labels = shapes.scene(np.random.default_rng(seed))
        found += [(label, share(owner == number)) for number, label in enumerate(labels, start=1)]
        for label in (3, 5):
            image = shapes.portrait(np.random.default_rng(seed), label).astype(int)
            found.append((label, share(abs(image - image[0, 0]).max(-1) > 40)))
    assert {label for label, _ in found} == {3, 5}
    assert min(value for label, value in found if label == 3) > .5 > max(value for label, value in found if label == 5)


def test_hidden_digits_are_not_painted(painter, monkeypatch):
    """Each digit keeps the share of its pixels that it needs: none is placed over too much of another."""
    full = []
    stretch = ScenePainter._stretched

    def stretched(self, *args):
        alpha = stretch(self, *args)
        full.append(np.count_nonzero(alpha >= .5))
        return alpha

    monkeypatch.setattr(ScenePainter, '_stretched', stretched)
    least = []
    for seed in range(30):
        full.clear()
        _, owner, labels = painter.scene(np.random.default_rng(seed))
        visible = np.bincount(owner.ravel(), minlength=len(labels) + 1)[1:]
        if len(labels) == len(full):  # no digit was refused, so the areas are those of the labels
            least.append((visible / full).min())
    assert len(least) > 5 and min(least) >= digit_scenes._MIN_VISIBLE and min(least) < 1


def test_second_call_makes_nothing_and_other_settings_are_refused(root, monkeypatch):
    monkeypatch.setattr(digit_scenes, '_make', None)
    assert ensure_digit_scenes(root, **FEW) == root
    with pytest.raises(ValueError, match='seed=3 instead of 5.*delete it, or name another folder'):
        ensure_digit_scenes(root, **FEW | dict(seed=5))


@pytest.mark.parametrize('settings, message', [
    (dict(preset='slow'), "preset='slow' is none of default, quick"),
    (dict(scenes=3), "no setting 'scenes'; there are seed"),
    (dict(size=16), 'size=16'), (dict(seed=-1), 'seed=-1'), (dict(detection_train=0), 'detection_train=0'),
    (dict(size=128.), 'size=128.0')])
def test_bad_settings(tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        ensure_digit_scenes(tmp_path / 'digits', **settings)
    assert not list(tmp_path.iterdir())


def test_without_scikit_learn(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'sklearn.datasets', None)
    with pytest.raises(ModuleNotFoundError, match='pip install scikit-learn'):
        ensure_digit_scenes(tmp_path / 'digits', **FEW)
    assert not list(tmp_path.iterdir())


def test_tool(tmp_path):
    tool = Path(__file__).parents[1] / 'tools' / 'datasets' / 'make_digit_scenes.py'
    few = [f'--{name.replace("_", "-")}={value}' for name, value in FEW.items()]
    done = subprocess.run([sys.executable, tool, tmp_path / 'digits', *few], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.endswith('digits is ready\n')
    refused = subprocess.run([sys.executable, tool, tmp_path / 'digits'], capture_output=True, text=True)
    assert refused.returncode == 1 and 'Traceback' not in refused.stderr and 'seed=3 instead of 0' in refused.stderr
