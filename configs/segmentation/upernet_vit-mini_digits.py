"""Digits segmented on the built-in scenes, by the encoder of ``configs/pretrain/mae_vit-mini-p8_digits.py``.

    python tools/train.py configs/segmentation/upernet_vit-mini_digits.py

UPerNet with heads made small for a CPU.
"""
_base_ = [
    '../_base_/default_runtime.py', '../_base_/datasets/digits_seg.py', '../_base_/models/upernet_vit-base.py',
    '../_base_/schedules/finetune.py'
]
norm_cfg = dict(type='BN', requires_grad=True)  # SyncBN needs a GPU
# Seven pixels in eight are background: with equal weights a short run learns nothing else.
loss = dict(type='CrossEntropyLoss', class_weight=[0.1] + [1.0] * 10)
model = dict(
    # What pads an image that was made smaller is background: class weights of mmseg 1.2 cannot leave pixels out.
    data_preprocessor=dict(size=(96, 96), seg_pad_val=0),
    backbone=dict(
        img_size=96,
        patch_size=8,
        embed_dim=128,
        depth=4,
        num_heads=4,
        out_indices=(0, 1, 2, 3),
        init_cfg=dict(checkpoint='work_dirs/mae_vit-mini-p8_digits/iter_10000.pth')),
    neck=dict(embed_dim=128, rescales=[2, 1, 0.5, 0.25], norm_cfg=norm_cfg),
    decode_head=dict(
        in_channels=[128, 128, 128, 128], channels=64, num_classes=11, norm_cfg=norm_cfg,
        loss_decode=loss),
    auxiliary_head=dict(in_channels=128, channels=64, num_classes=11, norm_cfg=norm_cfg, loss_decode=loss))
# Few CPUs are faster in bfloat16; --amp asks for it.
optim_wrapper = dict(
    dtype='float32', paramwise_cfg=dict(layer_decay_rate=0.9), optimizer=dict(lr=1e-3, weight_decay=0.05))
auto_scale_lr = dict(base_batch_size=8)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-9, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', eta_min_ratio=1e-3, by_epoch=False, begin=50),
]
train_cfg = dict(max_iters=1200, val_interval=400)  # 9,600 images: 10 epochs of 1,000
default_hooks = dict(logger=dict(interval=50), checkpoint=dict(interval=400))
