"""What a pretraining's model will see of its images, without the model."""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import PurePath
from typing import Any

import torch
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATA_SAMPLERS, DATASETS, MODELS
from timm.layers import to_2tuple

from mae_plugin.datasets import KeyedRandomResizedCrop, SampleKey
from mae_plugin.datasets.prepare import prepare_data
from mae_plugin.models.assembly import build_part, facts_of
from mae_plugin.models.masked_autoencoder import greyed, hide
from mae_plugin.utils.model_sizes import check_channels
from mae_plugin.utils.run_config import fill_in_data
from mae_plugin.visualization.pictures import Sheet, Tile, photo
from mae_plugin.visualization.reconstruction import Display, is_8_bit

_SIDE, _LETTERS = 240, 20


def browse(cfg, split: str, num: int, bands: Sequence[int] | None = None) -> tuple[Sheet, list[str]]:
    """The first samples that training, or validation, takes: crops, and the same as the encoder sees them.

    Args:
        cfg: A config of pretraining; what the tools fill in is filled in, in place.
        split: ``'train'`` or ``'val'``.
        num: How many; a data set with fewer images gives them all once.
        bands: As for :class:`~mae_plugin.visualization.reconstruction.Display`.

    Returns:
        The sheet, and a line for each sample: path, original size, crop, key.
    """
    check_channels(cfg)
    prepare_data(cfg)
    fill_in_data(cfg)
    loader = cfg[f'{split}_dataloader']
    dataset = DATASETS.build(loader.dataset)
    keys = list(islice(_keys(cfg, split, loader, dataset), min(num, len(dataset))))
    samples = [dataset[key] for key in keys]
    with torch.device('meta'):  # for its facts: no number of it is made
        backbone = build_part(dict(cfg.model.backbone, init_cfg=None), 'backbone', {})
    preprocessor = MODELS.build(cfg.model.data_preprocessor)
    facts = facts_of(backbone, preprocessor, cfg.model.backbone)
    parts = [build_part(cfg.model.get(name), name, facts) for name in ('masking', 'corruption')]
    data = preprocessor(pseudo_collate(samples))
    patch_size = to_2tuple(facts['patch_size'])
    grid = tuple(side // patch for side, patch in zip(data['inputs'].shape[2:], patch_size, strict=True))
    imgs, seen, mask = hide(data['inputs'], data['data_samples'], *parts, grid, getattr(preprocessor, 'nodata', False))
    display = Display(preprocessor.mean, preprocessor.std, bands, stretch=not is_8_bit(samples))
    pictures = [display(preprocessor.to_pixels(x), mask.valid) for x in (imgs, greyed(seen, mask, patch_size))]
    found = [_facts(dataset, key, sample['data_samples']) for key, sample in zip(keys, samples, strict=True)]
    groups = [[Tile(photo(original, _SIDE), name), Tile(photo(shown, _SIDE), f'key {key}')]
              for original, shown, (name, key, _) in zip(*pictures, found, strict=True)]
    title = f'{split}: what {type(parts[0]).__name__} leaves to see of the first {len(samples)} samples'
    return Sheet(split, title, '', ('crop', 'seen'), groups, across=4), [line for *_, line in found]


def _keys(cfg, split: str, loader: Any, dataset: Any) -> Iterator[Any]:
    """The order in which a run of one process takes the samples."""
    if split == 'val' or loader.sampler.type != 'mae_plugin.KeyedSampler':
        return iter(range(len(dataset)))
    sampler = DATA_SAMPLERS.build(loader.sampler, default_args=dict(dataset=dataset))
    sampler.seed = (cfg.get('randomness') or {}).get('seed') or 0  # the loop gives it the runner's
    return iter(sampler)


def _facts(dataset: Any, key: Any, sample: Any) -> tuple[str, str, str]:
    """Name and key in short, and all that is said of a sample."""
    key = SampleKey(*sample.get('sample_key', SampleKey.of(key)))
    height, width = sample.ori_shape
    words = [f'{sample.img_path}: {width}x{height}']
    for transform in getattr(getattr(dataset, 'pipeline', None), 'transforms', ()):
        if isinstance(transform, KeyedRandomResizedCrop):
            left, top, right, bottom = transform.box(width, height, key)
            words.append(f'crop {right - left}x{bottom - top}+{left}+{top}')
    words.append(f'key seed={key.seed} epoch={key.epoch} index={key.index}')
    name = PurePath(sample.img_path).name
    return name[-_LETTERS:], f'{key.seed}, {key.epoch}, {key.index}', ', '.join(words)
