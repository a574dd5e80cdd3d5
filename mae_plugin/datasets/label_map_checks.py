"""Label maps of semantic segmentation: their sizes and values."""

import os
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from ..registry import TRANSFORMS
from .label_checks import LabelledImages, lines_of

_MAPS = 200  # read before the start; the others when they are loaded
_REDUCED = 255  # what reduce_zero_label makes of 0, and leaves of 255
_ORIENTATION = 0x0112  # of EXIF; from 5 on the image lies on its side
_TO_CLASSES = ('write the number of the class into each pixel, e.g. with Image.fromarray((numpy.array(Image.open('
               'path)) > 0).astype("uint8")) for a mask of one object')


def check_label_maps(dataset: LabelledImages, model: Mapping) -> None:
    """Check that each image has a map, and of 200 of them, spread over all, the sizes and values.

    Raises:
        FileNotFoundError: A folder, list or map is missing.
        ValueError: Something does not fit; the message names the file, and what to change.
    """
    count = _number_of_classes(dataset, model)
    ignored, reduced = ignored_value(model), bool(dataset.option('reduce_zero_label', False))
    pairs = _pairs(dataset)
    seen: set[int] = set()
    for image, label_map in pairs[::-(-len(pairs) // _MAPS)]:
        with _open(label_map) as opened:
            _check_size(image, label_map, opened.size)
            if len(opened.getbands()) > 1:
                raise ValueError(f'{label_map} is a picture in colour, not a label map: {_TO_CLASSES}')
            pixels = np.asarray(opened)
        values = _values(pixels)
        seen.update(values)
        if count is not None:
            if reduced:
                values = [_REDUCED if value in (0, _REDUCED) else value - 1 for value in values]
            _check_values(label_map, values, count, reduced, ignored)
    if seen == {0, 255} and count is not None and ignored == 255:
        rest = 'no class is left' if reduced else 'class 0 were all there is'
        raise ValueError(f'{pairs[0][1]} and the other label maps hold 0 and 255 only, and '
                         f'{"with reduce_zero_label both mean" if reduced else "255 means"} "ignored", so that {rest}: '
                         f'{_TO_CLASSES}' + (' and leave reduce_zero_label out' if reduced else ''))


def ignored_value(model: Mapping) -> int:
    """The value of a label map that the loss leaves out; mmseg takes that of the head, not of the data set."""
    head = model.get('decode_head')
    ignored = head.get('ignore_index') if isinstance(head, Mapping) else None
    return ignored if isinstance(ignored, int) else 255


@TRANSFORMS.register_module()
class CheckLabelMap:
    """Refuses a label map with values that are no classes; in mmseg's pipelines, after ``LoadAnnotations``.

    The loss would fail without a name: with a CUDA assertion, on a GPU.

    Args:
        num_classes: Of the model.
        ignore_index: The value that its loss ignores.
    """

    def __init__(self, num_classes: int, ignore_index: int = 255) -> None:
        self.num_classes = num_classes
        self.ignore_index = ignore_index

    def __call__(self, results: dict) -> dict:
        """Returns ``results``.

        Raises:
            ValueError: ``results['gt_seg_map']`` is in colour, or a value of it is unknown; the message names the file.
        """
        pixels = results['gt_seg_map']
        if pixels.ndim > 2:
            raise ValueError(f'{results["seg_map_path"]} is a picture in colour, not a label map: {_TO_CLASSES}')
        _check_values(results['seg_map_path'], _values(pixels), self.num_classes,
                      bool(results.get('reduce_zero_label')), self.ignore_index)
        return results


def _values(pixels: np.ndarray) -> list[int]:
    """The sorted values of a map."""
    if pixels.dtype == np.uint8:
        return np.bincount(pixels.ravel(), minlength=256).nonzero()[0].tolist()
    return np.unique(pixels).astype(int).tolist()


def _check_values(label_map: str, values: Sequence[int], count: int, reduced: bool, ignored: int) -> None:
    """Values are those after loading; ``reduced`` if classes begin at 1 in the file."""
    first = int(reduced)
    unknown = [value for value in values if value >= count and value != ignored]
    if unknown:
        zero = ' (reduce_zero_label: 0 is ignored, too)' if reduced else ''
        shown = [value if value == _REDUCED else value + first for value in (unknown[0], ignored)]
        raise ValueError(f'{label_map} has the value {shown[0]}, but the {count} classes are the values {first} to '
                         f'{count + first - 1}{zero}, and {shown[1]} is ignored (ignore_index of model.decode_head): '
                         'set the number of classes, or mend the map')


def _check_size(image: str, label_map: str, size: tuple[int, int]) -> None:
    with _open(image) as opened:
        expected = opened.size
        if expected != size and opened.getexif().get(_ORIENTATION, 1) > 4:
            expected = expected[::-1]
    if expected != size:
        raise ValueError(f'{label_map} has {size[0]}x{size[1]} pixels, its image {image} {expected[0]}x{expected[1]}: '
                         'a map needs a pixel for each of its image')


def _number_of_classes(dataset: LabelledImages, model: Mapping) -> int | None:
    """How many values a map may have: the head's classes, or all of the library's set when some of those are chosen.

    Raises:
        ValueError: The head has another number of classes than the data set.
    """
    head = model.get('decode_head')
    count = head.get('num_classes') if isinstance(head, Mapping) else None
    own, all_classes = dataset.own_classes, dataset.library_classes
    classes = own or all_classes
    if count is not None and classes is not None and len(classes) != count:
        where = f'{dataset.setting}.metainfo.classes names' if own else f'{dataset.name} ({dataset.setting}) has'
        raise ValueError(f'{where} {len(classes)} classes, but model.decode_head.num_classes is {count}: make them '
                         'equal')
    if own and all_classes:
        return len(all_classes)  # mmseg renumbers them
    return count and max(count, 2)  # one output tells two classes apart


def _pairs(dataset: LabelledImages) -> list[tuple[str, str]]:
    """Paths of all images and their maps, as mmseg pairs them."""
    prefix = dataset.cfg['data_prefix']
    images = dataset.folder(prefix.get('img_path') or '', 'data_prefix.img_path')
    maps = dataset.folder(prefix['seg_map_path'], 'data_prefix.seg_map_path')
    image_suffix, map_suffix = dataset.option('img_suffix', '.jpg'), dataset.option('seg_map_suffix', '.png')
    image_files, map_files = _files(images), _files(maps)
    if dataset.cfg.get('ann_file'):
        names = [line.strip() for line in lines_of(dataset.file(dataset.cfg['ann_file'], 'ann_file'))]
    else:
        names = sorted(file.removesuffix(image_suffix) for file in image_files if file.endswith(image_suffix))
        if not names:
            endings = sorted({os.path.splitext(file)[1] for file in image_files})
            raise ValueError(f'{images} holds no image that ends in {image_suffix}'
                             + (f', but {", ".join(endings)}' if endings else '')
                             + f': set {dataset.setting}.img_suffix, or put images there')
    for name in names:
        if name + image_suffix not in image_files:
            raise FileNotFoundError(f'{dataset.path(dataset.cfg["ann_file"])} names {name!r}, but there is no '
                                    f'{os.path.join(images, name + image_suffix)}: mend the list, or set '
                                    f'{dataset.setting}.img_suffix')
        if name + map_suffix not in map_files:
            raise FileNotFoundError(f'{os.path.join(images, name + image_suffix)} has no label map '
                                    f'{os.path.join(maps, name + map_suffix)}: add it, or set '
                                    f'{dataset.setting}.seg_map_suffix')
    return [(os.path.join(images, name + image_suffix), os.path.join(maps, name + map_suffix)) for name in names]


def _files(folder: str) -> set[str]:
    """Paths below ``folder`` of all its files."""
    return {os.path.relpath(os.path.join(inner, file), folder)
            for inner, _, files in os.walk(folder, followlinks=True) for file in files if not file.startswith('.')}


def _open(path: str) -> Image.Image:
    try:
        return Image.open(path)
    except OSError as error:
        raise ValueError(f'{path} cannot be read as an image: {error}') from None
