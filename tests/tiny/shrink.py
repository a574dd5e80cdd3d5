"""Any config of ours made small enough for a test: the same parts in the same places, a thousandth of the work."""

from collections.abc import Callable

from timm.layers import to_2tuple

DEPTH, WIDTH, HEADS = 4, 64, 4
_WIDTHS = ('in_channels', 'embed_dim', 'embed_dims', 'input_features', 'in_features', 'channels')
_CHANNELS = ('in_channels', 'out_channels', 'feat_channels', 'conv_out_channels', 'fc_out_channels', 'channels')
# What numbers of regions and heads are reduced to.
_MOST = dict(nms_pre=50, max_per_img=10, num=32, num_heads=HEADS)
_PIXELS = ('scale', 'crop_size', 'size', 'input_size', 'stride', 'pad_size_divisor')
_LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


def shrink(cfg) -> None:
    """Reduce ``cfg`` in place: model, images, batches of 2, two iterations, no workers, float32, a constant rate."""
    task = cfg.get('default_scope')
    width, size = cfg.model.backbone.embed_dim, max(to_2tuple(cfg.model.backbone.get('img_size', 224)))
    _shrink_backbone(cfg.model.backbone, crops_are_inputs=task in (None, 'mmpretrain'))
    for name, part in cfg.model.items():
        if name != 'backbone':
            _walk(part, lambda node, key, value: _narrow(node, key, value, width))
    _walk(cfg.model, _runs_anywhere)
    cfg.model.init_cfg = None
    for name in _LOADERS:
        cfg[name].update(batch_size=2, num_workers=0, persistent_workers=False, pin_memory=False)
    if task == 'mmpretrain' and size >= 128:
        crop = cfg.model.backbone.img_size
        _walk([cfg[name] for name in _LOADERS], lambda node, key, value: _resize(node, key, value, lambda _: crop))
    elif task in ('mmdet', 'mmseg') and size >= 128:
        divisor = 2 if 'neu' in str(cfg.train_dataloader) else 8
        _walk([cfg.model, *(cfg.get(name) for name in (*_LOADERS, 'tta_pipeline'))],
              lambda node, key, value: _resize(node, key, value, lambda pixels: max(pixels // divisor, 1)))
    cfg.train_cfg.update(max_iters=2, val_interval=2)
    cfg.param_scheduler = []
    cfg.default_hooks.logger.interval = 1
    cfg.optim_wrapper.dtype = 'float32'
    if width > 768:  # compiled once is enough
        cfg.default_hooks.fast.compile = False
    if 'custom_hooks' in cfg:  # fp8 needs torchao, and widths that are not shrunk
        cfg.custom_hooks = [hook for hook in cfg.custom_hooks if hook.type != 'mae_plugin.Float8Hook']
    if cfg.get('recipe'):
        cfg.recipe.batch_size = 2


def _shrink_backbone(backbone, crops_are_inputs: bool) -> None:
    depth = backbone.depth
    for key in ('out_indices', 'window_block_indexes', 'conv_block_indexes'):
        if backbone.get(key):
            backbone[key] = [index % depth * DEPTH // depth for index in backbone[key]]
    if backbone.get('trainable_blocks'):
        backbone.trainable_blocks = min(backbone.trainable_blocks, DEPTH)
    if backbone.get('window_size'):
        backbone.window_size = 3
    if backbone.get('rel_pos') and backbone.rel_pos.get('size'):
        backbone.rel_pos.size = 8
    if crops_are_inputs and max(to_2tuple(backbone.get('img_size', 224))) >= 128:
        backbone.img_size = 4 * backbone.patch_size
    backbone.update(embed_dim=WIDTH, depth=DEPTH, num_heads=HEADS, init_cfg=None)


def _walk(node, change: Callable) -> None:
    """Call ``change(dict, key, value)`` for every entry of every dict below ``node``."""
    if isinstance(node, dict):
        for key, value in list(node.items()):
            change(node, key, value)
            _walk(node[key], change)
    elif isinstance(node, (list, tuple)):
        for value in node:
            _walk(value, change)


def _map_numbers(value, change: Callable):
    if isinstance(value, (list, tuple)):
        return type(value)(_map_numbers(item, change) for item in value)
    return change(value) if type(value) is int else value


def _narrow(node: dict, key: str, value, width: int) -> None:
    if key in _WIDTHS:
        value = node[key] = _map_numbers(value, lambda number: WIDTH if number == width else number)
    if key in _CHANNELS:
        node[key] = _map_numbers(value, lambda number: 16 if number in (128, 256, 512, 768, 1024) else number)
    if key in _MOST and type(value) is int:
        node[key] = min(value, _MOST[key])
    decoder = dict(decoder_embed_dim=32, decoder_depth=1, decoder_num_heads=4)
    if key in decoder:
        node[key] = decoder[key]


def _runs_anywhere(node: dict, key: str, value) -> None:
    if key == 'type' and value in ('SyncBN', 'MMSyncBN'):
        node[key] = 'BN'  # SyncBN needs a GPU
    if key == 'score_thr':
        node[key] = 0.  # what a model that knows nothing is sure of; without detections there are no metrics


def _resize(node: dict, key: str, value, change: Callable) -> None:
    if key in _PIXELS and 'RelPos' not in str(node.get('type')):
        node[key] = _map_numbers(value, change)
