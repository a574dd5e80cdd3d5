"""What is compared: a pretraining config of ours with its variants, and mmpretrain's MAE of the same size.

A contender trains by its project's own code: for both, MMEngine's ``train_step`` with the hooks of an iteration, so
that what MMEngine costs is in the figure. The third, the authors' code, is in :mod:`mae_plugin.benchmark.authors`.
"""

import copy
import itertools
import logging
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement
from timm.layers import to_2tuple
from torch import Tensor, nn
from torch.utils.data import Dataset

from mae_plugin.datasets.sample_key import SampleKey
from mae_plugin.models import MaskedAutoencoder
from mae_plugin.models.plain import PARTS, plain_loss
from mae_plugin.registry import DATASETS, MODELS
from mae_plugin.utils.overrides import apply_overrides
from mae_plugin.weights.formats import from_plugin, to_plugin

# What switches a technique on, and off. The exact ones; each keeps the authors' mathematics.
EXACT = {
    'compile': ('default_hooks.fast.compile={}', True, False),
    'timed_attention': ('default_hooks.fast.timed_attention={}', True, False),
    'cuda_graph': ('default_hooks.fast.cuda_graph={}', True, False),
    'fused': ('+optim_wrapper.optimizer.fused={}', True, False),
    'prefetch': ('+train_cfg.prefetch={}', True, False),
    'with_cp': ('+model.backbone.with_cp={0} +model.neck.with_cp={0}', True, False),
    # Already the default, to be switched off: few parameter groups.
    'grouped': ('optim_wrapper.constructor={}', 'mae_plugin.GroupedOptimWrapperConstructor',
                'DefaultOptimWrapperConstructor'),
}
FAST = ('compile', 'timed_attention', 'fused', 'prefetch')  # what `fast` switches on; a graph pays for small batches
# Opt-ins that are not the authors' numerics: their gate is reported and stops nothing.
OTHER_NUMERICS = {
    'bf16_residual': '+model.backbone.bf16_residual=True +model.neck.bf16_residual=True',
    'float8': "+custom_hooks=[{'type':'mae_plugin.Float8Hook'}]",
}
_DTYPES = ('float32', 'bfloat16', 'float16')
NUM_BATCHES = 4  # different ones, in rotation
_counter = itertools.count()


def variant_options(variant: str) -> list[str]:
    """The ``--cfg-options`` of a variant.

    ``''`` is the config as it is; ``compile`` and the other names of :data:`EXACT` switch one technique on,
    ``no-compile`` one off, ``fast`` all of :data:`FAST` on, ``fast-compile`` all but one of them, ``fast+cuda_graph``
    one more; the names of :data:`OTHER_NUMERICS` an opt-in. ``plain`` (all) and ``plain-head`` (a part) take the loss
    of :mod:`mae_plugin.models.plain`, which needs no options. ``name:key=value,key=value`` is any other.

    Raises:
        ValueError: If there is no such variant.
    """
    if ':' in variant:
        return re.split(r',(?=\+?[\w.]+=)', variant.partition(':')[2])
    words = {name: (on, off) for name, (options, *values) in EXACT.items()
             for on, off in [[options.format(value).split() for value in values]]}
    if variant in ('', 'plain') or variant.removeprefix('plain-') in PARTS:
        return []
    if variant in words:
        return words[variant][0]
    if variant.removeprefix('no-') in words:
        return words[variant.removeprefix('no-')][1]
    if variant in OTHER_NUMERICS:
        return OTHER_NUMERICS[variant].split()
    match = re.fullmatch(r'fast(?:([-+])(\w+))?', variant)
    if match and (match[2] is None or match[2] in {**words, **OTHER_NUMERICS}):
        options = [option for name in FAST for option in words[name][0]]
        if match[1] == '+':
            options += variant_options(match[2])
        elif match[1] == '-':
            options += words[match[2]][1]  # the later one counts
        return options
    raise ValueError(
        f"there is no variant '{variant}': there are {', '.join([*EXACT, *OTHER_NUMERICS])}, each also as no-NAME; "
        f"fast, fast-NAME, fast+NAME; plain, {', '.join(f'plain-{part}' for part in PARTS)}; and NAME:key=value,...")


def check_dtype(dtype: str, device: str | torch.device) -> None:
    """Refuse a precision that ``device`` does not have.

    Raises:
        ValueError: Then; the message has those there are.
    """
    has = ['float32', 'bfloat16']
    name = 'the CPU'
    if torch.device(device).type == 'cuda':
        name = torch.cuda.get_device_name(device)
        has = [*_DTYPES] if torch.cuda.get_device_capability(device)[0] >= 8 else ['float32', 'float16']
    if dtype not in has:
        raise ValueError(f'--dtype {dtype}: {name} has {", ".join(has)}')


