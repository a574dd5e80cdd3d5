"""What the data loaders come to: the order of the images, batches, data sets and their pipelines."""

from . import data
from .parts import Part, bare
from .published import Recipe

_WHERE = (  # where data lies, and what only costs time
    'data_root', 'data_prefix', 'ann_file', 'backend_args', 'storage', 'lazy_init', 'serialize_data',
    'max_refetch')
_SPEED = ('batch_size', 'num_workers', 'persistent_workers', 'pin_memory', 'prefetch_factor', 'collate_fn')


def loader_facts(cfg, recipe: Recipe) -> dict[str, object]:
    """How the images of an epoch become batches; how many are in one is read elsewhere."""
    loader = Part(cfg.train_dataloader, 'train_dataloader')
    loader.ignore('dataset', *_SPEED)
    drop = loader('drop_last', False)
    sampler = Part(loader('sampler'), 'train_dataloader.sampler')
    sampler.ignore('seed', 'round_up')
    facts = {'order of images': 'random' if sampler('shuffle', True) else 'as listed', 'short batches': 'none'}
    if sampler.type == 'KeyedSampler':
        multiple = sampler('epoch_multiple')
        facts['images beyond the last whole batch'] = 'in the next epoch' if multiple in (
            None, 1) else 'left out' if multiple == recipe.batch else f'left out, of {multiple}'
    elif sampler.type == 'InfiniteSampler':
        facts['images beyond the last whole batch'] = 'in the next epoch'
    elif sampler.type == 'RepeatFactorSampler':
        facts['repeat factor of rare classes'] = sampler('threshold')
    elif sampler.type == 'DefaultSampler':
        facts.update({'short batches': 'none' if drop else 'one an epoch', 'images beyond the last whole batch':
                      'left out' if drop else 'a short batch'})
    else:
        facts['not understood: train_dataloader.sampler'] = sampler.type
    return {**facts, **sampler.unread(), **loader.unread()}


def dataset_facts(cfg) -> dict[str, object]:
    """The data sets of training and testing, and what their pipelines do."""
    scope = cfg.get('default_scope')
    facts, dataset = _innermost(cfg, 'train')
    pipeline = dataset('pipeline', ())
    facts.update(data.pipeline_facts(pipeline, f'{dataset.path}.pipeline', 'train',
                                     cfg.model.backbone.get('img_size', 224)))
    facts['images held out'] = dataset('holdout') or None
    repeats, distance = dataset('repeats') or 1, dataset('repeat_distance')
    facts['crops of a decoded image'] = f'{repeats}, {distance or "32768"} apart' if repeats > 1 else None
    mode = dataset('mode') or 'exact'
    facts['how crops are made'] = f"mode '{mode}'" if mode != 'exact' else None
    if scope == 'mmdet':
        filters = Part(dataset('filter_cfg'), f'{dataset.path}.filter_cfg')
        facts['images without an object'] = 'left out' if filters('filter_empty_gt') else 'in'
        facts['least side of an image'] = filters('min_size') or 0
        facts.update(filters.unread())
    facts.update(dataset.unread())
    if cfg.get('test_dataloader') and scope in ('mmpretrain', 'mmdet', 'mmseg') and (
            bare(cfg.model.type) not in ('MAE', 'MaskedAutoencoder')):
        found, dataset = _innermost(cfg, 'test')
        dataset.ignore('test_mode', 'with_label')
        pipeline = dataset('pipeline', ())
        facts.update({**found, **data.pipeline_facts(pipeline, f'{dataset.path}.pipeline', 'test'), **dataset.unread()})
    if scope == 'mmseg':
        facts.setdefault('test scales', 'one')
    return facts


def _innermost(cfg, phase: str) -> tuple[dict[str, object], Part]:
    """Facts of the wrappers of a data set, and the data set."""
    facts, dataset = {}, Part(cfg[f'{phase}_dataloader'].dataset, f'{phase}_dataloader.dataset')
    while 'dataset' in dataset:  # a wrapper
        inner = dataset('dataset')
        if dataset.type == 'ClassBalancedDataset':
            facts['repeat factor of rare classes'] = f'{dataset("oversample_thr")}, rounded up'
        elif dataset.type == 'LabelShare':
            dataset.ignore('seed')
            if (share := dataset('share', 1.)) != 1:
                facts[f'not understood: {dataset.path}.share'] = share
        elif dataset.type != 'RepeatDataset':
            facts[f'not understood: {dataset.path}'] = dataset.type
        elif 'max_iters' in cfg.train_cfg:
            dataset.ignore('times')  # nothing of the run is counted in epochs
        facts.update(dataset.unread())
        dataset = Part(inner, f'{dataset.path}.dataset')
    dataset.ignore(*_WHERE)
    usual = dict(train='train', test='val')[phase]
    split = dataset('split', usual)
    if split not in (usual, ''):
        facts[f'{phase} split'] = split
    return facts, dataset
