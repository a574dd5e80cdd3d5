"""Defects of steel found by the encoder of ``configs/pretrain/mae_vit-small-p16_neu.py``; NEU-DET has boxes, no masks.

    python tools/train.py configs/detection/vitdet_faster-rcnn_vit-small_neu.py
"""
_base_ = [
    '../_base_/default_runtime.py', '../_base_/datasets/neu_det.py',
    '../_base_/models/vitdet_mask-rcnn_vit-base.py', '../_base_/schedules/finetune.py'
]
model = dict(
    type='FasterRCNN',
    data_preprocessor=dict(pad_mask=False),
    backbone=dict(
        embed_dim=384,
        num_heads=6,
        rel_pos=dict(size=28),
        bf16=True,
        init_cfg=dict(checkpoint='work_dirs/mae_vit-small-p16_neu/iter_20000.pth')),
    neck=dict(in_channels=384),
    roi_head=dict(bbox_head=dict(num_classes=6), mask_roi_extractor=None, mask_head=None))
# mmcv's RoIAlign has no bfloat16, and no half precision at all on the CPU: only the encoder has.
optim_wrapper = dict(
    dtype='float32', paramwise_cfg=dict(layer_decay_rate=0.8), optimizer=dict(lr=1e-4, weight_decay=0.1))
auto_scale_lr = dict(base_batch_size=16)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=250),
    dict(type='CosineAnnealingLR', eta_min_ratio=1e-3, by_epoch=False, begin=250),
]
train_cfg = dict(max_iters=9000, val_interval=900)  # 144,000 images: 100 epochs of 1,440
default_hooks = dict(checkpoint=dict(interval=500))
