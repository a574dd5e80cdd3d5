"""Attentive probing of MAE's ViT-B/16 on ImageNet-1K: a learned query attends to the tokens of the frozen encoder.

    bash tools/dist_train.sh configs/classification/attentive-probe_vit-base_in1k.py 8

90 epochs at batch 1024 (8 GPUs x 128). The recipe is ours; the authors of MAE publish no number for it.
"""
_base_ = './linear-probe_vit-base_in1k.py'
recipe = dict(_delete_=True, batch_size=1024)
model = dict(
    backbone=dict(out_type='raw'),
    neck=dict(_delete_=True, type='mae_plugin.AttentivePooling', embed_dim=768, num_heads=12))
train_dataloader = dict(batch_size=128, num_workers=8)
optim_wrapper = dict(optimizer=dict(_delete_=True, type='AdamW', lr=2.5e-4, betas=(0.9, 0.999), weight_decay=0.1))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-9, by_epoch=False, begin=0, end=12_510),  # 10 epochs of 1,251
    dict(type='CosineAnnealingLR', eta_min=0, by_epoch=False, begin=12_510),
]
train_cfg = dict(max_iters=112_590, val_interval=12_510)
