"""What a config comes to: facts by name, for this plugin's configs and for mmpretrain's, mmdet's and mmseg's."""

import math
import re
from pathlib import Path
from typing import NamedTuple

from mmengine.registry import MODELS

from . import data, models
from .groups import build_model, group_facts
from .loaders import dataset_facts, loader_facts
from .lr_curve import of_schedulers
from .parts import Part, bare, flat, read, with_defaults
from .published import Recipe

_PARAMWISE = (  # settings whose effect the parameter groups show
    'custom_keys', 'bias_lr_mult', 'bias_decay_mult', 'norm_decay_mult', 'flat_decay_mult', 'dwconv_decay_mult',
    'layer_decay_rate', 'decay_rate', 'decay_type', 'num_layers', 'no_decay', 'bypass_duplicate')
HALF = 'half precision'  # float16 and bfloat16: both are what is published
_NO_EFFECT = {  # hooks without effect on the weights
    'CheckpointHook', 'SyncBuffersHook', 'IterTimerHook', 'LoggerHook', 'EmptyCacheHook', 'KNNHook'}


class _Run(NamedTuple):
    """Images of a step; iterations of a run and of an epoch, if known, and of an epoch over the published one's."""

    batch: int
    length: int | None
    epoch: int | None
    pace: float


def read_facts(cfg, recipe: Recipe, batch: int) -> dict[str, object]:
    """All facts of a config, as far as they can be compared with those of ``recipe``.

    Not compared are the decoders of images and what they do about the orientation noted in a file, the seed, where data
    lies, and what only costs time.

    Args:
        cfg: The config.
        recipe: The published recipe, whose learning rate says where to look, and how many images are an epoch.
        batch: Images of a step, over all processes.
    """
    run = _run(cfg, recipe, batch)
    facts = {'batch': batch, 'iterations': run.length, **loader_facts(cfg, recipe), **_optimizer(cfg), **_model(cfg)}
    lowest = 1.
    try:
        groups = group_facts(cfg, build_model(cfg))
        if isinstance(groups['layer decay'], float):
            lowest = groups['layer decay'] ** (facts.get('encoder.depth', 0) + 1)
    except Exception as error:  # a library's model or constructor may fail in any way
        groups = {'not understood: the optimizer groups': f'{type(error).__name__}: {error}'}
    return {**facts, **groups, **_lr(cfg, recipe, run, lowest), **_hooks(cfg), **_file_name(cfg), **dataset_facts(cfg),
            'resumes by itself': bool(cfg.get('resume', False)), 'seeds of the processes': _seeds(cfg)}


def accumulated(cfg) -> int:
    """Iterations of a step."""
    return cfg.optim_wrapper.get('accumulative_counts', 1)


