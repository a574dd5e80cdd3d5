"""Tiny data in the layout of the public sets: files where the configs look for them."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from mae_plugin.engine.robustness import ALEXNET_ERRORS, imagenet_classes


def _objects(count, size, rng):
    """Images (H, W, 3) of noise with one to three bright rectangles, and their boxes (x, y, w, h)."""
    height, width = size
    for _ in range(count):
        pixels = rng.integers(0, 100, (height, width, 3), np.uint8)
        boxes = []
        for _ in range(rng.integers(1, 4)):
            w, h = int(rng.integers(width // 4, width // 2)), int(rng.integers(height // 4, height // 2))
            x, y = int(rng.integers(0, width - w)), int(rng.integers(0, height - h))
            pixels[y:y + h, x:x + w] = rng.integers(150, 255, 3)
            boxes.append((x, y, w, h))
        yield pixels, boxes


def _save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def _annotation(number, image, category, box):
    x, y, w, h = box
    return dict(id=number, image_id=image, category_id=category, bbox=list(box), area=w * h, iscrowd=0,
                segmentation=[[x, y, x + w, y, x + w, y + h, x, y + h]])


def _detection(folder, category_ids, count, size, rng, url=None):
    """Save images in ``folder``; their entries and annotations in COCO's format. Categories take turns."""
    images, annotations = [], []
    for number, (pixels, boxes) in enumerate(_objects(count, size, rng), 1):
        name = f'{number:012d}.jpg'
        _save(folder / name, pixels)
        image = dict(id=number, width=size[1], height=size[0])
        image.update(dict(coco_url=f'{url}/{folder.name}/{name}') if url else dict(file_name=name))
        images.append(image)
        for box in boxes:
            category = category_ids[len(annotations) % len(category_ids)]
            annotations.append(_annotation(len(annotations) + 1, number, category, box))
    return images, annotations


