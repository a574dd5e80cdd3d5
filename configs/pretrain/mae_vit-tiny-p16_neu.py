"""MAE pretraining of ViT-Ti/16 on 4,227 pictures of steel, sized for one CPU core.

    python tools/train.py configs/pretrain/mae_vit-tiny-p16_neu.py

Every validation measures how well the frozen features tell the six defects apart (kNN).
"""
_base_ = './mae_vit-small-p16_neu.py'
model = dict(
    backbone=dict(img_size=128, embed_dim=192, num_heads=3),
    neck=dict(decoder_embed_dim=128, decoder_depth=2, decoder_num_heads=4))
train_dataloader = dict(batch_size=32, num_workers=0, persistent_workers=False, dataset=dict(mode='fast'))
val_dataloader = dict(batch_size=32, num_workers=0, persistent_workers=False)
test_dataloader = val_dataloader
optim_wrapper = dict(optimizer=dict(lr=8e-4, fused=True))
auto_scale_lr = dict(base_batch_size=32)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-9, by_epoch=False, begin=0, end=500),
    dict(type='CosineAnnealingLR', eta_min=0, by_epoch=False, begin=500),
]
train_cfg = dict(max_iters=12_000, val_interval=2000)  # 384,000 images: 91 epochs of 4,227
default_hooks = dict(
    # In bfloat16 PyTorch's attention for the CPU takes five times as long as two matrix products.
    fast=dict(compile=True, timed_attention=True),
    logger=dict(interval=100),
    checkpoint=dict(interval=500))
labelled = dict(
    batch_size=72,
    num_workers=0,
    dataset=dict(
        type='mmpretrain.CustomDataset',
        data_root='data/neu',
        data_prefix='detection/images',
        ann_file='classification/train.txt',
        metainfo=dict(classes=['crazing', 'inclusion', 'patches', 'pitted_surface', 'rolled-in_scale', 'scratches']),
        pipeline=[
            dict(type='mmpretrain.LoadImageFromFile'),
            dict(type='mmpretrain.Resize', scale=(128, 128), backend='pillow', interpolation='bicubic'),
            dict(type='mmpretrain.PackInputs'),
        ]))
query = dict(labelled, dataset=dict(labelled['dataset'], ann_file='classification/val.txt'))
custom_hooks = [dict(type='mae_plugin.KNNHook', bank=labelled, query=query, k=20, temperature=0.07)]
del labelled, query
