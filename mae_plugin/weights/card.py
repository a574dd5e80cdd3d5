"""What a checkpoint says of itself: how its images were normalised, what the model is, what it was trained from.

A card is a dict of JSON's types, under ``checkpoint['meta']['mae_plugin']`` or in the metadata of a ``.safetensors``:

- ``format``: 1; ``versions``: of the plugin, Python and the libraries
- ``task``: ``pretraining``, ``classification``, ``detection``, ``segmentation`` or ``other``
- ``mean``, ``std``: of each channel, in pixel values 0 to 255; None where nothing is normalised
- ``channel_order``: ``rgb`` or ``bgr``, what the model sees; None where it does not see three channels
- ``backbone``: its type and arguments, defaults included, with the sizes as pairs and the ``grid`` of patches
- ``decoder``, ``target``, ``masking``: likewise, of pretraining; None for tasks
- ``config``: the whole config as data
- ``parents``: the files it was trained from, the nearest first, each with ``file``, ``sha256`` and ``task``
- ``converted_from``: of a converted file, the one that was read, with ``file``, ``sha256`` and ``format``
"""

import inspect
import math
import platform
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import mmcv
import mmengine
import timm
import torch
from torch import nn

import mae_plugin
from mae_plugin.models import MAEDataPreprocessor, MaskedAutoencoder
from mae_plugin.models.backbone import ViTBackbone

# What must not change between a checkpoint and what is trained from it, and where a config says it.
COMPARED = {
    'mean': 'model.data_preprocessor.mean',
    'std': 'model.data_preprocessor.std',
    'channel_order': 'model.data_preprocessor (to_rgb in mmpretrain, bgr_to_rgb in mmdet and mmseg)',
    'patch_size': 'model.backbone.patch_size',
    'embed_dim': 'model.backbone.embed_dim',
    'depth': 'model.backbone.depth',
    'num_heads': 'model.backbone.num_heads',  # no tensor tells it
    'mlp_ratio': 'model.backbone.mlp_ratio',
    'activation': 'model.backbone',
    'decoder_num_heads': 'model.neck.decoder_num_heads',
    'target': 'model.head.target',
}
OF_DECODER = ('decoder_num_heads', 'target')
_OF_IMAGES = ('mean', 'std', 'channel_order')
_TOLERANCE = 0.01  # of mean and std, in pixel values: some write 123.675, some 0.485 * 255, some 123.68
_TASKS = dict(mmpretrain='classification', mmdet='detection', mmseg='segmentation')
_BUILT = ('img_size', 'patch_size', 'grid', 'in_chans', 'embed_dim', 'depth', 'out_indices', 'num_heads',
          'activation')


def make_card(model: nn.Module, cfg: Mapping, parents: Sequence[dict] = ()) -> dict:
    """The card of ``model``, built from ``cfg``, the config of its run; ``parents`` as :func:`lineage` gives them."""
    described = cfg.get('model')
    described = described if isinstance(described, Mapping) else {}  # MMEngine also takes models that are built
    described = described.get('module', described)  # of test-time augmentation
    pretraining = isinstance(model, MaskedAutoencoder)
    return dict(
        format=1,
        versions=dict(mae_plugin=mae_plugin.__version__, python=platform.python_version(),
                      **{library.__name__: str(library.__version__) for library in (torch, timm, mmengine, mmcv)}),
        task='pretraining' if pretraining else _TASKS.get(cfg.get('default_scope'), 'other'),
        **_normalisation(model),
        backbone=_part(getattr(model, 'backbone', None), described.get('backbone')),
        decoder=_part(model.neck, described.get('neck')) if pretraining else None,
        target=_part(model.head.target, described.get('head', {}).get('target')) if pretraining else None,
        masking=_part(model.masking, described.get('masking')) if pretraining else None,
        config=_json(cfg.to_dict() if hasattr(cfg, 'to_dict') else cfg),
        parents=list(parents))


def lineage(file: str, sha256: str | None, card: dict | None) -> list[dict]:
    """``parents`` of what is trained from ``file``: the file, the one it was converted from, then its own."""
    card = card or {}
    name = file if '://' in file else Path(file).name
    found = [dict(file=name, sha256=sha256, task=card.get('task'))]
    if card.get('converted_from'):
        origin = card['converted_from']
        found.append(dict(file=origin.get('file'), sha256=origin.get('sha256'), task=card.get('task')))
    return [*found, *(card.get('parents') or ())]


