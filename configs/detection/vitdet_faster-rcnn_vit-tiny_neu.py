"""Defects of steel found by the encoder of ``configs/pretrain/mae_vit-tiny-p16_neu.py``; for one CPU core.

    python tools/train.py configs/detection/vitdet_faster-rcnn_vit-tiny_neu.py
"""
_base_ = './vitdet_faster-rcnn_vit-small_neu.py'
model = dict(
    backbone=dict(
        img_size=128,
        embed_dim=192,
        num_heads=3,
        drop_path_rate=0.,
        # 10x10 patches need no windows. Without them the class token can stay, which attention has learned to lean on.
        window_size=0,
        window_block_indexes=(),
        with_cls_token=True,
        rel_pos=None,
        bf16=True,
        init_cfg=dict(checkpoint='work_dirs/mae_vit-tiny-p16_neu/iter_12000.pth')),
    neck=dict(in_channels=192, out_channels=64, scales=(2, 1, .5), extra_level=False),
    rpn_head=dict(
        in_channels=64, feat_channels=64, num_convs=1, anchor_generator=dict(scales=[4], strides=[8, 16, 32])),
    roi_head=dict(
        bbox_roi_extractor=dict(
            out_channels=64, featmap_strides=[8, 16, 32], roi_layer=dict(sampling_ratio=2)),
        bbox_head=dict(
            type='ConvFCBBoxHead',
            num_shared_fcs=1,
            in_channels=64,
            fc_out_channels=256,
            norm_cfg=None,
            init_cfg=None,
            reg_class_agnostic=True)),
    train_cfg=dict(
        rpn=dict(sampler=dict(num=128)),
        rpn_proposal=dict(nms_pre=500, max_per_img=200),
        rcnn=dict(sampler=dict(num=64))),
    test_cfg=dict(rpn=dict(nms_pre=500, max_per_img=200), rcnn=dict(max_per_img=50)))
train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        dataset=dict(pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations', with_bbox=True),
            dict(type='RandomFlip', prob=[.25, .25, .25], direction=['horizontal', 'vertical', 'diagonal']),
            dict(type='RandomResize', scale=(160, 160), ratio_range=(.8, 1.5), keep_ratio=True),
            dict(type='RandomCrop', crop_type='absolute', crop_size=(160, 160)),
            dict(type='FilterAnnotations', min_gt_bbox_wh=(4, 4), keep_empty=False),
            dict(type='PackDetInputs'),
        ])))
val_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    dataset=dict(pipeline=[
        dict(type='LoadImageFromFile'),
        dict(type='Resize', scale=(160, 160), keep_ratio=True),
        dict(type='LoadAnnotations', with_bbox=True),
        dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
    ]))
test_dataloader = val_dataloader
optim_wrapper = dict(
    clip_grad=dict(max_norm=10.),
    paramwise_cfg=dict(layer_decay_rate=0.9),
    optimizer=dict(lr=1e-3, weight_decay=0.05, fused=True))
auto_scale_lr = dict(base_batch_size=4)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', eta_min_ratio=1e-3, by_epoch=False, begin=50),
]
train_cfg = dict(max_iters=1000, val_interval=1000)  # 4,000 images: 2.8 epochs of 1,440
default_hooks = dict(
    fast=dict(compile=True, timed_attention=True), logger=dict(interval=50), checkpoint=dict(interval=1000))
