"""MAE pretraining of a ViT-Ti/16 of half the depth on the built-in scenes of digits: no data needed, minutes on a CPU.

    python tools/train.py configs/pretrain/mae_vit-tiny-p16_digits.py
"""
_base_ = [
    '../_base_/default_runtime.py', '../_base_/datasets/digit_scenes.py', '../_base_/datasets/pretrain_224.py',
    '../_base_/models/mae_vit-base.py', '../_base_/schedules/pretrain.py'
]
model = dict(
    backbone=dict(img_size=128, embed_dim=192, depth=6, num_heads=3),
    neck=dict(decoder_embed_dim=128, decoder_depth=2, decoder_num_heads=4),
    # Raw pixels: normalised ones would spend the short budget on the texture of the photographs, not on the digits.
    head=dict(target=dict(norm_pix=False)))
train_pipeline = [
    dict(type='mae_plugin.KeyedRandomResizedCrop', size=128, scale=(0.5, 1.0)),
    dict(type='mae_plugin.PackUnlabelled'),  # no flip: mirrored digits are no digits
]
val_pipeline = [
    dict(type='mae_plugin.ResizeCenterCrop', size=128, crop_share=1.0),
    dict(type='mae_plugin.PackUnlabelled'),
]
train_dataloader = dict(
    batch_size=128,
    num_workers=1,
    dataset=dict(data_root='data/digit_scenes/pretrain/train', holdout=0, pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=128,
    num_workers=1,
    dataset=dict(data_root='data/digit_scenes/pretrain/val', holdout=0, split='train', pipeline=val_pipeline))
test_dataloader = val_dataloader
# Few CPUs are faster in bfloat16; --amp asks for it.
optim_wrapper = dict(dtype='float32', optimizer=dict(lr=3e-3))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-9, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', eta_min=0, by_epoch=False, begin=50),
]
train_cfg = dict(max_iters=1000, val_interval=250)  # 128,000 images: 32 epochs of 4,000
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=250))
