"""Six defects of steel told apart by the encoder of ``configs/pretrain/mae_vit-small-p16_neu.py``.

    python tools/train.py configs/classification/vit-small_neu.py
"""
_base_ = [
    '../_base_/default_runtime.py', '../_base_/datasets/neu_cls.py', '../_base_/models/vit-base_cls.py',
    '../_base_/schedules/finetune.py'
]
model = dict(
    data_preprocessor=dict(num_classes=6),
    backbone=dict(
        embed_dim=384,
        num_heads=6,
        drop_path_rate=0.1,
        init_cfg=dict(checkpoint='work_dirs/mae_vit-small-p16_neu/iter_20000.pth')),
    head=dict(
        num_classes=6,
        in_channels=384,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original')))
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.75), optimizer=dict(lr=1e-3, weight_decay=0.05))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-9, by_epoch=False, begin=0, end=100),
    dict(type='CosineAnnealingLR', eta_min_ratio=5e-4, by_epoch=False, begin=100),
]
train_cfg = dict(max_iters=2000, val_interval=500)  # 128,000 images: 89 epochs of 1,440
default_hooks = dict(checkpoint=dict(interval=500))
