"""UPerNet with MAE's ViT-B/16 on ADE20K.

    bash tools/dist_train.sh configs/segmentation/upernet_vit-base_ade20k-512x512.py 8 --cfg-options \
        model.backbone.init_cfg.checkpoint=work_dirs/mae_vit-base-p16_in1k/iter_499200.pth

160,000 iterations at batch 16 (8 GPUs x 2), 127 epochs. Published: 48.1 mIoU with one scale (He et al., 2022, Table 5),
from raw pixels 48.0 (Table 7); no spread is published. The paper (appendix A.4) says 100 epochs at batch 16, BEiT's
code, relative position from zero, and keeps its learning rate to itself. So this is the recipe of the reproduction
that reaches 48.15 (implus/mae_segmentation), number by number, also where it has no reason: a layer scale of 1, and
weight decay of positions and class token.

``tools/test.py --tta`` tests at six scales, each also mirrored. No multi-scale number is published for this protocol:
mmseg's 48.70 enlarges what is smaller than the window, where this pads it.
"""
_base_ = [
    '../_base_/default_runtime.py', '../_base_/datasets/ade20k.py', '../_base_/models/upernet_vit-base.py',
    '../_base_/schedules/finetune.py'
]
recipe = dict(name='upernet/base', batch_size=16)

model = dict(
    # A test image smaller than a window is padded to one; others are left as they are.
    data_preprocessor=dict(size=(512, 512), test_cfg=dict(_delete_=True, size=(512, 512))),
    # Positions are resized when they are loaded and trained on the grid of 32x32, as in the reproduction.
    backbone=dict(img_size=512, init_values=1.0, drop_path_rate=0.1, init_cfg=dict(resize=True)),
    test_cfg=dict(mode='slide', crop_size=(512, 512), stride=(341, 341)))

train_dataloader = dict(
    dataset=dict(pipeline=[
        dict(type='LoadImageFromFile'),
        dict(type='LoadAnnotations'),
        dict(type='RandomResize', scale=(2048, 512), ratio_range=(0.5, 2.0), keep_ratio=True),
        dict(type='RandomCrop', crop_size=(512, 512), cat_max_ratio=0.75),
        dict(type='RandomFlip', prob=0.5),
        dict(type='PhotoMetricDistortion'),
        dict(type='PackSegInputs'),  # the data preprocessor pads: images with 0 after normalising, maps with 255
    ]))
val_dataloader = dict(
    dataset=dict(pipeline=[
        dict(type='LoadImageFromFile'),
        dict(type='Resize', scale=(2048, 512), keep_ratio=True),
        dict(type='LoadAnnotations'),
        dict(type='PackSegInputs'),
    ]))
test_dataloader = val_dataloader
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='TestTimeAug',
        transforms=[
            [dict(type='Resize', scale=(int(2048 * ratio), int(512 * ratio)), keep_ratio=True)
             for ratio in (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)],
            [dict(type='RandomFlip', prob=0., direction='horizontal'),
             dict(type='RandomFlip', prob=1., direction='horizontal')],
            [dict(type='LoadAnnotations')],
            [dict(type='PackSegInputs')],
        ]),
]
tta_model = dict(type='SegTTAModel')

# The reproduction compares names that begin with "backbone." with "pos_embed" and "cls_token", so both decay.
optim_wrapper = dict(
    paramwise_cfg=dict(layer_decay_rate=0.65, no_decay=('1d', )), optimizer=dict(lr=1e-4, weight_decay=0.05))
auto_scale_lr = dict(base_batch_size=16)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(type='PolyLR', power=1.0, eta_min=0., by_epoch=False, begin=0),  # falls during the warm-up, too
]
train_cfg = dict(max_iters=160_000, val_interval=16_000)
