"""Pretrain on the built-in scenes of digits, then classify, detect and segment, each also from scratch.

    make demo
"""
work_dir = 'work_dirs/demo'
minutes = dict(
    pretrain=10.5, classify=2.5, classify_scratch=2.5, segment=2.2, segment_scratch=2.2, detect=5.9, detect_scratch=5.9)
_cls = 'configs/classification/vit-tiny_digits.py'
_det = 'configs/detection/vitdet_mask-rcnn_vit-tiny_digits.py'
_seg = 'configs/segmentation/upernet_vit-tiny_digits.py'
_scratch = {'model.backbone.init_cfg': None}
stages = [
    dict(name='pretrain', config='configs/pretrain/mae_vit-tiny-p16_digits.py'),
    dict(name='classify', config=_cls, init_from='pretrain'),
    dict(name='classify_scratch', config=_cls, cfg_options=_scratch),
    dict(name='segment', config=_seg, init_from='pretrain'),
    dict(name='segment_scratch', config=_seg, cfg_options=_scratch),
    dict(name='detect', config=_det, init_from='pretrain'),
    dict(name='detect_scratch', config=_det, cfg_options=_scratch),
]
