"""End-to-end fine-tuning of MAE's ViT-L/16 on ImageNet-1K: the recipe of the authors' released weights.

    bash tools/dist_train.sh configs/classification/vit-large_in1k.py 8

50 epochs at batch 1024 (8 GPUs x 128); the authors' took 8 hours 52 minutes on 32 V100. Published: 85.9 % top-1
(He et al., 2022, Table 3; four seeds 85.87 +- 0.07, the released weights 85.952, top-5 97.570: FINETUNE.md of their
repository, as is the recipe).
"""
_base_ = ['./vit-base_in1k.py', '../_base_/models/vit-large.py']
recipe = dict(name='finetune/normalised/large')
model = dict(backbone=dict(**_base_.vit_large, drop_path_rate=0.2), head=dict(in_channels=1024))
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.75), optimizer=dict(lr=1e-3))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-9, by_epoch=False, begin=0, end=6255),
    dict(type='CosineAnnealingLR', eta_min_ratio=2.5e-4, by_epoch=False, begin=6255),  # to 1e-6 of 4e-3
]
train_cfg = dict(max_iters=62_550)
