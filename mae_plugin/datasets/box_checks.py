"""Boxes and their classes, in files of COCO and LVIS and of Pascal VOC."""

import gc
import json
import os
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Mapping, Sequence

from ..utils.cli import nearest
from .label_checks import LabelledImages, lines_of

# COCO itself has a few boxes without area, which mmdet leaves out: up to this share of odd ones is only said. A pixel
# beyond the border is rounding.
_RARE = 0.01
_LARGE = 200e6  # bytes of a file that takes seconds to read


class _Boxes:
    """Counts the odd boxes of a file, and says so if there are many."""

    def __init__(self, file: str, remedy: str) -> None:
        self.file, self.remedy = file, remedy
        self.count, self.odd, self.first = 0, 0, ''

    def add(self, item: Mapping | str, x1: float, y1: float, x2: float, y2: float, width: float, height: float) -> None:
        """Count the box of ``item`` (an annotation, or words for it), in pixels, of an image of this size."""
        self.count += 1
        if x2 <= x1 or y2 <= y1:
            problem = 'has no area'
        elif x1 < -1 or y1 < -1 or x2 > width + 1 or y2 > height + 1:
            problem = f'leaves its image of {width:g}x{height:g} pixels'
        else:
            return
        self.odd += 1
        if not self.first:
            if isinstance(item, Mapping):
                item = f'annotation {item.get("id")} of image {item["image_id"]}, bbox {item["bbox"]},'
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


def check_coco(dataset: LabelledImages, model: Mapping) -> None:
    """Check an annotation file in COCO's format.

    Raises:
        FileNotFoundError: The file or the folder of the images is missing.
        ValueError: Something does not fit; the message names the annotation or image, and what to change.
    """
    file = dataset.file(dataset.cfg.get('ann_file') or '', 'ann_file')
    prefix = (dataset.cfg.get('data_prefix') or {}).get('img') or ''
    folder = dataset.folder(prefix, 'data_prefix.img')
    content = _read(file)
    lacking = [category for category in content['categories'] if not {'id', 'name'} <= {*category}]
    if lacking:
        raise ValueError(f'{file}: the category {lacking[0]} needs an id and a name: add them')
    categories = {category['id']: category['name'] for category in content['categories']}
    wanted = _wanted_classes(dataset, file, list(categories.values()), model)
    images = {}
    for image in content['images']:
        lacking = [key for key in ('id', 'width', 'height') if image.get(key) is None]
        if lacking:
            raise ValueError(f'{file}: image {image.get("id", image.get("file_name"))} has no {lacking[0]}, which '
                             'every entry of "images" needs: add it')
        images[image['id']] = image['width'], image['height']
    if not images:
        raise ValueError(f'{file} has no images: "images" must have an entry for each')
    with_mask = any(transform.get('with_mask') for transform in dataset.cfg.get('pipeline') or ())
    boxes = _Boxes(file, 'a bbox is [x, y, width, height] in pixels of the image, from its upper left corner')
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
        bbox = annotation.get('bbox') or ()
        if len(bbox) != 4 or 'area' not in annotation or not {*map(type, bbox)} <= {int, float}:
            lacking = 'area' if 'area' not in annotation else 'bbox of four numbers'
            raise ValueError(f'{file}: {item} has no {lacking}: add it, as COCO has it')
        if with_mask and not annotation.get('segmentation'):
            raise ValueError(f'{file}: {item} has no segmentation, but {dataset.setting}.pipeline loads masks '
                             '(with_mask=True): add it, or train a FasterRCNN without a mask head on the boxes')
        x, y, width, height = bbox
        boxes.add(annotation, x, y, x + width, y + height, *size)
    if dataset.cfg.get('test_mode') and not content['annotations']:
        return  # images to predict on
    boxes.judge()
    first = content['images'][0].get('file_name')
    if first and not os.path.isfile(os.path.join(folder, first)):
        raise FileNotFoundError(f'{file}: image {content["images"][0]["id"]}, {first}, is not in {folder}: set '
                                f'{dataset.setting}.data_prefix.img to the folder that file_name starts from')


def _read(file: str) -> dict:
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
    """Refuse names that match nothing, and of those in the config any that is not in the file."""
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
    boxes.judge()


def _add_xml(xml: str, boxes: _Boxes, found: dict[str, str], classes: Iterable[str] | None) -> None:
    root = ElementTree.parse(xml).getroot()
    size = root.find('size')
    width, height = ((float(size.find(key).text) for key in ('width', 'height')) if size is not None
                     else (float('inf'), float('inf')))
    for item in root.findall('object'):
        name = item.find('name').text
        found.setdefault(name, xml)
        if classes is None or name in classes:
            x1, y1, x2, y2 = (float(item.find('bndbox').find(key).text) for key in ('xmin', 'ymin', 'xmax', 'ymax'))
            boxes.add(f'a {name} in {xml}, {[x1, y1, x2, y2]},', x1 - 1, y1 - 1, x2, y2, width, height)
