"""Defects of steel found by the encoder of ``configs/pretrain/mae_vit-base-p16_neu.py``.

    python tools/train.py configs/detection/vitdet_faster-rcnn_vit-base_neu.py
"""
_base_ = './vitdet_faster-rcnn_vit-small_neu.py'
model = dict(
    backbone=dict(
        embed_dim=768,
        num_heads=12,
        init_cfg=dict(checkpoint='work_dirs/mae_vit-base-p16_neu/iter_20000.pth')),
    neck=dict(in_channels=768))