def _write(path, **content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def make_coco(root, count=4, size=(90, 120)):
    """COCO 2017 in ``root`` (``data/coco``): all 80 ids, of which two occur, and an image that is empty."""
    from mmdet.datasets import CocoDataset
    root, rng = Path(root), np.random.default_rng(0)
    names = CocoDataset.METAINFO['classes']
    categories = [dict(id=number, name=name) for number, name in enumerate(names, 1)]
    for split in ('train2017', 'val2017'):
        images, annotations = _detection(root / split, (1, 3), count, size, rng)
        _save(root / split / 'empty.jpg', np.zeros((*size, 3), np.uint8))
        images.append(dict(id=count + 1, file_name='empty.jpg', width=size[1], height=size[0]))
        _write(root / 'annotations' / f'instances_{split}.json', images=images, annotations=annotations,
               categories=categories)


def make_lvis(root, count=4, size=(90, 120), classes=1203):
    """LVIS v1 in ``root`` (``data/lvis``): images named by URL; classes 1, 2, 3 are rare, common, frequent."""
    root, rng = Path(root), np.random.default_rng(0)
    categories = [dict(id=number, name=f'class_{number}', frequency='rcf'[(number - 1) % 3], image_count=number)
                  for number in range(1, classes + 1)]
    for split in ('train', 'val'):
        images, annotations = _detection(
            root / f'{split}2017', (1, 2, 3), count, size, rng, url='http://images.cocodataset.org')
        for image in images:
            image.update(neg_category_ids=[4], not_exhaustive_category_ids=[3])
        for annotation in annotations:
            del annotation['iscrowd']
        _write(root / 'annotations' / f'lvis_v1_{split}.json', info={}, annotations=annotations, images=images,
               licenses=[], categories=categories)


def make_custom_coco(root, classes=('cat', 'dog'), count=4, size=(90, 120)):
    """Boxes in ``root`` (``data/custom_coco``), annotated in a COCO file without masks."""
    root, rng = Path(root), np.random.default_rng(0)
    for split in ('train', 'val'):
        images, annotations = _detection(root / split, range(1, len(classes) + 1), count, size, rng)
        for annotation in annotations:
            del annotation['segmentation']
        _write(root / 'annotations' / f'{split}.json', images=images, annotations=annotations,
               categories=[dict(id=number, name=name) for number, name in enumerate(classes, 1)])


def make_custom_voc(root, classes=('cat', 'dog'), count=4, size=(90, 120)):
    """Boxes in ``root`` (``data/custom_voc``) in Pascal VOC's folders."""
    root, rng = Path(root), np.random.default_rng(0)
    for split in ('train', 'val'):
        names = [f'{split}_{number}' for number in range(count)]
        for name, (pixels, boxes) in zip(names, _objects(count, size, rng), strict=True):
            _save(root / 'JPEGImages' / f'{name}.jpg', pixels)
            objects = ''.join(
                f'<object><name>{classes[i % len(classes)]}</name><difficult>0</difficult><bndbox><xmin>{x + 1}</xmin>'
                f'<ymin>{y + 1}</ymin><xmax>{x + w + 1}</xmax><ymax>{y + h + 1}</ymax></bndbox></object>'
                for i, (x, y, w, h) in enumerate(boxes))
            xml = root / 'Annotations' / f'{name}.xml'
            xml.parent.mkdir(parents=True, exist_ok=True)
            xml.write_text(f'<annotation><size><width>{size[1]}</width><height>{size[0]}</height></size>{objects}'
                           '</annotation>')
        listing = root / 'ImageSets' / 'Main' / f'{split}.txt'
        listing.parent.mkdir(parents=True, exist_ok=True)
        listing.write_text('\n'.join(names))


def make_ade(top, images=4, seed=0):
    """ADE20K's folders below ``top/data``: noise of 96x64 pixels, the left half one class, the right half another.

    The values 0 (no class), 1 and 150 occur: the first class and the last.
    """
    random = np.random.default_rng(seed)
    root = top / 'data/ade/ADEChallengeData2016'
    for split in ('training', 'validation'):
        for kind in ('images', 'annotations'):
            (root / kind / split).mkdir(parents=True)
        for number in range(images):
            pixels = random.integers(0, 100, (64, 96, 3), np.uint8)
            pixels[:, :48, 0] += 150
            pixels[:, 48:, 2] += 150
            labels = np.zeros((64, 96), np.uint8)
            labels[:60, :48], labels[:60, 48:] = 1, 150
            Image.fromarray(pixels).save(root / 'images' / split / f'ADE_{number}.jpg', quality=95, subsampling=0)
            Image.fromarray(labels).save(root / 'annotations' / split / f'ADE_{number}.png')
    return root


SYNSETS = ('n01498041', 'n01534433')  # classes of ImageNet that are in its variants A and R, too


def make_classification(root):
    """The data sets of classification in ``root`` (``data``): ImageNet and its variants, iNaturalist, Places."""
    root = Path(root)
    pictures = [pixels for pixels, _ in _objects(4, (40, 50), np.random.default_rng(0))]
    corrupted = [f'imagenet-c/blur/{name}/{severity}' for name in ALEXNET_ERRORS for severity in range(1, 6)]
    for folder in ('imagenet/train', 'imagenet/val', 'imagenet-a', 'imagenet-r', 'imagenet-sketch', *corrupted):
        for number, synset in enumerate(SYNSETS):
            _save(root / folder / synset / f'{number}.JPEG', pictures[number % 4])
    for split in ('train', 'val'):
        for number, name in enumerate(('cat', 'dog')):
            _save(root / 'my_images' / split / name / '0.jpg', pictures[number])
        for synset in imagenet_classes():  # all 1,000, most of them empty
            (root / 'imagenet' / split / synset).mkdir(exist_ok=True)
    lists = {f'inat{year}': ('', '') for year in (2017, 2018, 2019)}
    lists |= dict(places365=('data_large_standard', 'val_large'), places205=('images', 'images'))
    for name, prefixes in lists.items():
        for part, prefix in zip(('train', 'val'), prefixes, strict=True):
            for number, pixels in enumerate(pictures):
                _save(root / name / prefix / f'{number}.jpg', pixels)
            (root / name / f'{part}.txt').write_text(''.join(f'{number}.jpg {number * 50}\n' for number in range(4)))


def make_images(root):
    """Images without labels in ``root`` (``data/images``)."""
    for number, (pixels, _) in enumerate(_objects(8, (90, 120), np.random.default_rng(0))):
        _save(Path(root) / f'{number}.jpg', pixels)


def make_tiles(root):
    """Arrays of 13 channels of 16 bits in ``root`` (``data/tiles``), with a row that has no data."""
    rng = np.random.default_rng(0)
    for number in range(8):
        values = rng.integers(1, 4000, (90, 120, 13)).astype(np.uint16)
        values[0] = 0
        Path(root).mkdir(parents=True, exist_ok=True)
        np.save(Path(root) / f'{number}.npy', values)


def make_custom_maps(root):
    """Images and maps of background and one class in ``root`` (``data/my_images``)."""
    for number, (pixels, boxes) in enumerate(_objects(4, (90, 120), np.random.default_rng(0))):
        labels = np.zeros((90, 120), np.uint8)
        for x, y, w, h in boxes:
            labels[y:y + h, x:x + w] = 1
        for split in ('train', 'val'):
            _save(Path(root) / 'images' / split / f'{number}.jpg', pixels)
            _save(Path(root) / 'annotations' / split / f'{number}.png', labels)
