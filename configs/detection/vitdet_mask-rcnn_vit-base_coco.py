"""ViTDet Mask R-CNN with MAE's ViT-B/16 on COCO: detectron2's recipe.

    bash tools/dist_train.sh configs/detection/vitdet_mask-rcnn_vit-base_coco.py 8 --fit-batch accumulate

Starts from ``configs/pretrain/mae_vit-base-p16_in1k.py``; from the authors' or another file with ``--cfg-options
model.backbone.init_cfg.checkpoint=FILE``. 100 epochs at batch 64 (ViTDet: 64 GPUs x 1 image of 10.9 GB). Published:
51.6 box AP, 45.9 mask AP (Li et al., 2022, Table 5, and detectron2's projects/ViTDet/README.md; seeds differ by about
0.1).
"""
_base_ = [
    '../_base_/default_runtime.py', '../_base_/datasets/coco_instance.py',
    '../_base_/models/vitdet_mask-rcnn_vit-base.py', '../_base_/schedules/finetune.py'
]
recipe = dict(name='vitdet/mask-rcnn/base/coco', batch_size=64)

# Large-scale jitter. Polygons stay polygons, as in detectron2: exact, and quick at 2048 pixels. Pillow resizes with
# antialiasing. Images that the crop leaves without an object stay.
train_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations', with_bbox=True, with_mask=True, poly2mask=False),
            dict(type='RandomFlip', prob=0.5),
            dict(type='RandomResize', scale=(1024, 1024), ratio_range=(.1, 2.), keep_ratio=True, backend='pillow'),
            dict(type='mae_plugin.FixedSizeCrop', crop_size=(1024, 1024), recompute_bbox=True),
            dict(type='FilterAnnotations', min_gt_bbox_wh=(1e-5, 1e-5), keep_empty=False),
            dict(type='PackDetInputs'),
        ]))
val_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='Resize', scale=(1024, 1024), keep_ratio=True, backend='pillow'),
            dict(type='LoadAnnotations', with_bbox=True),
            dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
        ]))
test_dataloader = val_dataloader
# Every image, of training and of test, is padded to 1024x1024 with zeros, after normalising.
model = dict(data_preprocessor=dict(pad_size_divisor=1024))

optim_wrapper = dict(
    dtype='float16',  # mmcv's RoIAlign has no bfloat16
    paramwise_cfg=dict(layer_decay_rate=0.7, no_decay=('norm', 'pos_embed')),  # the pyramid's and heads' norms decay
    optimizer=dict(lr=1e-4, weight_decay=0.1))
custom_hooks = [dict(type='mae_plugin.HalfGradientHook')]
auto_scale_lr = dict(base_batch_size=64)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=250),
    dict(type='MultiStepLR', by_epoch=False, milestones=[163_889, 177_546], gamma=0.1),
]
train_cfg = dict(max_iters=184_375, val_interval=9219)
