"""Boxes and their classes, in files of COCO and LVIS and of Pascal VOC."""

import gc
import json
import os
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..utils.cli import nearest
from .label_checks import LabelledImages, lines_of

# COCO itself has a few boxes without area, which mmdet leaves out: up to this share of odd ones is only said. A pixel
# beyond the border is rounding.
_RARE = 0.01
_NO_AREA = 'has no area'
_IMAGES = 1000  # looked for on disk
_LARGE = 200e6  # bytes of a file that takes seconds to read


class _Boxes:
    """Counts the odd boxes of a file, and says so if there are many."""

    def __init__(self, file: str, remedy: str) -> None:
        self.file, self.remedy = file, remedy
        self.count, self.odd, self.first = 0, 0, ''

    def add(self, item: Mapping | str, problem: str) -> None:
        """Count the box of ``item`` (an annotation, or words for it) and its problem, if any."""
        self.count += 1
        if problem:
            self.odd += 1
            if not self.first:
                if isinstance(item, Mapping):
                    item = (f'annotation {item.get("id")} of image {item["image_id"]}, bbox {item["bbox"]}, '
                            f'area {item["area"]},')
                self.first = f'{item} {problem}'

    def judge(self) -> None:
        """Raise a ValueError if there are no boxes or many odd ones; say it if there are few."""
        if not self.count:
            raise ValueError(f'{self.file} has no box of the classes of the config: nothing could be learned from it; '
                             'set metainfo.classes of the data set')
        message = f'{self.file}: {self.first} ({self.odd} of {self.count} boxes are like this)'
        if self.odd > _RARE * self.count:
            raise ValueError(f'{message}: {self.remedy}')
        if self.odd:
            print(message)


def _box_problem(x1: float, y1: float, x2: float, y2: float, width: float, height: float) -> str:
    """What is odd about a box, in pixels, of an image of this size; nothing if empty."""
    if not (x2 > x1 and y2 > y1):  # so that NaN is odd, too
        return _NO_AREA
    if x1 < -1 or y1 < -1 or x2 > width + 1 or y2 > height + 1:
        return f'leaves its image of {width:g}x{height:g} pixels'
    return ''


def _mask_problem(segmentation: Sequence | Mapping, width: float, height: float) -> str:
    """What is odd about a mask; nothing if empty. Run lengths are not looked into."""
    if isinstance(segmentation, Mapping):
        return ''
    try:
        polygons = [polygon for polygon in segmentation if len(polygon) > 5 and len(polygon) % 2 == 0]
        if not polygons:
            return 'has a segmentation without a polygon of three points, which mmdet ignores'
        # The first point is nearly always in the image and spares looking at the others.
        if any(0 <= polygon[0] <= width and 0 <= polygon[1] <= height or
               min(polygon[::2]) < width and max(polygon[::2]) > 0 and
               min(polygon[1::2]) < height and max(polygon[1::2]) > 0 for polygon in polygons):
            return ''
    except TypeError:
        return 'has a segmentation that is no list of polygons [x1, y1, x2, y2, ...]'
    return f'has a segmentation outside its image of {width:g}x{height:g} pixels'


