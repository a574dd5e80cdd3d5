"""Linear probing of MAE's ViT-B/16 on ImageNet-1K: one linear layer on the frozen encoder's class token.

    bash tools/dist_train.sh configs/classification/linear-probe_vit-base_in1k.py 8

90 epochs at batch 16384 (8 GPUs x 2048). Published: 68.0 % top-1 (He et al., 2022, Table 12), 67.8 with the authors'
released code (FINETUNE.md of their repository, as are the settings that Table 10 lacks). Normalisation of the features
is over the batch of one process, theirs of 512.
"""
_base_ = [
    '../_base_/default_runtime.py', '../_base_/datasets/imagenet_cls.py', '../_base_/models/vit-base_cls.py',
    '../_base_/schedules/finetune.py'
]
recipe = dict(name='linear-probe/base', batch_size=16_384)
model = dict(
    backbone=dict(out_type='cls_token', trainable_blocks=0),  # after the encoder's own norm
    neck=dict(type='ClsBatchNormNeck', input_features=768, affine=False, eps=1e-6),
    head=dict(init_cfg=dict(std=0.01)))
train_pipeline = [
    _base_.load_image,
    dict(type='mae_plugin.LoopFreeRandomResizedCrop', size=224, scale=(0.08, 1.0)),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]
train_dataloader = dict(batch_size=2048, num_workers=16, dataset=dict(pipeline=train_pipeline))
optim_wrapper = dict(
    constructor='mae_plugin.GroupedOptimWrapperConstructor',
    optimizer=dict(_delete_=True, type='mae_plugin.Lars', lr=0.1, momentum=0.9, weight_decay=0., trust_coeff=0.001))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-9, by_epoch=False, begin=0, end=780),  # 10 epochs of 78
    dict(type='CosineAnnealingLR', eta_min=0, by_epoch=False, begin=780),  # ends with the run
]
train_cfg = dict(max_iters=7020, val_interval=780)
