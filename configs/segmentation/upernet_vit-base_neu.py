"""Defects of steel segmented by the encoder of ``configs/pretrain/mae_vit-base-p16_neu.py``.

    python tools/train.py configs/segmentation/upernet_vit-base_neu.py
"""
_base_ = './upernet_vit-small_neu.py'
model = dict(
    backbone=dict(
        embed_dim=768,
        num_heads=12,
        init_cfg=dict(checkpoint='work_dirs/mae_vit-base-p16_neu/iter_20000.pth')),
    neck=dict(embed_dim=768),
    decode_head=dict(in_channels=[768, 768, 768, 768], channels=512),
    auxiliary_head=dict(in_channels=768, channels=256))
