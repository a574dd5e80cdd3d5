"""Defects on hot-rolled steel, NEU-DET and NEU-Seg, as the three tasks and pretraining read them.

From the published archives to::

    detection/images/*.jpg                    NEU-DET, 1,800 of 200x200 pixels
    detection/annotations/{train,val}.json    COCO boxes of 6 classes
    classification/{train,val}.txt            "crazing_1.jpg 0": images in detection/images
    segmentation/images/{train,test}/*.jpg    NEU-Seg, 3,630 + 840 of 200x200 pixels
    segmentation/annotations/{train,test}/*.png   0 background, 1 inclusion, 2 patches, 3 scratches
    pretrain_{train,val}.txt                  paths relative to this folder
    report.txt  meta.json

NEU-Seg is cut from NEU-DET: many test images of one are training images of the other. ``pretrain_train.txt`` names
pictures that equal no val or test image of either set, each once; ``pretrain_val.txt`` the val and test images, each
once.

Song & Yan, Appl. Surf. Sci. 285 (2013); He, Song, Meng & Yan, IEEE TIM 69 (2020). Research use.
"""

import json
import shutil
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from mae_plugin.datasets.making import describe_overlaps, ensure_folder, find_overlaps, keep_once, leave_out, unpack

DET_CLASSES = ('crazing', 'inclusion', 'patches', 'pitted_surface', 'rolled-in_scale', 'scratches')
SEG_CLASSES = ('background', 'inclusion', 'patches', 'scratches')

_CORNERS = ('xmin', 'ymin', 'xmax', 'ymax')
_VERSION = 1  # of what is written
_VAL_SHARE = .2  # of each class, where the archive brings no lists: the last 60 of 300, as in the published ones


def ensure_neu(root: str | Path = 'data/neu', det: str | Path = 'data/neu_det.tar',
               seg: str | Path = 'data/neu_seg.tar') -> Path:
    """Return the folder of the steel data, converted first when it is not there.

    Args:
        root: The folder.
        det: NEU-DET as published: a tar, or the folder that holds its ``images`` and ``annotations``.
        seg: NEU-Seg, likewise.

    Raises:
        FileNotFoundError: Neither ``root`` nor what it is made from exists.
        ValueError: Something in the archives is not as published; the message names the file.
    """
    def make(folder: Path) -> None:
        _convert(folder, Path(det), Path(seg))

    return ensure_folder(root, {'maker': 'neu', 'version': _VERSION}, make)


def _convert(root: Path, det: Path, seg: Path) -> None:
    for source, name in ((det, 'NEU-DET'), (seg, 'NEU-Seg')):
        if not source.exists():
            raise FileNotFoundError(
                f'{source} does not exist: put the archive of {name} there, or name where it is, as a tar or a folder: '
                'python tools/datasets/neu.py DET SEG')
    raw = root / 'raw'
    report, sets = _convert_det(_unpacked(det, raw / 'det'), root)
    seg_report, seg_sets = _convert_seg(_unpacked(seg, raw / 'seg'), root)
    sets |= seg_sets
    shutil.rmtree(raw, ignore_errors=True)

    overlaps = find_overlaps(sets)
    held_out = [name for name in sets if not name.endswith('train')]
    train = [path for name in sets if name not in held_out for path in sets[name]]
    clean = leave_out(train, overlaps, held_out)
    lists = {'train': keep_once(clean, overlaps),
             'val': keep_once([path for name in held_out for path in sets[name]], overlaps)}
    for name, files in lists.items():
        _write_lines(root / f'pretrain_{name}.txt', (path.relative_to(root).as_posix() for path in files))
    report += [
        *seg_report, *describe_overlaps(overlaps),
        f'pretrain train: {len(lists["train"])} distinct pictures, in the {len(clean)} of {len(train)} training images '
        'that equal no val or test image of either set',
        f'pretrain val: {len(lists["val"])} distinct pictures, in {sum(len(sets[name]) for name in held_out)} images']
    _write_lines(root / 'report.txt', report)
    print(*report, sep='\n', flush=True)


def _convert_det(source: Path, root: Path) -> tuple[list[str], dict[str, list[Path]]]:
    """Write detection and classification; return lines for the report, and the image files of each set."""
    images, annotations = _part(source, 'images'), _part(source, 'annotations')
    by_class: dict[str, list[str]] = {name: [] for name in DET_CLASSES}
    for path in images.glob('*.jpg'):
        name, _, number = path.stem.rpartition('_')
        if name not in by_class or not number.isdigit():
            raise ValueError(f'{path}: the name is not a class and a number; classes are {", ".join(DET_CLASSES)}')
        by_class[name].append(path.stem)
    for stems in by_class.values():
        stems.sort(key=lambda stem: int(stem.rpartition('_')[2]))

    target = root / 'detection' / 'images'
    target.mkdir(parents=True)
    report, sets = [], {}
    for split, stems in _det_splits(source, by_class).items():
        coco = dict(images=[], annotations=[],
                    categories=[dict(id=i, name=name) for i, name in enumerate(DET_CLASSES, start=1)])
        for stem in stems:
            image = shutil.copyfile(images / f'{stem}.jpg', target / f'{stem}.jpg')
            _add_voc(coco, image, annotations / f'{stem}.xml')
        path = root / 'detection' / 'annotations' / f'{split}.json'
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(coco))
        _write_lines(root / 'classification' / f'{split}.txt',
                     (f'{stem}.jpg {DET_CLASSES.index(stem.rpartition("_")[0])}' for stem in stems))
        sets[f'detection {split}'] = [target / f'{stem}.jpg' for stem in stems]
        report.append(f'detection {split}: {len(stems)} images, {len(coco["annotations"])} boxes')
    return report, sets