@DATASETS.register_module()
class RandomImages(Dataset):
    """Random images in memory: a loader without files and decoding.

    Args:
        shape: (C, H, W).
        length: How many images there seem to be.
        distinct: How many there are.
    """

    def __init__(self, shape: Sequence[int], length: int = 1_000_000, distinct: int = 64) -> None:
        generator = torch.Generator().manual_seed(0)
        self.images = torch.randint(0, 256, (distinct, *shape), dtype=torch.uint8, generator=generator)
        self.length, self.metainfo = length, {}

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, key: int | SampleKey) -> dict:
        """What ``PackUnlabelled`` gives."""
        key = SampleKey.of(key)
        return dict(inputs=self.images[key.index % len(self.images)],
                    data_samples=BaseDataElement(metainfo=dict(sample_key=tuple(key))))


def images_of(cfg: Config, batch: int, count: int, device: str) -> list[Tensor]:
    """``count`` random batches, uint8 (batch, C, H, W), on ``device``."""
    generator = torch.Generator().manual_seed(1)
    shape = (batch, cfg.model.backbone.get('in_chans', 3), *to_2tuple(cfg.model.backbone.get('img_size', 224)))
    return [torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator).to(device) for _ in range(count)]


def built_model(cfg: Config) -> MaskedAutoencoder:
    """The config's model with random weights, the same each time, on the CPU.

    Raises:
        ValueError: If it is no masked autoencoder.
    """
    cfg = copy.deepcopy(cfg.get('model') or {})
    if cfg.get('type') != 'mae_plugin.MaskedAutoencoder':
        raise ValueError(f"model.type='{cfg.get('type')}': a config of pretraining is needed, whose model is "
                         "'mae_plugin.MaskedAutoencoder'")
    cfg.init_cfg = cfg.backbone.init_cfg = None
    torch.manual_seed(0)  # before the model is built: the bias of the patch embedding keeps its first values
    model = MODELS.build(cfg)
    model.init_weights()
    return model


