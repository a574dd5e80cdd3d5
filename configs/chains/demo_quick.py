"""The chain of ``demo.py`` in a fraction of its iterations: shows that everything works, not what it is worth.

    DEMO=quick make demo
"""
work_dir = 'work_dirs/demo_quick'
minutes = dict(
    pretrain=0.5, classify=0.4, classify_scratch=0.4, segment=0.4, segment_scratch=0.4, detect=0.5, detect_scratch=0.5)
_cls = 'configs/classification/vit-mini_digits.py'
_det = 'configs/detection/vitdet_faster-rcnn_vit-mini_digits.py'
_seg = 'configs/segmentation/linear_vit-mini_digits.py'


def _short(iters, batch_size):
    """As in ``demo.py``, two processes with half the batch each, and a shorter run with a shorter warm-up."""
    return dict(gpus=2, cfg_options={
        'train_dataloader.batch_size': batch_size // 2, 'train_dataloader.num_workers': 1,
        'train_cfg.max_iters': iters, 'train_cfg.val_interval': iters, 'default_hooks.checkpoint.interval': iters,
        'default_hooks.logger.interval': iters // 5, 'param_scheduler.0.end': 10, 'param_scheduler.1.begin': 10})


def _from_scratch(stage):
    return {**stage, 'cfg_options': {**stage['cfg_options'], 'model.backbone.init_cfg': None}}


stages = [
    dict(name='pretrain', config='configs/pretrain/mae_vit-mini-p8_digits.py', **_short(300, 16)),
    dict(name='classify', config=_cls, init_from='pretrain', **_short(60, 32)),
    dict(name='classify_scratch', config=_cls, **_from_scratch(_short(60, 32))),
    dict(name='segment', config=_seg, init_from='pretrain', **_short(60, 8)),
    dict(name='segment_scratch', config=_seg, **_from_scratch(_short(60, 8))),
    dict(name='detect', config=_det, init_from='pretrain', **_short(150, 4)),
    dict(name='detect_scratch', config=_det, **_from_scratch(_short(150, 4))),
]
del _short, _from_scratch
