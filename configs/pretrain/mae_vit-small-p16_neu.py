"""MAE pretraining of ViT-S/16 on 4,227 pictures of steel, none of them a test image of NEU-DET or NEU-Seg.

    python tools/train.py configs/pretrain/mae_vit-small-p16_neu.py
"""
_base_ = ['../_base_/default_runtime.py', '../_base_/datasets/neu.py', '../_base_/mae_pretrain.py']
model = dict(
    backbone=dict(embed_dim=384, num_heads=6),
    neck=dict(decoder_embed_dim=256, decoder_depth=4, decoder_num_heads=8))
train_dataloader = dict(dataset=dict(data_root='data/neu/pretrain_train.txt', holdout=0))
val_dataloader = dict(dataset=dict(data_root='data/neu/pretrain_val.txt', holdout=0, split='train'))
test_dataloader = val_dataloader
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-9, by_epoch=False, begin=0, end=1000),
    dict(type='CosineAnnealingLR', eta_min=0, by_epoch=False, begin=1000),
]
train_cfg = dict(max_iters=20_000, val_interval=2000)  # 5.12 million images: 1,211 epochs of 4,227
default_hooks = dict(checkpoint=dict(interval=1000))
