"""Linear probing on six defects of steel: one linear layer on the frozen encoder's class token; for one CPU core.

    python tools/train.py configs/classification/linear-probe_vit-tiny_neu.py
"""
_base_ = './vit-tiny_neu.py'
model = dict(
    backbone=dict(out_type='cls_token', trainable_blocks=0),
    neck=dict(type='ClsBatchNormNeck', input_features=192, affine=False, eps=1e-6),
    head=dict(loss=dict(_delete_=True, type='CrossEntropyLoss'), init_cfg=dict(std=0.01)))
optim_wrapper = dict(
    constructor='mae_plugin.GroupedOptimWrapperConstructor',
    paramwise_cfg=None,
    optimizer=dict(_delete_=True, type='AdamW', lr=1e-2, weight_decay=0.))
train_cfg = dict(max_iters=200, val_interval=200)
default_hooks = dict(checkpoint=dict(interval=200))
