"""Which digit is on the scene? Fine-tunes the encoder that ``configs/pretrain/mae_vit-mini-p8_digits.py`` trained.

    python tools/train.py configs/classification/vit-mini_digits.py
"""
_base_ = [
    '../_base_/default_runtime.py', '../_base_/datasets/digits_cls.py', '../_base_/models/vit-base_cls.py',
    '../_base_/schedules/finetune.py'
]
model = dict(
    data_preprocessor=dict(num_classes=10),
    backbone=dict(
        img_size=96,
        patch_size=8,
        embed_dim=128,
        depth=4,
        num_heads=4,
        drop_path_rate=0.1,
        init_cfg=dict(checkpoint='work_dirs/mae_vit-mini-p8_digits/iter_10000.pth')),
    head=dict(
        num_classes=10,
        in_channels=128,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original')))
# Few CPUs are faster in bfloat16; --amp asks for it.
optim_wrapper = dict(
    dtype='float32', paramwise_cfg=dict(layer_decay_rate=0.9), optimizer=dict(lr=8e-4, weight_decay=0.05))
auto_scale_lr = dict(base_batch_size=32)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-9, by_epoch=False, begin=0, end=30),
    dict(type='CosineAnnealingLR', eta_min_ratio=5e-4, by_epoch=False, begin=30),
]
train_cfg = dict(max_iters=400, val_interval=200)  # 12,800 images: 13 epochs of 1,000
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=200))
