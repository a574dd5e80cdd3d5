"""Sizes that several parts of a task's model must agree on, checked before it is built."""

from collections.abc import Iterator
from typing import Any


def check_sizes(model: dict[str, Any]) -> None:
    """Compare the widths that a task's model config states for the same features.

    What is compared is a ``PlainViT`` or ``TimmViT`` and what reads its maps: mmpretrain's head,
    ``SimpleFeaturePyramid`` or ``TapPyramid`` with mmdet's heads, ``Feature2Pyramid`` with mmseg's heads. Other
    backbones and necks are left to themselves.
    :class:`~mae_plugin.models.MaskedAutoencoder` hands the sizes on, so that nothing can disagree there.

    Args:
        model: The config of the model.

    Raises:
        ValueError: Two disagree; the message names both settings and their values.
    """
    backbone = model.get('backbone') or {}
    if backbone.get('type') not in ('mae_plugin.PlainViT', 'mae_plugin.TimmViT') or 'embed_dim' not in backbone:
        return
    for source, expected, name, found in _pairs(model, 'backbone.embed_dim', backbone['embed_dim']):
        values = found if isinstance(found, list | tuple) else [found]
        if any(isinstance(value, int) and value != expected for value in values):
            raise ValueError(f'model.{name}={found} disagrees with model.{source}={expected}')


def check_channels(cfg: dict[str, Any]) -> None:
    """Compare what the config says of the number of channels: backbone, data preprocessor, data sets.

    Of data sets these are ``UnlabelledImages`` and what ``LoadImage`` loads.

    Args:
        cfg: The whole config.

    Raises:
        ValueError: Two disagree; the message names both settings and their values.
    """
    model = cfg.get('model') or {}
    backbone = model.get('backbone') or {}
    expected = backbone.get('in_chans', 3 if backbone.get('type') == 'mae_plugin.PlainViT' else None)
    if expected is None:
        return
    for name, found in _channels(cfg, model):
        if found != expected:
            raise ValueError(f'{name} disagrees with model.backbone.in_chans={expected}: {found} instead of {expected} '
                             'channels')


def _channels(cfg: dict, model: dict) -> Iterator[tuple[str, int]]:
    """(setting, the number of channels it says)."""
    preprocessor = model.get('data_preprocessor') or {}
    for name in ('mean', 'std'):
        values = preprocessor.get(name)
        if values is not None and (len(values) > 1 or preprocessor.get('type') == 'mae_plugin.MAEDataPreprocessor'):
            yield f'model.data_preprocessor.{name}={list(values)}', len(values)  # OpenMMLab's take one for all channels
    for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        dataset = (cfg.get(loader) or {}).get('dataset') or {}
        if dataset.get('type') == 'mae_plugin.UnlabelledImages':
            channels = dataset.get('channels', 3)
            yield f'{loader}.dataset.channels={channels}', channels
        for i, transform in enumerate(dataset.get('pipeline') or ()):
            if transform.get('type') == 'mae_plugin.LoadImage':
                channels = transform.get('channels', 3)
                yield f'{loader}.dataset.pipeline.{i}.channels={channels}', channels


def _pairs(model: dict, source: str, width: int) -> Iterator[tuple[str, int, str, Any]]:
    """(setting, its value, a setting that must equal it, the value of that)."""
    necks = _numbered('neck', model.get('neck') or {})  # a list is a chain of them
    neck = necks[0][1]
    kind = str(neck.get('type')).rpartition('.')[2]
    if kind in ('SimpleFeaturePyramid', 'TapPyramid'):
        for name, part in necks:
            yield source, width, f'{name}.in_channels', part.get('in_channels')
        last_name, last = necks[-1]
        roi_head = model.get('roi_head') or {}
        readers = [('rpn_head', model.get('rpn_head'), 'in_channels')]
        for name, key in (('bbox_roi_extractor', 'out_channels'), ('mask_roi_extractor', 'out_channels'),
                          ('bbox_head', 'in_channels'), ('mask_head', 'in_channels')):
            readers += [(*part, key) for part in _numbered(f'roi_head.{name}', roi_head.get(name))]
        for path, part, key in readers:
            out_channels = last.get('out_channels', 256 if kind == 'SimpleFeaturePyramid' else width)
            yield f'{last_name}.out_channels', out_channels, f'{path}.{key}', (part or {}).get(key)
    elif not neck or kind == 'Feature2Pyramid':
        if neck:
            yield source, width, 'neck.embed_dim', neck.get('embed_dim')
        for name in ('head', 'decode_head', 'auxiliary_head'):
            for path, part in _numbered(name, model.get(name)):
                yield source, width, f'{path}.in_channels', (part or {}).get('in_channels')


def _numbered(name: str, parts: Any) -> list[tuple[str, Any]]:
    """A part, or the parts of a list, with their dotted names."""
    if isinstance(parts, list | tuple):
        return [(f'{name}.{i}', part) for i, part in enumerate(parts)]
    return [(name, parts)]
