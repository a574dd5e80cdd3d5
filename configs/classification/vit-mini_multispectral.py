"""Which digit is on the multi-spectral scene? Fine-tunes the encoder of ``configs/parts/channels_13-rectangular.py``.

    python tools/train.py configs/classification/vit-mini_multispectral.py

Images are read as in pretraining; pixels without data become the mean, hence the zeros that the encoder knows.
"""
_base_ = './vit-mini_digits.py'
prepare_data = dict(_delete_=True, type='spectral_scenes', root='data/spectral_scenes')
mean = [1232.76, 1277.31, 1383.38, 1539.57, 1796.63, 2309.1, 2389.03, 2296.89, 2261.97, 2144.51, 1609.98, 1376.5,
        935.123]
std = [1755.17, 1739.19, 1724.41, 1674.86, 1303.48, 591.227, 571.235, 549.305, 540.993, 512.952, 385.597, 330.058,
       225.293]
model = dict(
    data_preprocessor=dict(mean=mean, std=std, to_rgb=False),
    backbone=dict(
        img_size=(64, 96),
        patch_size=(8, 16),
        in_chans=13,
        init_cfg=dict(checkpoint='work_dirs/channels_13-rectangular/iter_10000.pth')))
load = dict(type='mae_plugin.LoadImage', mode='array', channels=13, arrays=dict(nodata=0), fill=mean)
images = dict(data_root='data/spectral_scenes', extensions=['.npy'])
train_dataloader = dict(dataset=dict(
    **images,
    pipeline=[
        load,
        dict(type='RandomResizedCrop', scale=(96, 64), crop_ratio_range=(.6, 1.), aspect_ratio_range=(.9, 1.1),
             interpolation='bicubic'),
        dict(type='PackInputs'),
    ]))
val_dataloader = dict(dataset=dict(
    **images,
    pipeline=[
        load,
        dict(type='Resize', scale=(96, 64), interpolation='bicubic'),
        dict(type='PackInputs'),
    ]))
test_dataloader = val_dataloader
del mean, std, load, images
