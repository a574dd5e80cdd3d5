"""MAE pretraining of ViT-S/16 on multi-spectral images of your own: 13 channels of 16 bits, where 0 is no data.

    python tools/channel_stats.py configs/pretrain/mae_vit-small-p16_multispectral.py --cfg-options \
        train_dataloader.dataset.data_root=TILES
    python tools/train.py configs/pretrain/mae_vit-small-p16_multispectral.py --cfg-options \
        train_dataloader.dataset.data_root=TILES

The first line says mean and std, which are to be put in below; docs/channels.md has the rest. No number is published.
"""
_base_ = './mae_vit-small-p16_images.py'
model = dict(
    data_preprocessor=dict(mean=[2000.] * 13, std=[1000.] * 13),  # those of your data, by tools/channel_stats.py
    backbone=dict(in_chans=13))
train_dataloader = dict(
    dataset=dict(data_root='data/tiles', mode='array', channels=13, arrays=dict(nodata=0)))
val_evaluator = dict(data_range=10_000)
test_evaluator = val_evaluator
