"""End-to-end fine-tuning of MAE's ViT-B/16 on ImageNet-1K.

    bash tools/dist_train.sh configs/classification/vit-base_in1k.py 8 --cfg-options \
        model.backbone.init_cfg.checkpoint=work_dirs/mae_vit-base-p16_in1k/iter_499200.pth

100 epochs at batch 1024 (8 GPUs x 128). Published: 83.6 % top-1 (He et al., 2022, Table 3). mmpretrain's RandAugment
and RandomErasing differ from timm's, which the authors use, in details.
"""
_base_ = [
    '../_base_/default_runtime.py', '../_base_/datasets/imagenet_cls.py', '../_base_/models/vit-base_cls.py',
    '../_base_/schedules/finetune.py'
]
model = dict(
    train_cfg=dict(augments=[dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)]))
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.65), optimizer=dict(lr=5e-4, weight_decay=0.05))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-9, by_epoch=False, begin=0, end=6255),
    # Ends with the run. The least rate is a share of each group's own: the authors' 1e-6 of 2e-3.
    dict(type='CosineAnnealingLR', eta_min_ratio=5e-4, by_epoch=False, begin=6255),
]
train_cfg = dict(max_iters=125_100, val_interval=12_510)
