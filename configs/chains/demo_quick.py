"""The chain of ``demo.py`` in a fraction of its iterations: shows that everything works, not what it is worth.

    DEMO=quick make demo
"""
work_dir = 'work_dirs/demo_quick'
minutes = dict(
    pretrain=0.7, classify=0.5, classify_scratch=0.5, segment=0.5, segment_scratch=0.5, detect=0.6, detect_scratch=0.6)
_cls = 'configs/classification/vit-tiny_digits.py'
_det = 'configs/detection/vitdet_mask-rcnn_vit-tiny_digits.py'
_seg = 'configs/segmentation/upernet_vit-tiny_digits.py'


def _short(iters, warmup):
    """Options that shorten a run and its warm-up."""
    return {
        'train_cfg.max_iters': iters, 'train_cfg.val_interval': iters, 'default_hooks.checkpoint.interval': iters,
        'default_hooks.logger.interval': max(iters // 10, 1), 'param_scheduler.0.end': warmup,
        'param_scheduler.1.begin': warmup}


_scratch = {'model.backbone.init_cfg': None}
stages = [
    dict(name='pretrain', config='configs/pretrain/mae_vit-tiny-p16_digits.py', cfg_options=_short(60, 10)),
    dict(name='classify', config=_cls, init_from='pretrain', cfg_options=_short(30, 5)),
    dict(name='classify_scratch', config=_cls, cfg_options={**_short(30, 5), **_scratch}),
    dict(name='segment', config=_seg, init_from='pretrain', cfg_options=_short(30, 5)),
    dict(name='segment_scratch', config=_seg, cfg_options={**_short(30, 5), **_scratch}),
    dict(name='detect', config=_det, init_from='pretrain', cfg_options=_short(20, 5)),
    dict(name='detect_scratch', config=_det, cfg_options={**_short(20, 5), **_scratch}),
]
del _short
