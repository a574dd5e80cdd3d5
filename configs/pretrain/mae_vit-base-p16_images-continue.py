"""Goes on from MAE's ImageNet weights of ViT-B/16, decoder included, with images of your own.

    python tools/train.py configs/pretrain/mae_vit-base-p16_images-continue.py --cfg-options \
        train_dataloader.dataset.data_root=IMAGES model.init_cfg.checkpoint=mae_pretrain_vit_base_full.pth

The file must hold the decoder: one of ours, or the authors' ``*_full.pth`` (normalised pixels; CC-BY-NC 4.0). The
length and the learning rate, a third of that from scratch, are ours; no number is published.
"""
_base_ = './mae_vit-base-p16_images.py'
model = dict(init_cfg=dict(type='mae_plugin.MAEPretrained', checkpoint='mae_pretrain_vit_base_full.pth'))
optim_wrapper = dict(optimizer=dict(lr=5e-5))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-9, by_epoch=False, begin=0, end=1000),
    dict(type='CosineAnnealingLR', eta_min=0, by_epoch=False, begin=1000),
]
train_cfg = dict(max_iters=20_000, val_interval=2000)