def check_coco(dataset: LabelledImages, model: Mapping) -> None:
    """Check an annotation file in COCO's format.

    Raises:
        FileNotFoundError: The file or the folder of the images is missing.
        ValueError: Something does not fit; the message names the annotation or image, and what to change.
    """
    file = dataset.file(dataset.cfg.get('ann_file') or '', 'ann_file')
    prefix = (dataset.cfg.get('data_prefix') or {}).get('img') or ''
    folder = dataset.folder(prefix, 'data_prefix.img')
    content = _read(file, may_lack=('annotations', ) if dataset.cfg.get('test_mode') else ())
    lacking = [category for category in content['categories'] if not {'id', 'name'} <= {*category}]
    if lacking:
        raise ValueError(f'{file}: the category {lacking[0]} needs an id and a name: add them')
    categories = {category['id']: category['name'] for category in content['categories']}
    wanted = _wanted_classes(dataset, file, list(categories.values()), model)
    images = _sizes(file, content['images'])
    with_mask = any(transform.get('with_mask') for transform in dataset.cfg.get('pipeline') or ())
    boxes = _Boxes(file, 'a bbox is [x, y, width, height], a segmentation [[x1, y1, x2, y2, x3, y3, ...], ...], in '
                         'pixels of the image, from its upper left corner')
    for annotation in content['annotations']:
        item = f'annotation {annotation.get("id")}'
        size = images.get(annotation.get('image_id'))
        if size is None:
            raise ValueError(f'{file}: {item} belongs to image {annotation.get("image_id")!r}, which "images" does not '
                             'have: remove it, or add the image')
        class_ = categories.get(annotation.get('category_id'))
        if class_ is None:
            raise ValueError(f'{file}: {item} is of category {annotation.get("category_id")!r}, which "categories" '
                             'does not have: mend its category_id, or add the category')
        if class_ not in wanted:
            if dataset.own_classes is None:
                raise ValueError(f'{file}: {item} is of class {class_!r}, which is none of the {len(wanted)} classes '
                                 f'of {dataset.name}: name yours in {dataset.setting}.metainfo=dict(classes=(...))')
            continue
        if annotation.get('ignore'):  # mmdet leaves it out
            continue
        bbox = annotation.get('bbox') or ()
        area = annotation.get('area')
        if len(bbox) != 4 or not {type(area), *map(type, bbox)} <= {int, float}:
            lacking = 'bbox of four numbers' if type(area) in (int, float) else 'area that is a number'
            raise ValueError(f'{file}: {item} has no {lacking}: add it, as COCO has it')
        x, y, width, height = bbox
        problem = _box_problem(x, y, x + width, y + height, *size) if area > 0 else _NO_AREA
        segmentation = annotation.get('segmentation')
        if with_mask and not segmentation and problem != _NO_AREA:  # mmdet leaves out those without area
            raise ValueError(f'{file}: {item} has no segmentation, but {dataset.setting}.pipeline loads masks '
                             '(with_mask=True): add it, or train a FasterRCNN without a mask head on the boxes')
        boxes.add(annotation, problem or (_mask_problem(segmentation, *size) if with_mask else ''))
    if content['annotations'] or not dataset.cfg.get('test_mode'):  # else images to predict on
        boxes.judge()
    for image in content['images'][::-(-len(images) // _IMAGES)]:
        name = image.get('file_name')
        if name and not os.path.isfile(os.path.join(folder, name)):
            raise FileNotFoundError(f'{file}: image {image["id"]}, {name}, is not in {folder}: add it, or set '
                                    f'{dataset.setting}.data_prefix.img to the folder that file_name starts from')


def _sizes(file: str, images: Sequence[Mapping]) -> dict[Any, tuple[float, float]]:
    """Width and height of the images, by their ids."""
    sizes = {}
    for image in images:
        size = image.get('width'), image.get('height')
        if image.get('id') is None or None in size:
            lacking = next(key for key in ('id', 'width', 'height') if image.get(key) is None)
            raise ValueError(f'{file}: image {image.get("id", image.get("file_name"))} has no {lacking}, which every '
                             'entry of "images" needs: add it')
        if not {*map(type, size)} <= {int, float}:
            raise ValueError(f'{file}: image {image["id"]} has the width {size[0]!r} and the height {size[1]!r}: write '
                             'them as numbers, without quotation marks')
        if image['id'] in sizes:
            raise ValueError(f'{file}: two images have the id {image["id"]!r}, so that one would be lost: give each an '
                             'id of its own')
        sizes[image['id']] = size
    if not sizes:
        raise ValueError(f'{file} has no images: "images" must have an entry for each')
    return sizes


def _read(file: str, may_lack: Sequence[str] = ()) -> dict:
    """The content; the lists of ``may_lack`` are empty if the file does not have them."""
    if os.path.getsize(file) > _LARGE:
        print(f'reading {file} to check it ({os.path.getsize(file) / 1e9:.1f} GB)', flush=True)
    collecting = gc.isenabled()
    gc.disable()  # it would go through the millions of new objects again and again, which takes twice the time
    try:
        with open(file) as stream:
            content = json.load(stream)
    except ValueError as error:
        raise ValueError(f'{file} is no JSON: {error}; its format must be that of COCO') from None
    finally:
        if collecting:
            gc.enable()
    if isinstance(content, dict):
        content = {key: [] for key in may_lack} | content
    lacking = [key for key in ('images', 'annotations', 'categories')
               if not isinstance(content, dict) or not isinstance(content.get(key), list)]
    if lacking:
        raise ValueError(f'{file} has no list "{lacking[0]}": its format must be that of COCO')
    return content


def _wanted_classes(dataset: LabelledImages, file: str, found: Sequence[str], model: Mapping) -> set[str]:
    """The classes that the data set takes from a COCO file, after they were compared with it and with the heads."""
    own = dataset.own_classes
    classes = own or dataset.library_classes
    if classes is None:  # the library is not there to ask
        return set(found)
    _compare_with_heads(dataset, classes, model)
    if dataset.name.startswith('LVIS'):  # takes all categories of the file, whatever the names
        if len(found) > len(classes):
            raise ValueError(f'{file} has {len(found)} categories, {dataset.name} only {len(classes)} classes: name '
                             f'them in {dataset.setting}.metainfo=dict(classes=(...))')
        return set(found)
    _compare_names(dataset, file, classes, found)
    order = [name for name in found if name in classes]
    if own is not None and order != own:
        place = next(i for i, pair in enumerate(zip(order, own, strict=True)) if len({*pair}) > 1)
        raise ValueError(f'{dataset.setting}.metainfo.classes has {own[place]!r} where the categories of {file} have '
                         f'{order[place]!r}: mmdet numbers classes in the order of the file, so name them in that one')
    return set(classes)


def _compare_names(dataset: LabelledImages, file: str, classes: Sequence[str], found: Sequence[str]) -> None:
    """Refuse names used twice, names that match nothing, and of those in the config any that is not in the file."""
    for names, place in ((classes, f'{dataset.setting}.metainfo.classes'),
                         ([name for name in found if name in classes], file)):
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            raise ValueError(f'{place} has the class {twice[0]!r} more than once: give each class a name of its own')
    shown = ', '.join(map(str, found[:5])) + (', ...' if len(found) > 5 else '')
    if not set(classes) & set(found):
        raise ValueError(f'none of the {len(classes)} classes ({", ".join(classes[:3])}, ...) is in {file}, which has '
                         f'{shown}: name those in {dataset.setting}.metainfo=dict(classes=(...))')
    lost = [name for name in classes if name not in found]
    # A class of VOC is known by its objects only, and few images may have none.
    if lost and dataset.own_classes is not None and (dataset.cfg.get('ann_file', '').endswith('.json') or not
                                                     dataset.cfg.get('test_mode')):
        near = nearest(lost[0], [str(name) for name in found])
        raise ValueError(f'{dataset.setting}.metainfo.classes names {lost[0]!r}, which {file} does not have: '
                         + (f'did you mean {near[0]!r}?' if near else f'it has {shown}'))


def _compare_with_heads(dataset: LabelledImages, classes: Sequence[str], model: Mapping) -> None:
    roi_head = model.get('roi_head') or {}
    parts = [('bbox_head', model.get('bbox_head')), ('roi_head.bbox_head', roi_head.get('bbox_head')),
             ('roi_head.mask_head', roi_head.get('mask_head'))]
    for name, part in parts:
        for head in part if isinstance(part, list | tuple) else [part]:
            count = head.get('num_classes') if isinstance(head, Mapping) else None
            if isinstance(count, int) and count != len(classes):
                where = (f'{dataset.setting}.metainfo.classes names' if dataset.own_classes is not None
                         else f'{dataset.name} ({dataset.setting}) has')
                raise ValueError(f'{where} {len(classes)} classes, but model.{name}.num_classes is {count}: make them '
                                 'equal')


def check_voc(dataset: LabelledImages, model: Mapping) -> None:
    """Check the XML files of a data set in Pascal VOC's format.

    Raises:
        FileNotFoundError: The list, the folder or an XML file is missing.
        ValueError: Something does not fit; the message names the file, and what to change.
    """
    file = dataset.file(dataset.cfg.get('ann_file') or '', 'ann_file')
    prefix = (dataset.cfg.get('data_prefix') or {}).get('sub_data_root') or ''
    root = dataset.folder(prefix, 'data_prefix.sub_data_root')
    folder = os.path.join(root, dataset.option('ann_subdir', 'Annotations'))
    own = dataset.own_classes
    classes = own or dataset.library_classes
    if classes is not None:
        _compare_with_heads(dataset, classes, model)
    names = [line.strip() for line in lines_of(file) if line.strip()]
    if not names:
        raise ValueError(f'{file} is empty: it must have the name of an image, without ending, in each line')
    found: dict[str, str] = {}
    boxes = _Boxes(file, 'xmin, ymin, xmax, ymax are pixels of the image')
    for name in names:
        xml = os.path.join(folder, f'{name}.xml')
        if not os.path.isfile(xml):
            raise FileNotFoundError(f'{file} names {name!r}, but there is no {xml}: mend the list, or set '
                                    f'{dataset.setting}.ann_subdir')
        try:
            _add_xml(xml, boxes, found, classes)
        except (ElementTree.ParseError, AttributeError, TypeError, ValueError) as error:
            raise ValueError(f'{xml} is not as Pascal VOC has it: {error}') from None
    strange = [name for name in found if classes is not None and name not in classes]
    if strange and len(strange) < len(found) and own is None:
        raise ValueError(f'{found[strange[0]]} has the class {strange[0]!r}, which is none of the {len(classes)} '
                         f'classes of {dataset.name}: name yours in {dataset.setting}.metainfo=dict(classes=(...))')
    if found and classes is not None:
        _compare_names(dataset, f'the files that {file} lists', classes, sorted(found))
    if found or not dataset.cfg.get('test_mode'):  # else images to predict on
        boxes.judge()


def _add_xml(xml: str, boxes: _Boxes, found: dict[str, str], classes: Iterable[str] | None) -> None:
    root = ElementTree.parse(xml).getroot()
    size = root.find('size')
    # Some tools write 0 for a size that they do not know.
    width, height = (float(size.find(key).text) or float('inf') if size is not None else float('inf')
                     for key in ('width', 'height'))
    for item in root.findall('object'):
        name = item.find('name').text
        found.setdefault(name, xml)
        if classes is None or name in classes:
            x1, y1, x2, y2 = (float(item.find('bndbox').find(key).text) for key in ('xmin', 'ymin', 'xmax', 'ymax'))
            boxes.add(f'a {name} in {xml}, {[x1, y1, x2, y2]},', _box_problem(x1 - 1, y1 - 1, x2, y2, width, height))
