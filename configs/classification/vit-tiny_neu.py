"""Six defects of steel told apart by the encoder of ``configs/pretrain/mae_vit-tiny-p16_neu.py``; for one CPU core.

    python tools/train.py configs/classification/vit-tiny_neu.py
"""
_base_ = './vit-small_neu.py'
model = dict(
    backbone=dict(
        img_size=128,
        embed_dim=192,
        num_heads=3,
        drop_path_rate=0.,
        bf16=True,
        init_cfg=dict(checkpoint='work_dirs/mae_vit-tiny-p16_neu/iter_12000.pth')),
    head=dict(in_channels=192))
train_dataloader = dict(
    batch_size=32,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        dataset=dict(pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='RandomResizedCrop', scale=160, crop_ratio_range=(.3, 1.), backend='pillow',
                 interpolation='bicubic'),
            dict(type='RandomFlip', prob=.5, direction='horizontal'),
            dict(type='RandomFlip', prob=.5, direction='vertical'),
            dict(type='PackInputs'),
        ])))
val_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    dataset=dict(pipeline=[
        dict(type='LoadImageFromFile'),
        dict(type='Resize', scale=(160, 160), backend='pillow', interpolation='bicubic'),
        dict(type='PackInputs'),
    ]))
test_dataloader = val_dataloader
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.9), optimizer=dict(lr=5e-4, fused=True))
auto_scale_lr = dict(base_batch_size=32)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-9, by_epoch=False, begin=0, end=20),
    dict(type='CosineAnnealingLR', eta_min_ratio=1e-3, by_epoch=False, begin=20),
]
train_cfg = dict(max_iters=150, val_interval=150)  # 4,800 images: 3.3 epochs of 1,440
default_hooks = dict(
    fast=dict(compile=True, timed_attention=True), logger=dict(interval=25), checkpoint=dict(interval=150))