def _det_splits(source: Path, by_class: dict[str, list[str]]) -> dict[str, list[str]]:
    """Take the published lists, or without them the last fifth of each class for val."""
    lists = {split: source / f'{split}.txt' for split in ('train', 'val')}
    if not any(path.exists() for path in lists.values()):
        edges = {name: round(len(stems) * (1 - _VAL_SHARE)) for name, stems in by_class.items()}
        return {'train': [stem for name, stems in by_class.items() for stem in stems[:edges[name]]],
                'val': [stem for name, stems in by_class.items() for stem in stems[edges[name]:]]}
    splits = {split: path.read_text().split() for split, path in lists.items()}
    listed, found = sorted(splits['train'] + splits['val']), sorted(sum(by_class.values(), []))
    if listed != found:
        odd = min((Counter(listed) - Counter(found)) + (Counter(found) - Counter(listed)))
        raise ValueError(f'{lists["train"]} and val.txt have to name each image once, but not so {odd!r}')
    return splits


def _add_voc(coco: dict, image: Path, xml: Path) -> None:
    """Add an image and its boxes: VOC's corners are pixels inside the box, counted from 1, COCO's box is x, y, w, h."""
    with Image.open(image) as opened:
        width, height = opened.size
    number = len(coco['images']) + 1
    coco['images'].append(dict(id=number, file_name=image.name, width=width, height=height))
    try:
        objects = ElementTree.parse(xml).getroot().findall('object')
        boxes = [(item.findtext('name'), *(int(item.findtext(f'bndbox/{corner}')) for corner in _CORNERS))
                 for item in objects]
    except (OSError, ElementTree.ParseError, TypeError, ValueError) as error:
        raise ValueError(f'{xml} is no Pascal VOC annotation: {error}') from None
    for name, left, top, right, bottom in boxes:
        if name not in DET_CLASSES:
            raise ValueError(f'{xml}: no class {name!r}; there are {", ".join(DET_CLASSES)}')
        if not (1 <= left <= right <= width and 1 <= top <= bottom <= height):
            raise ValueError(f'{xml}: box {left, top, right, bottom} is empty or leaves the image of {width}x{height}')
        box = [left - 1, top - 1, right - left + 1, bottom - top + 1]
        coco['annotations'].append(dict(
            id=len(coco['annotations']) + 1, image_id=number, category_id=DET_CLASSES.index(name) + 1, bbox=box,
            area=box[2] * box[3], iscrowd=0))


def _convert_seg(source: Path, root: Path) -> tuple[list[str], dict[str, list[Path]]]:
    """Write segmentation; return lines for the report, and the image files of each set."""
    report, sets = [], {}
    for published, split in (('training', 'train'), ('test', 'test')):
        images, maps = (_part(_part(source, name), published) for name in ('images', 'annotations'))
        targets = {name: root / 'segmentation' / name / split for name in ('images', 'annotations')}
        for folder in targets.values():
            folder.mkdir(parents=True)
        sets[f'segmentation {split}'] = []
        for path in sorted(images.glob('*.jpg')):
            image = shutil.copyfile(path, targets['images'] / path.name)
            _check_map(maps / f'{path.stem}.png', image)
            shutil.copyfile(maps / f'{path.stem}.png', targets['annotations'] / f'{path.stem}.png')
            sets[f'segmentation {split}'].append(image)
        report.append(f'segmentation {split}: {len(sets[f"segmentation {split}"])} images')
    return report, sets


def _check_map(path: Path, image: Path) -> None:
    if not path.is_file():
        raise ValueError(f'{path} is missing: every image has a map')
    with Image.open(path) as opened, Image.open(image) as picture:
        values = np.asarray(opened)
        if values.dtype != np.uint8 or opened.size != picture.size or values.max() >= len(SEG_CLASSES):
            raise ValueError(
                f'{path} has to be a map of one byte a pixel, of values 0 to {len(SEG_CLASSES) - 1} and the size '
                f'{picture.size} of its image; it is {opened.mode} {opened.size} up to {values.max()}')


def _unpacked(source: Path, folder: Path) -> Path:
    """The folder that holds ``images`` and ``annotations`` in an archive, or in a folder or the one below."""
    if not source.is_dir():
        unpack(source, folder)
    top = source if source.is_dir() else folder
    for candidate in (top, *sorted(path for path in top.iterdir() if path.is_dir())):
        if {'images', 'annotations'} <= {path.name.lower() for path in candidate.iterdir()}:
            return candidate
    raise ValueError(f'{source} holds no folders "images" and "annotations"')


def _part(folder: Path, name: str) -> Path:
    """The sub-folder of this name, however it is capitalised."""
    for path in folder.iterdir():
        if path.name.lower() == name and path.is_dir():
            return path
    raise ValueError(f'{folder} holds no folder {name!r}')


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(''.join(f'{line}\n' for line in lines))
