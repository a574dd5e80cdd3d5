"""13 channels of 16 bits, pixels without data, rectangular images and patches: the built-in multi-spectral scenes.

    python tools/train.py configs/parts/channels_13-rectangular.py

Nothing is learned where a pixel has the value 0: no data. docs/channels.md says how images of one's own are described.
"""
_base_ = ['../pretrain/mae_vit-mini-p8_digits.py']
prepare_data = dict(_delete_=True, type='spectral_scenes', root='data/spectral_scenes')
model = dict(
    data_preprocessor=dict(  # tools/channel_stats.py configs/parts/channels_13-rectangular.py
        mean=[1232.76, 1277.31, 1383.38, 1539.57, 1796.63, 2309.1, 2389.03, 2296.89, 2261.97, 2144.51, 1609.98, 1376.5,
              935.123],
        std=[1755.17, 1739.19, 1724.41, 1674.86, 1303.48, 591.227, 571.235, 549.305, 540.993, 512.952, 385.597, 330.058,
             225.293]),
    backbone=dict(img_size=(64, 96), patch_size=(8, 16), in_chans=13))
images = dict(mode='array', channels=13, arrays=dict(nodata=0))
train_dataloader = dict(dataset=dict(data_root='data/spectral_scenes/train', **images))
val_dataloader = dict(dataset=dict(data_root='data/spectral_scenes/val', **images))
test_dataloader = val_dataloader
val_evaluator = dict(data_range=10_000)
test_evaluator = val_evaluator
del images
