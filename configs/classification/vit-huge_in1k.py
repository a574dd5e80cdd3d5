"""End-to-end fine-tuning of MAE's ViT-H/14 on ImageNet-1K: the recipe of the authors' released weights.

    bash tools/dist_train.sh configs/classification/vit-huge_in1k.py 8

50 epochs at batch 1024 (8 GPUs x 128); the authors' took 13 hours 9 minutes on 64 V100. Published: 86.9 %
top-1 (He et al., 2022, Table 3; the released weights 86.928, top-5 98.088: FINETUNE.md of their repository, as is the
recipe).
"""
_base_ = ['./vit-base_in1k.py', '../_base_/models/vit-huge.py']
recipe = dict(name='finetune/normalised/huge')
model = dict(backbone=dict(**_base_.vit_huge, drop_path_rate=0.3), head=dict(in_channels=1280))
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.75), optimizer=dict(lr=1e-3))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-9, by_epoch=False, begin=0, end=6255),
    dict(type='CosineAnnealingLR', eta_min_ratio=2.5e-4, by_epoch=False, begin=6255),  # to 1e-6 of 4e-3
]
train_cfg = dict(max_iters=62_550)
