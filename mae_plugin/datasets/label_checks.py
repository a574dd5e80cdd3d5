"""Labels and their files, checked before a run starts: what is wrong with them is said in one sentence.

A library that is given labels of another task than the model's fails late and without a name ("need at least one array
to concatenate", a CUDA assertion), or trains on less than it was given. What is checked, for the data sets of
mmpretrain, mmdet and mmseg that a run will read:

* files and folders exist;
* classification (:mod:`.class_checks`): class folders or numbers fit the head, train and val have the same classes;
* detection (:mod:`.box_checks`): classes, images and boxes of COCO, LVIS and VOC files;
* segmentation (:mod:`.label_map_checks`): sizes and values of label maps.
"""

import inspect
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

_LIBRARIES = ('mmpretrain', 'mmdet', 'mmseg')
_SLOW = 5.  # seconds after which the log says what took so long


@dataclass(frozen=True)
class LabelledImages:
    """A data set of a config.

    Args:
        setting: Where it is in the config, ``train_dataloader.dataset``.
        cfg: Its config.
        type: Its type, with the library: ``mmdet.CocoDataset``.
        library: The library whose model it is for.
        variables: Environment variables that the config reads, with the values used.
    """

    setting: str
    cfg: Mapping
    type: str
    library: str
    variables: Mapping[str, str]

    @property
    def name(self) -> str:
        """The type without its library."""
        return self.type.rpartition('.')[2]

    @cached_property
    def library_class(self) -> type | None:
        """The class, or None if its library is not installed or does not know it."""
        from mmengine.registry import DATASETS
        try:
            return DATASETS.get(self.type)
        except ImportError:
            return None

    def option(self, name: str, default: Any = None) -> Any:
        """A setting, by default that of the class."""
        if name in self.cfg:
            return self.cfg[name]
        for base in inspect.getmro(self.library_class) if self.library_class else ():
            parameter = inspect.signature(base.__init__).parameters.get(name)
            if parameter is not None and parameter.default is not parameter.empty:
                return parameter.default
        return default

    @cached_property
    def own_classes(self) -> list[str] | None:
        """The names of the classes in the config, or in the file that it names there; None if there are none.

        Raises:
            ValueError: A text that is no file is given for the names.
        """
        key = 'metainfo.classes' if 'classes' in (self.cfg.get('metainfo') or {}) else 'classes'
        classes = self.cfg['metainfo']['classes'] if key == 'metainfo.classes' else self.cfg.get('classes')
        if isinstance(classes, str):
            file = os.path.expanduser(classes)
            if not os.path.isfile(file):
                raise ValueError(f'{self.setting}.{key} is the text {classes!r}, and no such file exists: write '
                                 f'({classes!r}, ) for a single class, or the path of a file with a name in each line')
            return list(lines_of(file))
        return list(classes) if isinstance(classes, list | tuple) else None

    @property
    def library_classes(self) -> list[str] | None:
        """The names of the classes that the library's class has, or None."""
        classes = getattr(self.library_class, 'METAINFO', {}).get('classes')
        return list(classes) if classes else None

    def path(self, relative: str) -> str:
        """A path below ``data_root``, or that itself."""
        root = os.path.expanduser(self.cfg.get('data_root') or '')
        return os.path.join(root, os.path.expanduser(relative)) if relative else root

    def folder(self, relative: str, key: str) -> str:
        """The folder of the setting ``key``.

        Raises:
            FileNotFoundError: It does not exist.
        """
        return self._existing(relative, key, 'folder', os.path.isdir)

    def file(self, relative: str, key: str) -> str:
        """The file of the setting ``key``.

        Raises:
            FileNotFoundError: It does not exist.
        """
        return self._existing(relative, key, 'file', os.path.isfile)

    def _existing(self, relative: str, key: str, what: str, exists) -> str:
        root, path = self.path(''), self.path(relative) or '.'
        if exists(path):
            return path
        key, missing = ('data_root', root) if root and not os.path.isdir(root) else (key, path)
        what = 'folder' if key == 'data_root' else what
        variable = next((name for name, value in self.variables.items()
                         if os.path.join(path, '').startswith(os.path.join(value, ''))), None)
        remedy = f'set the environment variable {variable} to where the data lies' if variable else 'set it right'
        raise FileNotFoundError(f'{self.setting}.{key}: there is no {what} {missing}; {remedy}, or put the data there')


def lines_of(file: str) -> Iterator[str]:
    """The lines of a text file, without their ends.

    Raises:
        ValueError: It is not encoded in UTF-8.
    """
    try:
        with open(file, encoding='utf-8') as lines:
            for line in lines:
                yield line.rstrip('\r\n')
    except UnicodeDecodeError as error:
        raise ValueError(f'{file} is no text in UTF-8 ({error}): save it as such') from None