def _run(cfg, recipe: Recipe, batch: int) -> _Run:
    """How long the run is."""
    train, loader = cfg.train_cfg, cfg.train_dataloader
    whole = math.floor if loader.get('drop_last', False) else math.ceil
    iteration = batch / accumulated(cfg)
    epoch = whole(recipe.images / iteration) if recipe.images else None
    if train.get('max_iters'):
        return _Run(batch, train['max_iters'], epoch, recipe.batch / iteration)
    if epoch is None:
        return _Run(batch, None, None, 1.)
    return _Run(batch, train['max_epochs'] * epoch, epoch, epoch / (recipe.images // recipe.batch))


def _seeds(cfg) -> str:
    return 'one each' if (cfg.get('randomness') or {}).get('diff_rank_seed', False) else 'one for all'


def _file_name(cfg) -> dict[str, object]:
    """Whether a name such as ``8xb512`` says what the config does."""
    named = re.search(r'(\d+)xb(\d+)', Path(cfg.filename or '').name)
    size = cfg.train_dataloader.get('batch_size')
    wrong = named and int(named[2]) != size
    return {'images of a process': f'{size}, and the file name says {named[2]}'} if wrong else {}


def _optimizer(cfg) -> dict[str, object]:
    wrapper = Part(cfg.optim_wrapper, 'optim_wrapper')
    wrapper.type = wrapper.type or 'OptimWrapper'
    wrapper.ignore('constructor', 'accumulative_counts', 'cache_enabled')  # read elsewhere; of no effect
    paramwise = Part(wrapper('paramwise_cfg'), 'optim_wrapper.paramwise_cfg')
    paramwise.ignore(*_PARAMWISE)
    dtype = wrapper('dtype', None)
    if wrapper.type in ('AmpOptimWrapper', 'AutocastOptimWrapper'):
        precision = 'float32' if dtype == 'float32' else HALF
    elif wrapper.type == 'OptimWrapper':
        precision = 'float32, and the key fp16 is ignored by MMEngine' if 'fp16' in cfg else 'float32'
    else:
        precision = wrapper.type
    optimizer = Part(wrapper('optimizer'), 'optim_wrapper.optimizer')
    optimizer.ignore('lr', 'fused', 'foreach')
    facts = {'precision': precision, 'loss scale': wrapper('loss_scale', 'dynamic'),
             'gradient clipping': wrapper('clip_grad'), 'optimizer': optimizer.type,
             'weight decay': float(optimizer('weight_decay', 0.))}
    if optimizer.type == 'AdamW':
        facts['optimizer betas'] = tuple(optimizer('betas', (0.9, 0.999)))
        facts['optimizer eps'] = optimizer('eps', 1e-8)
    elif optimizer.type in ('LARS', 'Lars'):
        theirs = optimizer.type == 'LARS'
        facts.update({
            'optimizer': 'LARS', 'optimizer momentum': optimizer('momentum', 0 if theirs else 0.9),
            'trust coefficient': optimizer('eta' if theirs else 'trust_coeff', 0.001),
            'learning rate enters': 'before momentum' if theirs else 'after momentum',
            'parameters of one dimension have a trust ratio': theirs})
    elif optimizer.type == 'SGD':
        facts['optimizer momentum'] = optimizer('momentum', 0)
    return {**facts, **optimizer.unread(), **paramwise.unread(), **wrapper.unread()}


def _lr(cfg, recipe: Recipe, run: _Run, lowest: float) -> dict[str, object]:
    """The effective learning rate: its nominal value, and the shares of it at the published curve's points.

    ``lowest`` is the factor of the first layer, whose rate ends elsewhere where schedulers have an absolute minimum.
    """
    scale = cfg.get('auto_scale_lr') or {}
    follows = bool(scale.get('enable', False))
    lr = cfg.optim_wrapper.optimizer['lr'] * (run.batch / scale['base_batch_size'] if follows else 1)
    facts = {'lr follows the batch': follows, 'lr': lr}
    schedulers = cfg.get('param_scheduler') or []
    schedulers = schedulers if isinstance(schedulers, list) else [schedulers]
    if run.length is None:
        return {**facts, 'not understood: the length of the run': 'epochs of a data set of unknown size'}
    try:
        at, first = (of_schedulers(schedulers, rate, run.length, run.epoch, cfg.train_cfg.get('max_epochs'))
                     for rate in (lr, lr * lowest))
    except ValueError as error:
        return {**facts, 'not understood: param_scheduler': str(error)}
    curve = recipe.curve
    points = {name: curve.in_run(i, run.length, run.pace) for name, i in curve.points.items()}
    facts.update({f'lr, {name}': at(i) / lr for name, i in points.items()})
    if lowest != 1:
        facts['lr, last iteration, first layer'] = first(run.length - 1) / (lr * lowest)
    return facts


def _model(cfg) -> dict[str, object]:
    model = Part(cfg.model, 'model')
    preprocessor = {**cfg.get('data_preprocessor', {}), **(model('data_preprocessor') or {})}
    scope = cfg.get('default_scope')
    preprocessor.setdefault('type', {'mmpretrain': 'ClsDataPreprocessor'}.get(scope))
    model.ignore('init_cfg', 'pretrained')
    facts = {**read(model('backbone'), 'model.backbone', models.ENCODERS),
             **read(preprocessor, 'data_preprocessor', data.PREPROCESSORS)}
    if model.type in ('MaskedAutoencoder', 'MAE'):
        for name, readers in (('masking', models.MASKINGS), ('neck', models.DECODERS),
                              ('head', models.RECONSTRUCTION_HEADS)):
            if name in model:
                facts.update(read(model(name), f'model.{name}', readers))
    elif model.type == 'ImageClassifier':
        facts.update(_classifier(model))
    else:
        facts.update(_dense(model, scope))
    return {**facts, **model.unread()}


def _classifier(model: Part) -> dict[str, object]:
    facts, neck = {}, model('neck')
    if neck is not None:
        facts.update(read(neck, 'model.neck', models.FEATURE_NORMS))
    facts.update(read(model('head'), 'model.head', models.CLASSIFIERS))
    train_cfg = model('train_cfg') or {}
    alphas = {bare(augment['type']): augment['alpha'] for augment in train_cfg.get('augments', ())}
    if set(alphas) == {'Mixup', 'CutMix'} and not train_cfg.get('probs'):
        facts.update(data.mixing(alphas['Mixup'], alphas['CutMix']))
    elif train_cfg:
        facts['not understood: model.train_cfg'] = train_cfg
    return facts


def _dense(model: Part, scope: str) -> dict[str, object]:
    """Pyramid, heads and their settings: leaf by leaf, with the defaults of the library's classes filled in."""
    facts, neck = {'detector' if scope == 'mmdet' else 'segmenter': model.type}, model('neck')
    if neck is not None:
        facts.update(read(neck, 'model.neck', models.PYRAMIDS))
    for name in ('rpn_head', 'roi_head', 'decode_head', 'auxiliary_head', 'train_cfg', 'test_cfg'):
        part = model(name)
        if part:
            facts.update(flat(dense_part(part, scope), name))
    return facts


def dense_part(part, scope: str):
    """A head, or the settings of training or testing, with all defaults, comparable by effect."""
    return with_defaults(part, MODELS, scope)


def _hooks(cfg) -> dict[str, object]:
    facts = {'moving average of the weights': None, 'gradients are sent in': 'float32'}
    for i, hook in enumerate(cfg.get('custom_hooks') or ()):
        hook = Part(hook, f'custom_hooks.{i}')
        if hook.type in _NO_EFFECT:
            continue
        if hook.type == 'EMAHook':
            facts.update(_moving_average(hook, accumulated(cfg)))
        elif hook.type in ('HalfGradientHook', 'Fp16CompresssionHook'):
            facts['gradients are sent in'] = 'float16'
        else:
            facts[f'not understood: {hook.path}'] = hook.type
            continue
        facts.update(hook.unread())
    return facts


def _moving_average(hook: Part, iterations: int) -> dict[str, object]:
    """The decay of a step of some iterations, for MMEngine averages at every iteration."""
    hook.ignore('strict_load', 'device')
    kind = bare(hook('ema_type', 'ExponentialMovingAverage'))
    decay, interval = 1 - hook('momentum', 0.0002), hook('interval', 1)
    return {'moving average of the weights':
            decay ** (iterations / interval) if kind == 'ExponentialMovingAverage' else kind,
            'moving average begins, iteration': hook('begin_iter') or None,
            'moving average begins, epoch': hook('begin_epoch') or None,
            'steps between averages': interval / iterations if interval > iterations else None}
