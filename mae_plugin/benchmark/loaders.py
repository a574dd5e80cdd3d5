"""Loaders that are compared: ours by mode, mmpretrain's and torchvision's, all of the same files in the same order."""

import copy
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope, init_default_scope
from mmengine.runner import Runner
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate
from torchvision import transforms
from torchvision.datasets import folder

from mae_plugin.benchmark.contenders import quiet, variant_options
from mae_plugin.benchmark.corpus import usable_cores
from mae_plugin.datasets.samplers import KeyedSampler
from mae_plugin.registry import DATASETS, MODELS
from mae_plugin.utils.overrides import apply_overrides
from mae_plugin.utils.run_config import fill_in_size

OTHERS = ('mmpretrain', 'torchvision', 'torchvision-float')


def data_options(contender: str) -> list[str]:
    """The ``--cfg-options`` of a contender of ours: a mode of the data set, or ``NAME:key=value,key=value``."""
    if ':' in contender:
        return variant_options(contender)
    return [f'+train_dataloader.dataset.mode={contender}']


def with_data(cfg: Config, contender: str) -> Config:
    """``cfg`` as a contender of ours wants it, with the size of the images filled in.

    For the mode ``cached`` a store is made first, in the folder ``train_dataloader.dataset.cache``, and only for it is
    that key kept.

    Raises:
        ValueError: If its training images are not ``UnlabelledImages``.
    """
    cfg = copy.deepcopy(cfg)
    dataset = cfg.get('train_dataloader', {}).get('dataset', {})
    if dataset.get('type') != 'mae_plugin.UnlabelledImages':
        raise ValueError(f"train_dataloader.dataset.type={dataset.get('type')!r}: a config of pretraining is needed, "
                         "whose images are 'mae_plugin.UnlabelledImages'")
    apply_overrides(cfg, data_options(contender))
    fill_in_size(cfg, dataset)
    if dataset.get('mode') == 'cached':
        _ensure_store(dataset)
    else:
        dataset.pop('cache', None)
    return cfg


def _ensure_store(dataset: dict) -> None:
    from mae_plugin.datasets.reader import EXTENSIONS
    from mae_plugin.datasets.store import StoreBuilder
    from mae_plugin.datasets.unlabelled import normalized
    builder = StoreBuilder(
        dataset['data_root'], dataset['cache'], normalized(dataset.get('extensions', EXTENSIONS)),
        dataset.get('data_prefix'), dataset.get('channels', 3), 'raw', 512, 95)
    if not builder.finished:
        builder.build(usable_cores())


