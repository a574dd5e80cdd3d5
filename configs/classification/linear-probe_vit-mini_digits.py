"""Linear probing on the built-in digits: one linear layer on the frozen encoder's class token.

    python tools/train.py configs/classification/linear-probe_vit-mini_digits.py
"""
_base_ = './vit-mini_digits.py'
model = dict(
    backbone=dict(out_type='cls_token', trainable_blocks=0, drop_path_rate=0.),
    neck=dict(type='ClsBatchNormNeck', input_features=128, affine=False, eps=1e-6),
    head=dict(loss=dict(_delete_=True, type='CrossEntropyLoss'), init_cfg=dict(std=0.01)))
optim_wrapper = dict(
    constructor='mae_plugin.GroupedOptimWrapperConstructor',
    paramwise_cfg=None,
    # Many times ImageNet's rate of 6.4, for a run of 1,600 iterations instead of 7,020.
    optimizer=dict(_delete_=True, type='mae_plugin.Lars', lr=50., momentum=0.9, weight_decay=0., trust_coeff=0.001))
train_cfg = dict(max_iters=1600, val_interval=400)