def disagreements(card: dict, model_card: dict, ignored: Collection[str] = ()) -> dict[str, str]:
    """What ``card``, of a file, and ``model_card``, of the model that takes its weights, say differently.

    What one of them does not know is not compared; ``mean``, ``std`` and ``channel_order`` not where the images have
    another number of channels.

    Args:
        card: Of the file.
        model_card: Of the model, from :func:`make_card`.
        ignored: Names of :data:`COMPARED` that may differ.

    Returns:
        By name, a phrase with the value of the file, and key and value of the config.
    """
    channels = [_fact(each, 'in_chans') for each in (card, model_card)]
    if None not in channels and channels[0] != channels[1]:
        ignored = {*ignored, *_OF_IMAGES}
    found = {}
    for name, key in COMPARED.items():
        stored, ours = _fact(card, name), _fact(model_card, name)
        if name not in ignored and stored is not None and ours is not None and not _same(stored, ours):
            found[name] = f'{name} is {stored} in the file and {ours} in the config, {key}'
    return found


def _fact(card: dict, name: str) -> Any:
    holders = (card, card.get('backbone'), card.get('decoder'))
    return next((holder[name] for holder in holders if isinstance(holder, dict) and name in holder), None)


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_same, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return all(_same(a[key], b[key]) for key in a.keys() & b.keys())
    if isinstance(a, (int, float)) and isinstance(b, (int, float)):
        return abs(a - b) <= _TOLERANCE
    return a == b


def _normalisation(model: nn.Module) -> dict:
    preprocessor = getattr(model, 'data_preprocessor', None)
    # OpenMMLab's loaders give blue first, so both conversions make it red first.
    names = [name for name in ('to_rgb', '_channel_conversion', 'channel_conversion') if hasattr(preprocessor, name)]
    order = 'rgb' if any(getattr(preprocessor, name) for name in names) else 'bgr' if names else None
    if isinstance(preprocessor, MAEDataPreprocessor):
        order = 'rgb'  # as unlabelled images are read
    mean, std = (getattr(preprocessor, name, None) for name in ('mean', 'std'))
    numbers = {name: [float(f'{number:.7g}') for number in value.flatten().tolist()]  # float32 has seven digits
               if isinstance(value, torch.Tensor) else None for name, value in (('mean', mean), ('std', std))}
    channels = getattr(getattr(model, 'backbone', None), 'in_chans', 3)
    return dict(numbers, channel_order=order if channels == 3 else None)


def _part(part: nn.Module | None, cfg: Mapping | None) -> dict | None:
    """Type and arguments of a part of the model; of a :class:`ViTBackbone` the sizes as it has them."""
    if part is None:
        return None
    parameters = inspect.signature(type(part)).parameters.values()
    facts = {parameter.name: parameter.default for parameter in parameters
             if parameter.default is not inspect.Parameter.empty} | dict(cfg or {})
    # The parents say what it started from; the others are how, not what is computed.
    for name in ('init_cfg', 'with_cp', 'drop_path_skips'):
        facts.pop(name, None)
    if isinstance(part, ViTBackbone):
        facts.pop('pretrained', None)  # of a target it says which teacher it is
        facts |= {name: getattr(part, name) for name in _BUILT if hasattr(part, name)}
    else:
        # MaskedAutoencoder gives them to its parts.
        for name in ('in_chans', 'num_prefix_tokens', 'num_taps', 'pixel_mean', 'pixel_std'):
            facts.pop(name, None)
        facts |= {name: f'sha256:{sha256}' for name, sha256 in getattr(part, 'files', {}).items()}
    return _json(dict(facts, type=type(part).__name__))


def _json(value: Any) -> Any:
    """``value`` in JSON's types: tuples become lists, and what JSON does not have its ``repr``."""
    if isinstance(value, Mapping):
        return {str(key): _json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json(item) for item in value]
    if value is None or type(value) in (bool, int, str) or type(value) is float and math.isfinite(value):
        return value
    return repr(value)