def sample_of(cfg: Config, count: int = 500) -> Iterator[bytes]:
    """Files from all over the training images of a config."""
    settings = with_data(cfg, 'exact').train_dataloader.dataset
    with quiet():
        dataset = DATASETS.build(settings)
    count = min(count, len(dataset))
    for number in range(count):
        yield dataset.source.read(dataset._numbers[number * len(dataset) // count])


class _SameOrder(Sampler[int]):
    """The images of a :class:`KeyedSampler` as plain numbers, for loaders that know no keys."""

    def __init__(self, dataset: Dataset, seed: int) -> None:
        self.keyed = KeyedSampler(dataset, seed, rank=0, world_size=1)

    def set_position(self, position: int) -> None:
        self.keyed.set_position(position)

    def __iter__(self) -> Iterator[int]:
        return (key.index for key in self.keyed)

    def __len__(self) -> int:
        return len(self.keyed)


class TorchvisionImages(Dataset):
    """Images as the authors' recipe reads them: Pillow, ``RandomResizedCrop``, flip.

    Args:
        paths: The files.
        size: Side of the crops, or (height, width).
        scale: Least and largest share of the image's area.
        to_float: Give normalised float32, as the authors do, and not uint8.
    """

    def __init__(self, paths: Sequence[str], size: int | tuple[int, int], scale: tuple[float, float],
                 to_float: bool = False) -> None:
        self.paths = paths
        last = [transforms.ToTensor(), transforms.Normalize([.485, .456, .406], [.229, .224, .225])] if to_float else [
            transforms.PILToTensor()]
        self.transform = transforms.Compose([
            transforms.RandomResizedCrop(size, scale, interpolation=transforms.InterpolationMode.BICUBIC),
            transforms.RandomHorizontalFlip(), *last])

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.transform(folder.pil_loader(self.paths[index]))


class LoaderContender:
    """One side of the comparison.

    Args:
        cfg: A pretraining config, which gives the images, the size and the scale of the crops.
        name: One of :data:`OTHERS`, or a mode or variant of ours: see :func:`data_options`.
        batch: Batch size.

    Attributes:
        settings: Of its loader, as MMEngine takes them.
        finish: What the training process does to a batch before it is pixels.

    Raises:
        ValueError: If there is no such mode, the package is missing, or another project cannot read the images.
    """

    def __init__(self, cfg: Config, name: str, batch: int) -> None:
        self.name = name
        cfg = with_data(cfg, 'exact' if name in OTHERS else name)  # of others only the paths are wanted
        self.settings = copy.deepcopy(cfg.train_dataloader.to_dict())
        with quiet():
            self.dataset = DATASETS.build(self.settings['dataset'])
        if name in OTHERS:
            self._become(name, cfg)
        decode = None
        if torch.cuda.is_available() and name not in OTHERS:  # what workers leave to the GPU belongs to the time
            decode = getattr(MODELS.build(cfg.model.data_preprocessor).cuda(), 'decode', None)
        self.finish: Callable[[Any], Any] = decode or (lambda data: data)
        self.settings.update(dataset=self.dataset, batch_size=batch, persistent_workers=False)
        self.settings['pin_memory'] = bool(self.settings.get('pin_memory')) and torch.cuda.is_available()

    def _become(self, name: str, cfg: Config) -> None:
        """Another project's data set and settings, for the files of ours."""
        paths = [self.dataset.path(index) for index in range(len(self.dataset))]
        if '!/' in paths[0]:
            raise ValueError(f'--against {name}: it reads folders and lists, not {self.dataset.data_root}')
        crop = next(transform for transform in cfg.train_dataloader.dataset.pipeline if 'size' in transform)
        size, scale = crop['size'], tuple(crop.get('scale', (.2, 1.)))
        if name != 'mmpretrain':
            self.dataset = TorchvisionImages(paths, size, scale, to_float=name.endswith('float'))
            self.settings = dict(self.settings, collate_fn=dict(type=default_collate))
        else:
            self.settings, self.dataset = _of_mmpretrain(paths, size, scale)
        self.settings['sampler'] = _SameOrder(self.dataset, seed=0)

    def batches(self, workers: int, position: int = 0, **settings: Any) -> Iterator:
        """Its batches from a position in the stream on; ``workers`` start now."""
        loader = self.loader(workers, **settings)
        loader.sampler.set_position(position)
        return iter(loader)

    def loader(self, workers: int, **settings: Any) -> DataLoader:
        """Its loader, with ``settings`` changed."""
        settings = {**self.settings, 'num_workers': workers, **settings}
        if not workers:
            settings.pop('prefetch_factor', None)
        return Runner.build_dataloader(settings, seed=0)


def _of_mmpretrain(paths: Sequence[str], size: int | tuple[int, int], scale: tuple[float, float]
                   ) -> tuple[dict, Dataset]:
    """The loader and data set of mmpretrain for MAE, by the config it ships, reading ``paths``."""
    try:
        import mmpretrain
    except ImportError as error:
        raise ValueError(f'--against mmpretrain: it cannot be imported ({error})') from error
    from mmpretrain.registry import DATASETS as THEIRS
    shipped = Path(mmpretrain.__file__).parent / '.mim/configs/_base_/datasets/imagenet_bs512_mae.py'
    settings = Config.fromfile(shipped).train_dataloader.to_dict()
    pipeline = settings['dataset']['pipeline']
    crop, = (transform for transform in pipeline if transform['type'] == 'RandomResizedCrop')
    crop.update(scale=size, crop_ratio_range=scale)
    scope = DefaultScope.get_current_instance()
    init_default_scope('mmpretrain')
    with quiet(), TemporaryDirectory() as temporary:
        names = Path(temporary) / 'images.txt'
        names.write_text('\n'.join(paths))
        dataset = THEIRS.build(dict(type='CustomDataset', ann_file=str(names), with_label=False, pipeline=pipeline))
    if scope is not None:
        init_default_scope(scope.scope_name)
    return settings, dataset
