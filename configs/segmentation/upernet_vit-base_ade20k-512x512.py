"""UPerNet with MAE's ViT-B/16 on ADE20K.

    bash tools/dist_train.sh configs/segmentation/upernet_vit-base_ade20k-512x512.py 8 --cfg-options \
        model.backbone.init_cfg.checkpoint=work_dirs/mae_vit-base-p16_in1k/iter_499200.pth

160,000 iterations at batch 16 (8 GPUs x 2). Published: 48.1 mIoU (He et al., 2022, Table 5; the paper trains 100 epochs
with a searched learning rate, the public reproductions 160,000 iterations). Layer scale of 1 as in the reproduction
that reaches 48.1; it also decays positions and class token, which is not done here.
"""
_base_ = [
    '../_base_/default_runtime.py', '../_base_/datasets/ade20k.py', '../_base_/models/upernet_vit-base.py',
    '../_base_/schedules/finetune.py'
]
model = dict(backbone=dict(init_values=1.0))
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.65), optimizer=dict(lr=1e-4, weight_decay=0.05))
auto_scale_lr = dict(base_batch_size=16)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(type='PolyLR', power=1.0, eta_min=0., by_epoch=False, begin=1500),
]
train_cfg = dict(max_iters=160_000, val_interval=16_000)
