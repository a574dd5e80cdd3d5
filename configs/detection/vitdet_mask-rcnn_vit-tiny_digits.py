"""Digits found and outlined on the built-in scenes, by the encoder of ``configs/pretrain/mae_vit-tiny-p16_digits.py``.

    python tools/train.py configs/detection/vitdet_mask-rcnn_vit-tiny_digits.py

ViTDet with heads made small for a CPU: 64 channels, 64 regions.
"""
_base_ = [
    '../_base_/default_runtime.py', '../_base_/datasets/digits_det.py',
    '../_base_/models/vitdet_mask-rcnn_vit-base.py', '../_base_/schedules/finetune.py'
]
model = dict(
    backbone=dict(
        img_size=128,
        embed_dim=192,
        depth=6,
        num_heads=3,
        window_size=4,
        window_block_indexes=(0, 1, 3, 4),  # 2 and 5 are global
        rel_pos=dict(size=8),
        init_cfg=dict(checkpoint='work_dirs/mae_vit-tiny-p16_digits/iter_1000.pth')),
    neck=dict(in_channels=192, out_channels=64),
    rpn_head=dict(
        in_channels=64, feat_channels=64, num_convs=1, anchor_generator=dict(scales=[4], strides=[4, 8, 16, 32, 64])),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=64),
        bbox_head=dict(
            type='Shared2FCBBoxHead', in_channels=64, conv_out_channels=64, fc_out_channels=256, num_classes=1,
            norm_cfg=None),
        mask_roi_extractor=dict(out_channels=64),
        mask_head=dict(num_convs=2, in_channels=64, conv_out_channels=64, num_classes=1)),
    train_cfg=dict(
        rpn=dict(sampler=dict(num=64)),
        rpn_proposal=dict(nms_pre=400, max_per_img=100),
        rcnn=dict(sampler=dict(num=64))),
    test_cfg=dict(rpn=dict(nms_pre=400, max_per_img=100), rcnn=dict(max_per_img=30)))
# On the CPU mmcv's RoIAlign has no half precision.
optim_wrapper = dict(
    dtype='float32',
    clip_grad=dict(max_norm=10.),
    paramwise_cfg=dict(layer_decay_rate=0.9),
    optimizer=dict(lr=1e-3))
auto_scale_lr = dict(base_batch_size=16)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-9, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', eta_min_ratio=1e-3, by_epoch=False, begin=50),
]
train_cfg = dict(max_iters=300, val_interval=100)  # 4,800 images: 5 epochs of 1,000
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=100))
