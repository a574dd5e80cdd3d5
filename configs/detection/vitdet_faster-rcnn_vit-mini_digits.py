"""Digits found on the built-in scenes, by the encoder of ``configs/pretrain/mae_vit-mini-p8_digits.py``.

    python tools/train.py configs/detection/vitdet_faster-rcnn_vit-mini_digits.py

ViTDet's Faster R-CNN with heads made small for a CPU: 64 channels, 64 regions, two levels, no masks. It learns from 100
labelled images: with all 1,000, and heads as deep as the encoder, it does as well from scratch.
"""
_base_ = [
    '../_base_/default_runtime.py', '../_base_/datasets/digits_det.py',
    '../_base_/models/vitdet_mask-rcnn_vit-base.py', '../_base_/schedules/finetune.py'
]
model = dict(
    type='FasterRCNN',
    data_preprocessor=dict(pad_mask=False),
    backbone=dict(
        img_size=96,
        patch_size=8,
        embed_dim=128,
        depth=4,
        num_heads=4,
        drop_path_rate=0.,
        # 12x12 patches need no windows. Without them the class token can stay, which attention has learned to lean on.
        window_size=0,
        window_block_indexes=(),
        with_cls_token=True,
        rel_pos=None,
        init_cfg=dict(checkpoint='work_dirs/mae_vit-mini-p8_digits/iter_10000.pth')),
    neck=dict(in_channels=128, out_channels=64, scales=(1, .5), extra_level=False),
    rpn_head=dict(
        in_channels=64, feat_channels=64, num_convs=1, anchor_generator=dict(scales=[2, 4], strides=[8, 16])),
    roi_head=dict(
        bbox_roi_extractor=dict(
            out_channels=64, featmap_strides=[8, 16], roi_layer=dict(output_size=5)),
        bbox_head=dict(
            type='ConvFCBBoxHead',
            num_shared_fcs=1,
            in_channels=64,
            fc_out_channels=128,
            roi_feat_size=5,
            num_classes=10,
            reg_class_agnostic=True,
            norm_cfg=None,
            init_cfg=None),
        mask_roi_extractor=None,
        mask_head=None),
    # mmdet's matching, not detectron2's: with so few regions each digit needs its share (docs/benchmarks.md).
    train_cfg=dict(
        rpn=dict(assigner=dict(type='MaxIoUAssigner', min_pos_iou=0.3), sampler=dict(num=64)),
        rpn_proposal=dict(nms_pre=400, max_per_img=100),
        rcnn=dict(assigner=dict(match_low_quality=True), sampler=dict(num=64))),
    test_cfg=dict(rpn=dict(nms_pre=400, max_per_img=100), rcnn=dict(max_per_img=30)))
train_dataloader = dict(dataset=dict(indices=100))
# On the CPU mmcv's RoIAlign has no half precision.
optim_wrapper = dict(
    dtype='float32',
    clip_grad=dict(max_norm=10.),
    paramwise_cfg=dict(layer_decay_rate=0.9),
    optimizer=dict(lr=5e-4, weight_decay=0.05))
auto_scale_lr = dict(base_batch_size=4)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-9, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', eta_min_ratio=1e-3, by_epoch=False, begin=50),
]
train_cfg = dict(max_iters=800, val_interval=400)  # 3,200 images: 32 epochs of 100
default_hooks = dict(logger=dict(interval=50), checkpoint=dict(interval=400))
