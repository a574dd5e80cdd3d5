"""Defects of steel segmented by the encoder of ``configs/pretrain/mae_vit-small-p16_neu.py``.

    python tools/train.py configs/segmentation/upernet_vit-small_neu.py
"""
_base_ = [
    '../_base_/default_runtime.py', '../_base_/datasets/neu_seg.py', '../_base_/models/upernet_vit-base.py',
    '../_base_/schedules/finetune.py'
]
norm_cfg = dict(type='BN', requires_grad=True)  # SyncBN needs a GPU
model = dict(
    data_preprocessor=dict(size=(224, 224)),
    backbone=dict(
        embed_dim=384,
        num_heads=6,
        drop_path_rate=0.1,
        init_cfg=dict(checkpoint='work_dirs/mae_vit-small-p16_neu/iter_20000.pth')),
    neck=dict(embed_dim=384, norm_cfg=norm_cfg),
    decode_head=dict(in_channels=[384, 384, 384, 384], channels=256, num_classes=4, norm_cfg=norm_cfg),
    auxiliary_head=dict(in_channels=384, channels=128, num_classes=4, norm_cfg=norm_cfg))
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.75), optimizer=dict(lr=1e-4, weight_decay=0.05))
auto_scale_lr = dict(base_batch_size=16)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=500),
    dict(type='PolyLR', power=1.0, eta_min=0., by_epoch=False, begin=500),
]
train_cfg = dict(max_iters=20_000, val_interval=2000)  # 320,000 images: 88 epochs of 3,630
default_hooks = dict(checkpoint=dict(interval=1000))
