"""Linear probing of MAE's ViT-B/16 on ImageNet-1K by SGD, at a batch that fits on fewer GPUs.

    bash tools/dist_train.sh configs/classification/linear-probe-sgd_vit-base_in1k.py 8

90 epochs at batch 4096 (8 GPUs x 512). He et al. (2022) write that "SGD works similarly with a 4096 batch" (Table 10),
and neither a rate nor a number: the rate here is that of LARS, 0.1 for 256 images, and is ours.
"""
_base_ = './linear-probe_vit-base_in1k.py'
recipe = dict(_delete_=True, batch_size=4096)
train_dataloader = dict(batch_size=512)
optim_wrapper = dict(optimizer=dict(_delete_=True, type='SGD', lr=0.1, momentum=0.9, weight_decay=0.))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-9, by_epoch=False, begin=0, end=3120),  # 10 epochs of 312
    dict(type='CosineAnnealingLR', eta_min=0, by_epoch=False, begin=3120),
]
train_cfg = dict(max_iters=28_080, val_interval=3120)
