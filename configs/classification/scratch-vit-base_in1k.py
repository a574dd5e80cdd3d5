"""Supervised training of ViT-B/16 on ImageNet-1K from scratch: what MAE is compared with.

    bash tools/dist_train.sh configs/classification/scratch-vit-base_in1k.py 8

300 epochs at batch 4096 (8 GPUs x 512), the settings of He et al. (2022), Table 11. Published: 82.3 % top-1 with the
moving average of the weights, which is what is evaluated and saved, 82.1 % without (Table 3 and appendix A.2). Not
published, so taken from fine-tuning: the flip, random erasing, which parameters do not decay, pooling. The rate ends
at 0.
"""
_base_ = './vit-base_in1k.py'
recipe = dict(name='scratch/base', batch_size=4096)
model = dict(backbone=dict(init_cfg=None))
train_dataloader = dict(batch_size=512)
optim_wrapper = dict(
    paramwise_cfg=dict(layer_decay_rate=1.0), optimizer=dict(lr=1e-4, betas=(0.9, 0.95), weight_decay=0.3))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-9, by_epoch=False, begin=0, end=6240),  # 20 epochs of 312
    dict(type='CosineAnnealingLR', eta_min=0, by_epoch=False, begin=6240),
]
train_cfg = dict(max_iters=93_600, val_interval=6240)
custom_hooks = [dict(type='EMAHook', momentum=1e-4)]  # a decay of 0.9999
