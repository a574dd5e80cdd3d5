"""MAE pretraining of ViT-S/16 on some thousand images of your own.

    python tools/train.py configs/pretrain/mae_vit-small-p16_images-few.py --cfg-options \
        train_dataloader.dataset.data_root=IMAGES

20,000 iterations of 256 images: 1,280 epochs of 4,000 images. Crops are larger than for ImageNet, as images of one's
own are often close-ups already. The schedule and the crops are ours, no number is published. With fewer than a
thousand images, continue from pretrained weights instead: ``mae_vit-base-p16_images-continue.py``.
"""
_base_ = './mae_vit-small-p16_images.py'
train_dataloader = dict(
    dataset=dict(pipeline=[
        dict(type='mae_plugin.KeyedRandomResizedCrop', size=None, scale=(0.35, 1.0)),
        dict(type='mae_plugin.KeyedRandomFlip'),
        dict(type='mae_plugin.PackUnlabelled'),
    ]))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-9, by_epoch=False, begin=0, end=1000),
    dict(type='CosineAnnealingLR', eta_min=0, by_epoch=False, begin=1000),
]
train_cfg = dict(max_iters=20_000, val_interval=2000)