class Contender(ABC):
    """One side of a comparison: a model with its optimizer, and its project's way to train a batch.

    Attributes:
        model: The model.
        optimizer: Its optimizer of torch.
        ends: The modules whose output ends the encoder and the decoder.
        format: How its project names weights, a key of :data:`~mae_plugin.weights.formats.FORMATS`.
        dtype: Precision of the matrix products.
        warnings: What was logged as a warning: of techniques that cannot be had here.
    """

    format = 'plugin'
    model: nn.Module
    optimizer: torch.optim.Optimizer
    ends: tuple[nn.Module, nn.Module]
    dtype: str
    warnings: Sequence[str] = ()

    @abstractmethod
    def prepare(self, imgs: Tensor):
        """A batch of uint8 images (B, C, H, W) on the device as this contender takes it."""

    @abstractmethod
    def train(self, batches: Iterable) -> Tensor | float:
        """Train on prepared batches in turn, with everything that belongs to a step; the loss of the last one."""

    def set_lr(self, lr: float) -> None:
        """Set the learning rate of the next step."""
        for group in self.optimizer.param_groups:
            if isinstance(group['lr'], Tensor):
                group['lr'].fill_(lr)
            else:
                group['lr'] = lr

    def load(self, state: dict[str, Tensor]) -> None:
        """Load weights that have our names."""
        theirs, homeless = from_plugin(state, self.format)
        assert not homeless, homeless
        self.model.load_state_dict(theirs)

    def our_names(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Tensors, as gradients, by our names."""
        ours, unknown = to_plugin(tensors, self.format)
        assert not unknown, unknown
        return ours

    @abstractmethod
    def close(self) -> None:
        """Free what it holds."""


class MMEngineContender(Contender):
    """A contender that trains by MMEngine: ``train_step`` between the hooks of an iteration.

    Args:
        cfg: Config of the run; its data are replaced by random images.
        state: Weights by our names.
        batch: Batch size.
        work_dir: For what hooks write.
    """

    def __init__(self, cfg: Config, state: dict[str, Tensor], batch: int, work_dir: Path) -> None:
        # As tools/train.py: all of MMEngine's preparation, and the hooks'; only the loop is left to the caller.
        self.runner = runner = runner_on_random_images(cfg, batch, work_dir)
        self.warnings = _warnings_of(runner.logger)
        self.model = runner.model
        self.model.init_weights = lambda: self.load(state)
        runner._train_loop = runner.build_train_loop(runner._train_loop)
        runner.train_loop.run = self._begin
        runner.train()
        self.optimizer = runner.optim_wrapper.optimizer

    def _begin(self) -> nn.Module:
        self.runner.call_hook('before_train')
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        return self.runner.model

    def prepare(self, imgs: Tensor) -> dict:
        """See :class:`Contender`."""
        return dict(inputs=imgs)

    def train(self, batches: Iterable[dict]) -> Tensor | float:
        """See :class:`Contender`."""
        runner, loop = self.runner, self.runner.train_loop
        for batch in batches:
            runner.call_hook('before_train_iter', batch_idx=loop._iter, data_batch=batch)
            outputs = runner.model.train_step(batch, runner.optim_wrapper)
            runner.call_hook('after_train_iter', batch_idx=loop._iter, data_batch=batch, outputs=outputs)
            loop._iter += 1
        return outputs['loss']

    def close(self) -> None:
        """See :class:`Contender`."""
        self.runner.call_hook('after_train')


class PluginContender(MMEngineContender):
    """This plugin.

    Args:
        cfg: A pretraining config.
        state: Weights by our names.
        batch: Batch size.
        dtype: Precision, or None for the config's.
        work_dir: For what hooks write.
        variant: See :func:`variant_options`.

    Raises:
        ValueError: If the config's wrapper cannot have another precision.
    """

    def __init__(self, cfg: Config, state: dict[str, Tensor], batch: int, dtype: str | None, work_dir: Path,
                 variant: str = '') -> None:
        cfg = copy.deepcopy(cfg)
        apply_overrides(cfg, variant_options(variant))
        wrapper = cfg.optim_wrapper
        if dtype and wrapper.get('type') != 'mae_plugin.AutocastOptimWrapper':
            raise ValueError(f"--dtype {dtype}: optim_wrapper.type='{wrapper.get('type')}' of the config has a "
                             "precision of its own; 'mae_plugin.AutocastOptimWrapper' takes any")
        if dtype:
            wrapper.dtype = dtype
        self.dtype = wrapper.get('dtype', 'float32')
        if wrapper.get('constructor') == 'DefaultOptimWrapperConstructor':
            wrapper.paramwise_cfg = dict(bias_decay_mult=0., norm_decay_mult=0.)
        super().__init__(cfg, state, batch, work_dir)
        parts = PARTS if variant == 'plain' else [variant.removeprefix('plain-')] if 'plain-' in variant else []
        if parts:
            self.model.loss = lambda imgs, data_samples=None: dict(loss=plain_loss(
                self.model, imgs, self.model.masking(imgs, self.model._grid(imgs), data_samples), parts))
        self.ends = (self.model.backbone.norm, self.model.neck.decoder_pred)


class MMPretrainContender(MMEngineContender):
    """mmpretrain's MAE of the same size, by its own config: model, optimizer wrapper, constructor and hooks.

    Args:
        cfg: Our config, which gives the sizes.
        state: Weights by our names.
        batch: Batch size.
        dtype: Precision; None is its own, float16 on a GPU and float32 on the CPU, where its wrapper does not run.
        work_dir: For what hooks write.
        merged: Merge parameter groups of equal settings, which MMEngine's constructor does not.

    Raises:
        ValueError: If mmpretrain is not installed, or its MAE cannot have the config's sizes.
    """

    format = 'mmpretrain'

    def __init__(self, cfg: Config, state: dict[str, Tensor], batch: int, dtype: str | None, work_dir: Path,
                 merged: bool = False) -> None:
        try:
            import mmpretrain
        except ImportError as error:
            raise ValueError(f'--against mmpretrain: it cannot be imported ({error})') from error
        from mmpretrain.structures import DataSample
        cuda = torch.cuda.is_available()
        self.dtype = dtype = dtype or ('float16' if cuda else 'float32')
        shipped = Path(mmpretrain.__file__).parent / '.mim/configs/mae/mae_vit-base-p16_8xb512-amp-coslr-300e_in1k.py'
        theirs = Config.fromfile(shipped)
        _give_sizes(theirs, cfg)
        if dtype == 'float32':
            theirs.optim_wrapper.type = 'OptimWrapper'
            del theirs.optim_wrapper['loss_scale']
        elif not cuda:
            theirs.optim_wrapper.update(type='mae_plugin.AutocastOptimWrapper', dtype=dtype)
            del theirs.optim_wrapper['loss_scale']
        elif dtype != 'float16':
            theirs.optim_wrapper.dtype = dtype
        if merged:
            theirs.optim_wrapper.constructor = 'mae_plugin.GroupedOptimWrapperConstructor'
            theirs.optim_wrapper.paramwise_cfg = dict(no_decay=('1d', ))
        init_default_scope('mmpretrain')
        super().__init__(theirs, state, batch, work_dir)
        self.ends = (self.model.backbone.norm1, self.model.neck.decoder_pred)
        self._data_sample = DataSample

    def prepare(self, imgs: Tensor) -> dict:
        """Blue first, as its loader gives them, and a data sample each."""
        return dict(inputs=imgs.flip(1), data_samples=[self._data_sample() for _ in imgs])


def _give_sizes(theirs: Config, cfg: Config) -> None:
    """Make mmpretrain's config one of the model in ``cfg``."""
    ours = built_model(cfg)
    encoder, decoder = ours.backbone, ours.neck
    if encoder.patch_size[0] != encoder.patch_size[1] or encoder.img_size[0] != encoder.img_size[1]:
        raise ValueError(f'--against mmpretrain: its MAE has square images and patches, not {encoder.img_size} and '
                         f'{encoder.patch_size}')
    if encoder.in_chans != 3:
        raise ValueError(f'--against mmpretrain: its MAE has 3 channels, not in_chans={encoder.in_chans}')
    patch, num_patches = encoder.patch_size[0], encoder.grid[0] * encoder.grid[1]
    block, decoder_block = encoder.blocks[0], decoder.decoder_blocks[0]
    theirs.model.backbone.update(
        img_size=encoder.img_size[0], patch_size=patch, mask_ratio=ours.masking.mask_ratio,
        arch=dict(embed_dims=encoder.embed_dim, num_layers=encoder.depth, num_heads=block.attn.num_heads,
                  feedforward_channels=block.mlp.fc1.out_features))
    width = decoder.decoder_embed.out_features
    theirs.model.neck.update(
        num_patches=num_patches, patch_size=patch, embed_dim=encoder.embed_dim, decoder_embed_dim=width,
        decoder_depth=len(decoder.decoder_blocks), decoder_num_heads=decoder_block.attn.num_heads,
        mlp_ratio=decoder_block.mlp.fc1.out_features / width)
    theirs.model.head.update(patch_size=patch, norm_pix=ours.head.target.norm_pix)
    preprocessor = ours.data_preprocessor
    theirs.data_preprocessor.update(mean=preprocessor.mean.flatten().tolist(), std=preprocessor.std.flatten().tolist())


def runner_on_random_images(cfg: Config, batch: int, work_dir: Path) -> Runner:
    """A :func:`silent_runner` on :class:`RandomImages`, with at most as many workers as there are other cores."""
    channels = len(cfg.get('data_preprocessor', {}).get('mean') or cfg.model.data_preprocessor.mean)
    shape = (channels, *to_2tuple(cfg.model.backbone.get('img_size', 224)))
    workers = min(cfg.train_dataloader.get('num_workers', 0), max(torch.get_num_threads() - 1, 0))
    dataset = dict(type='mae_plugin.RandomImages', shape=shape)
    return silent_runner(cfg, dataset, batch, workers, bool(workers), work_dir)


def silent_runner(cfg: Config, dataset: dict, batch: int, workers: int, persistent: bool, work_dir: Path) -> Runner:
    """A runner of ``cfg`` on other data, silent, without validation and checkpoints.

    Memory is pinned only where it helps.
    """
    cfg = copy.deepcopy(cfg)
    loader = cfg.train_dataloader
    loader.dataset = dataset
    loader.update(batch_size=batch, num_workers=workers, persistent_workers=persistent,
                  pin_memory=bool(loader.get('pin_memory')) and torch.cuda.is_available())
    for part in (cfg.model, cfg.model.get('backbone') or {}):
        part['init_cfg'] = None
    for kind in ('val', 'test'):
        for part in ('dataloader', 'cfg', 'evaluator'):
            cfg[f'{kind}_{part}'] = None
    cfg.default_hooks.checkpoint = None
    cfg.update(work_dir=str(work_dir), log_level='WARNING', resume=False, load_from=None, launcher='none',
               experiment_name=f'benchmark{next(_counter)}', visualizer=None)
    with quiet():
        return Runner.from_cfg(cfg)


def _warnings_of(logger: logging.Logger) -> list[str]:
    """A list that takes what ``logger`` is told as a warning or an error, in place of its other handlers."""
    messages: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: messages.append(record.getMessage())
    logger.handlers[:] = [handler]
    return messages


@contextmanager
def quiet():
    """No lines of MMEngine but errors."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(disabled)

