# MAE's pretraining (He et al., 2022, Table 8 and appendix A.1) with ViT-B/16: every number of the recipe. Models of
# other sizes and data of one's own are differences to it. Sizes of the image, the patch and the channels are given
# once, on the backbone; crops, decoder and target get them from there.
model = dict(
    type='mae_plugin.MaskedAutoencoder',
    data_preprocessor=dict(
        type='mae_plugin.MAEDataPreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]),
    backbone=dict(
        type='mae_plugin.PlainViT',
        img_size=224,
        patch_size=16,
        in_chans=3,
        embed_dim=768,
        depth=12,
        num_heads=12,
        freeze_pos_embed=True),
    masking=dict(type='mae_plugin.RandomMasking', mask_ratio=0.75),
    neck=dict(type='mae_plugin.MAEDecoder', decoder_embed_dim=512, decoder_depth=8, decoder_num_heads=16),
    head=dict(
        type='mae_plugin.PixelReconstructionHead', target=dict(type='mae_plugin.PixelTarget', norm_pix=True)))

# Images without labels: a folder of any depth, a list, a tar or a zip. Crops, flips and masks are functions of
# (seed, epoch, image). One image in 100 is held out for validation, with fixed crops and masks.
train_dataloader = dict(
    batch_size=256,
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
    collate_fn=dict(type='mae_plugin.collate_batch'),  # whole batches come from the workers, written once
    sampler=dict(type='mae_plugin.KeyedSampler'),
    dataset=dict(
        type='mae_plugin.UnlabelledImages',
        data_root='data/images',
        mode='exact',  # Pillow's pixels; 'fast', 'cached' and 'device' cost less, see docs/data.md
        holdout=0.01,
        split='train',
        pipeline=[
            dict(type='mae_plugin.KeyedRandomResizedCrop', size=None, scale=(0.2, 1.0)),  # size: backbone.img_size
            dict(type='mae_plugin.KeyedRandomFlip'),
            dict(type='mae_plugin.PackUnlabelled'),
        ]))
val_dataloader = dict(
    batch_size=256,
    num_workers=4,
    persistent_workers=True,
    collate_fn=dict(type='mae_plugin.collate_batch'),
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='mae_plugin.UnlabelledImages',
        data_root=None,  # the tools put in that of train_dataloader
        holdout=0.01,
        split='val',
        max_images=5000,
        pipeline=[
            dict(type='mae_plugin.ResizeCenterCrop', size=None),
            dict(type='mae_plugin.PackUnlabelled'),
        ]))
val_evaluator = dict(type='mae_plugin.MaskedReconstruction')
test_dataloader = val_dataloader
test_evaluator = val_evaluator

# Weight decay except for parameters of one dimension, so class and mask token have it. Half precision by bfloat16,
# which needs no loss scaling. lr is the base rate, for a batch of 256: the real one is lr x batch_size x processes /
# 256, said at the start. Warm-up from (nearly) 0 and half a cosine to 0, updated at every iteration; no clipping.
optim_wrapper = dict(
    type='mae_plugin.AutocastOptimWrapper',
    dtype='bfloat16',
    constructor='mae_plugin.GroupedOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=1.5e-4, betas=(0.9, 0.95), weight_decay=0.05))
auto_scale_lr = dict(enable=True, base_batch_size=256)
# For batches of 4096, 312 an epoch of ImageNet: 40 epochs of warm-up, 1600 in all.
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-9, by_epoch=False, begin=0, end=12_480),
    dict(type='CosineAnnealingLR', eta_min=0, by_epoch=False, begin=12_480),  # ends with the run
]
train_cfg = dict(type='mae_plugin.KeyedIterTrainLoop', max_iters=499_200, val_interval=5000, prefetch=False)
val_cfg = dict()
test_cfg = dict()
