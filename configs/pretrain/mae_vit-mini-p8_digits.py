"""MAE pretraining of a very small ViT, 4 blocks of width 128, on the built-in scenes of digits: no data needed.

    python tools/train.py configs/pretrain/mae_vit-mini-p8_digits.py
"""
_base_ = ['../_base_/default_runtime.py', '../_base_/datasets/digit_scenes.py', '../_base_/mae_pretrain.py']
model = dict(
    backbone=dict(img_size=96, patch_size=8, embed_dim=128, depth=4, num_heads=4),
    # More than the usual 0.75: from a quarter of the patches a stroke is continued without knowing the digit.
    masking=dict(mask_ratio=0.85),
    neck=dict(decoder_embed_dim=64, decoder_depth=1, decoder_num_heads=2),
    # Raw pixels: normalised ones would spend the short budget on the texture of the photographs, not on the digits.
    head=dict(target=dict(norm_pix=False)))
train_pipeline = [
    dict(type='mae_plugin.KeyedRandomResizedCrop', size=None, scale=(0.5, 1.0)),
    dict(type='mae_plugin.PackUnlabelled'),  # no flip: mirrored digits are no digits
]
val_pipeline = [
    dict(type='mae_plugin.ResizeCenterCrop', size=None, crop_share=1.0),
    dict(type='mae_plugin.PackUnlabelled'),
]
# A small batch: what a short run lacks is steps. At equal cost 16 images learn more than 32, and 32 than 128.
train_dataloader = dict(
    batch_size=16,
    num_workers=1,
    dataset=dict(data_root='data/digit_scenes/pretrain/train', holdout=0, pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=100,
    num_workers=1,
    dataset=dict(data_root='data/digit_scenes/pretrain/val', holdout=0, split='train', pipeline=val_pipeline))
test_dataloader = val_dataloader
# Few CPUs are faster in bfloat16; --amp asks for it.
optim_wrapper = dict(dtype='float32', optimizer=dict(lr=1e-3))
auto_scale_lr = dict(base_batch_size=16)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-9, by_epoch=False, begin=0, end=200),
    dict(type='CosineAnnealingLR', eta_min=0, by_epoch=False, begin=200),
]
train_cfg = dict(max_iters=10_000, val_interval=2500)  # 160,000 images: 40 epochs of 4,000
default_hooks = dict(logger=dict(interval=100), checkpoint=dict(interval=2500))
