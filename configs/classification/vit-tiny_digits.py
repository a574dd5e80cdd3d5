"""Which digit is on the scene? Fine-tunes the encoder that ``configs/pretrain/mae_vit-tiny-p16_digits.py`` trained.

    python tools/train.py configs/classification/vit-tiny_digits.py
"""
_base_ = [
    '../_base_/default_runtime.py', '../_base_/datasets/digits_cls.py', '../_base_/models/vit-base_cls.py',
    '../_base_/schedules/finetune.py'
]
model = dict(
    data_preprocessor=dict(num_classes=10),
    backbone=dict(
        img_size=128,
        embed_dim=192,
        depth=6,
        num_heads=3,
        init_cfg=dict(checkpoint='work_dirs/mae_vit-tiny-p16_digits/iter_1000.pth')),
    head=dict(num_classes=10, in_channels=192))
# Few CPUs are faster in bfloat16; --amp asks for it.
optim_wrapper = dict(dtype='float32', paramwise_cfg=dict(layer_decay_rate=0.9), optimizer=dict(lr=4e-3))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-9, by_epoch=False, begin=0, end=30),
    dict(type='CosineAnnealingLR', eta_min_ratio=5e-4, by_epoch=False, begin=30),
]
train_cfg = dict(max_iters=300, val_interval=100)  # 19,200 images: 19 epochs of 1,000
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=100))
