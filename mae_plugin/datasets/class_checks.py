"""Classes of images, by folders or in a list, as mmpretrain's ``CustomDataset`` reads them."""

import os
from collections.abc import Mapping, Sequence

from .label_checks import LabelledImages, lines_of

_EXTENSIONS = ('.jpg', '.jpeg', '.png', '.ppm', '.bmp', '.pgm', '.tif')


def check_classes(datasets: Sequence[LabelledImages], cfg: Mapping) -> None:
    """Compare class folders, or the class numbers of a list, with the head and with each other.

    A metric that says ``num_classes`` is for images of so many classes, whatever the head has.

    Raises:
        FileNotFoundError: A folder or list is missing.
        ValueError: Something does not fit; the message names folder or line, and the setting to change.
    """
    first: tuple[str, list[str]] | None = None
    for dataset in datasets:
        if not dataset.option('with_label', True):
            continue
        count, source = _number_of_classes(dataset, cfg)
        prefix = dataset.cfg.get('data_prefix') or ''
        prefix = prefix if isinstance(prefix, str) else prefix.get('img_path') or ''
        folder = dataset.folder(prefix, 'data_prefix')
        names = dataset.own_classes
        if count is not None and names is not None and len(names) != count:
            raise ValueError(f'{dataset.setting}.metainfo.classes names {len(names)} classes, but '
                             f'{source} is {count}: make them equal')
        if dataset.cfg.get('ann_file'):
            _check_list(dataset.file(dataset.cfg['ann_file'], 'ann_file'), count, source)
            continue
        classes = _class_folders(folder, dataset.option('extensions', _EXTENSIONS))
        if count is not None and len(classes) != count:
            raise ValueError(f'{folder} has {len(classes)} class folders ({_some(classes)}), but '
                             f'{source} is {count}: set it to {len(classes)}, or mend the folders')
        if first is None:
            first = folder, classes
        elif classes != first[1]:
            place = next(i for i, (a, b) in enumerate(zip([*classes, None], [*first[1], None], strict=False)) if a != b)
            here, there = ([*names, 'nothing'][place] for names in (classes, first[1]))
            raise ValueError(f'{folder} has other class folders than {first[0]}, from number {place} on, {here} where '
                             f'the other has {there}: a class is the place of its folder in the sorted names, so make '
                             'them equal')


def _number_of_classes(dataset: LabelledImages, cfg: Mapping) -> tuple[int | None, str]:
    """How many classes the images must have, or None, and the setting that says so."""
    model = cfg['model'].get('module', cfg['model'])
    evaluator = dataset.setting.partition('_')[0] + '_evaluator'
    for setting, part in ((evaluator, cfg.get(evaluator)), ('model.head', model.get('head'))):
        if isinstance(part, Mapping) and isinstance(part.get('num_classes'), int):
            return part['num_classes'], f'{setting}.num_classes'
    return None, ''


def _class_folders(folder: str, extensions: Sequence[str]) -> list[str]:
    """The sorted class folders; at least one of them must hold an image."""
    classes = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
    if not classes:
        raise ValueError(f'{folder} has no class folders: put the images of each class into a folder of its own there')
    endings = tuple(extensions)
    if not any(name.lower().endswith(endings) for class_ in classes
               for _, _, names in os.walk(os.path.join(folder, class_)) for name in names):
        raise ValueError(f'no class folder of {folder} ({_some(classes)}) holds an image {", ".join(endings)}: put '
                         'some there, or set extensions of the data set')
    return classes


def _check_list(file: str, count: int | None, source: str) -> None:
    """Each line of a list is a path and the number of a class."""
    number = 0
    for number, line in enumerate(lines_of(file), 1):
        label = line.strip().rpartition(' ')[2]
        if not label.isdigit():
            raise ValueError(f'{file}, line {number}: {line.strip()!r} does not end in the number of a class, as in '
                             '"folder/image.jpg 3"')
        if count is not None and int(label) >= count:
            raise ValueError(f'{file}, line {number}: class {label} does not exist, for {source} is {count} and '
                             'classes are numbered from 0: set it, or mend the list')
    if not number:
        raise ValueError(f'{file} is empty: it must have a line "folder/image.jpg 3" for each image')


def _some(names: Sequence[str]) -> str:
    return ', '.join(names[:3]) + (', ...' if len(names) > 3 else '')
