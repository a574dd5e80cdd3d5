"""Pretrain on the built-in scenes of digits, then classify, detect and segment, each also from scratch.

    make demo
"""
work_dir = 'work_dirs/demo'
minutes = dict(
    pretrain=8.5, classify=1.6, classify_scratch=1.6, segment=2.4, segment_scratch=2.4, detect=1.4, detect_scratch=1.4)
_cls = 'configs/classification/vit-mini_digits.py'
_det = 'configs/detection/vitdet_faster-rcnn_vit-mini_digits.py'
_seg = 'configs/segmentation/linear_vit-mini_digits.py'


def _two(batch_size):
    """Two processes with half the batch each: small batches keep no second thread busy (docs/benchmarks.md)."""
    return dict(
        gpus=2, cfg_options={'train_dataloader.batch_size': batch_size // 2, 'train_dataloader.num_workers': 1})


def _from_scratch(stage):
    return {**stage, 'cfg_options': {**stage['cfg_options'], 'model.backbone.init_cfg': None}}


stages = [
    dict(name='pretrain', config='configs/pretrain/mae_vit-mini-p8_digits.py', **_two(16)),
    dict(name='classify', config=_cls, init_from='pretrain', **_two(32)),
    dict(name='classify_scratch', config=_cls, **_from_scratch(_two(32))),
    dict(name='segment', config=_seg, init_from='pretrain', **_two(8)),
    dict(name='segment_scratch', config=_seg, **_from_scratch(_two(8))),
    dict(name='detect', config=_det, init_from='pretrain', **_two(4)),
    dict(name='detect_scratch', config=_det, **_from_scratch(_two(4))),
]
del _two, _from_scratch