def check_labels(cfg, loaders: Sequence[str]) -> None:
    """Check the labels that a run will read; the first of several processes does.

    Args:
        cfg: The whole config.
        loaders: The data loaders that the run uses, ``['train_dataloader', 'val_dataloader']``.

    Raises:
        FileNotFoundError: A file or folder is missing.
        ValueError: Labels do not fit the model or are no labels at all.
    """
    from mae_plugin.engine.distributed import launched_as

    from .box_checks import check_coco, check_voc
    from .class_checks import check_classes
    from .label_map_checks import check_label_maps
    if launched_as(cfg.get('launcher'))[0] > 0:
        return
    start = time.monotonic()
    model = cfg.model.get('module', cfg.model)
    checked, trees = [], []
    for dataset in datasets_of(cfg, loaders):
        described = {key: value for key, value in dataset.cfg.items() if key not in ('pipeline', 'test_mode')}
        if described in checked or dataset.cfg.get('backend_args') or '://' in dataset.path(''):
            continue
        checked.append(described)
        if dataset.library == 'mmpretrain' and dataset.name == 'CustomDataset':
            trees.append(dataset)
        elif dataset.library == 'mmdet' and re.fullmatch(r'(Coco|LVIS(V\d+)?)Dataset', dataset.name):
            check_coco(dataset, model)
        elif dataset.library == 'mmdet' and dataset.name in ('VOCDataset', 'XMLDataset'):
            check_voc(dataset, model)
        elif dataset.library == 'mmseg' and _has_maps(dataset.cfg):
            check_label_maps(dataset, model)
    check_classes(trees, cfg)
    if time.monotonic() - start > _SLOW:
        print(f'checking the labels took {time.monotonic() - start:.0f} s')


def _has_maps(cfg: Mapping) -> bool:
    """Whether a data set of mmseg has label maps; images to predict on have none."""
    maps = (cfg.get('data_prefix') or {}).get('seg_map_path')
    return bool(maps) or maps is not None and not cfg.get('test_mode')


def check_maps_when_loaded(cfg, loaders: Sequence[str]) -> None:
    """Let mmseg's pipelines check every label map that they load, in place; :func:`check_labels` sees only some."""
    from mmengine.config import ConfigDict

    from .label_map_checks import ignored_value
    model = cfg.model.get('module', cfg.model)
    for dataset in datasets_of(cfg, loaders):
        head = model.get('decode_head')
        classes = head.get('num_classes') if isinstance(head, Mapping) else None
        if dataset.library == 'mmseg' and isinstance(classes, int):
            check = ConfigDict(type='mae_plugin.CheckLabelMap', num_classes=max(classes, 2),
                               ignore_index=ignored_value(model))
            pipeline = dataset.cfg.get('pipeline') or []
            # The config that a run has stored has the check already.
            pipeline[:] = [transform for transform in pipeline if transform['type'] != check.type]
            loading = [i for i, transform in enumerate(pipeline) if transform['type'].endswith('LoadAnnotations')]
            for i in reversed(loading):
                pipeline.insert(i + 1, check)


def datasets_of(cfg, loaders: Sequence[str]) -> Iterator[LabelledImages]:
    """The libraries' data sets of some loaders, also those within wrappers (``RepeatDataset``, ``ConcatDataset``)."""
    variables = {name: os.environ.get(name, default) for name, default in
                 re.findall(r'\{\{[\'"]?\s*\$(\w+)\s*:\s*(\S*?)\s*[\'"]?\}\}', getattr(cfg, 'text', None) or '')}
    for loader in loaders:
        if cfg.get(loader) is not None:
            yield from _leaves(f'{loader}.dataset', cfg[loader].get('dataset'), cfg.get('default_scope'), variables)


def _leaves(setting: str, dataset, scope: str | None, variables: Mapping) -> Iterator[LabelledImages]:
    if not isinstance(dataset, Mapping) or not isinstance(dataset.get('type'), str):
        return
    inner = [(f'{setting}.dataset', dataset['dataset'])] if 'dataset' in dataset else [
        (f'{setting}.datasets.{i}', part) for i, part in enumerate(dataset.get('datasets', ()))]
    for path, part in inner:
        yield from _leaves(path, part, scope, variables)
    scope = next((library for library in _LIBRARIES if dataset['type'].startswith(f'{library}.')), scope)
    if not inner and scope in _LIBRARIES:
        kind = dataset['type'] if '.' in dataset['type'] else f'{scope}.{dataset["type"]}'
        yield LabelledImages(setting, dataset, kind, scope, variables)
