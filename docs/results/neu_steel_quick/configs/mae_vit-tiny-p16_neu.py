auto_scale_lr = dict(base_batch_size=32, enable=True)
custom_hooks = [
    dict(
        bank=dict(
            batch_size=72,
            dataset=dict(
                ann_file='classification/train.txt',
                data_prefix='detection/images',
                data_root='data/neu',
                metainfo=dict(classes=[
                    'crazing',
                    'inclusion',
                    'patches',
                    'pitted_surface',
                    'rolled-in_scale',
                    'scratches',
                ]),
                pipeline=[
                    dict(type='mmpretrain.LoadImageFromFile'),
                    dict(
                        backend='pillow',
                        interpolation='bicubic',
                        scale=[
                            128,
                            128,
                        ],
                        type='mmpretrain.Resize'),
                    dict(type='mmpretrain.PackInputs'),
                ],
                type='mmpretrain.CustomDataset'),
            num_workers=0),
        k=20,
        query=dict(
            batch_size=72,
            dataset=dict(
                ann_file='classification/val.txt',
                data_prefix='detection/images',
                data_root='data/neu',
                metainfo=dict(classes=[
                    'crazing',
                    'inclusion',
                    'patches',
                    'pitted_surface',
                    'rolled-in_scale',
                    'scratches',
                ]),
                pipeline=[
                    dict(type='mmpretrain.LoadImageFromFile'),
                    dict(
                        backend='pillow',
                        interpolation='bicubic',
                        scale=[
                            128,
                            128,
                        ],
                        type='mmpretrain.Resize'),
                    dict(type='mmpretrain.PackInputs'),
                ],
                type='mmpretrain.CustomDataset'),
            num_workers=0),
        temperature=0.07,
        type='mae_plugin.KNNHook'),
]
default_hooks = dict(
    bad_images=dict(
        interval=200, max_share=0.01, type='mae_plugin.BadImagesHook'),
    card=dict(allow=[], type='mae_plugin.CheckpointCardHook'),
    checkpoint=dict(
        by_epoch=False, interval=500, max_keep_ckpts=2, type='CheckpointHook'),
    fast=dict(
        compile=True,
        cuda_graph=False,
        timed_attention=True,
        type='mae_plugin.FastStepHook'),
    logger=dict(interval=100, log_metric_by_epoch=False, type='LoggerHook'),
    param_scheduler=dict(type='ParamSchedulerHook'),
    plain=dict(type='mae_plugin.PlainCheckpointHook'),
    reconstruction=dict(
        interval=5000, num_images=4, type='mae_plugin.ReconstructionHook'),
    runtime_info=dict(type='mae_plugin.MeanLossHook'),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    throughput=dict(mfu=None, type='mae_plugin.ThroughputHook'),
    timer=dict(type='IterTimerHook'))
load_from = None
model = dict(
    backbone=dict(
        depth=12,
        embed_dim=192,
        freeze_pos_embed=True,
        img_size=128,
        in_chans=3,
        num_heads=3,
        patch_size=16,
        type='mae_plugin.PlainViT'),
    data_preprocessor=dict(
        mean=[
            123.675,
            116.28,
            103.53,
        ],
        std=[
            58.395,
            57.12,
            57.375,
        ],
        type='mae_plugin.MAEDataPreprocessor'),
    head=dict(
        target=dict(norm_pix=True, type='mae_plugin.PixelTarget'),
        type='mae_plugin.PixelReconstructionHead'),
    masking=dict(mask_ratio=0.75, type='mae_plugin.RandomMasking'),
    neck=dict(
        decoder_depth=2,
        decoder_embed_dim=128,
        decoder_num_heads=4,
        type='mae_plugin.MAEDecoder'),
    type='mae_plugin.MaskedAutoencoder')
model_wrapper_cfg = dict(
    broadcast_buffers=False,
    find_unused_parameters=False,
    gradient_as_bucket_view=True,
    static_graph=False,
    type='mae_plugin.DistributedDataParallel')
optim_wrapper = dict(
    constructor='mae_plugin.GroupedOptimWrapperConstructor',
    dtype='bfloat16',
    optimizer=dict(
        betas=[
            0.9,
            0.95,
        ],
        fused=True,
        lr=0.0008,
        type='AdamW',
        weight_decay=0.05),
    type='mae_plugin.AutocastOptimWrapper')
param_scheduler = [
    dict(
        begin=0, by_epoch=False, end=120, start_factor=1e-09, type='LinearLR'),
    dict(begin=120, by_epoch=False, eta_min=0, type='CosineAnnealingLR'),
]
prepare_data = dict(
    det='data/neu_det.tar',
    root='data/neu',
    seg='data/neu_seg.tar',
    type='neu')
randomness = dict(diff_rank_seed=True, seed=0)
test_cfg = dict()
test_dataloader = dict(
    batch_size=32,
    collate_fn=dict(type='mae_plugin.collate_batch'),
    dataset=dict(
        data_root='data/neu/pretrain_val.txt',
        holdout=0,
        max_images=5000,
        pipeline=[
            dict(size=None, type='mae_plugin.ResizeCenterCrop'),
            dict(type='mae_plugin.PackUnlabelled'),
        ],
        split='train',
        type='mae_plugin.UnlabelledImages'),
    sampler=dict(shuffle=False, type='DefaultSampler'))
test_evaluator = dict(type='mae_plugin.MaskedReconstruction')
train_cfg = dict(
    max_iters=1200,
    prefetch=False,
    type='mae_plugin.KeyedIterTrainLoop',
    val_interval=1200)
train_dataloader = dict(
    batch_size=32,
    collate_fn=dict(type='mae_plugin.collate_batch'),
    dataset=dict(
        data_root='data/neu/pretrain_train.txt',
        holdout=0,
        mode='fast',
        pipeline=[
            dict(
                scale=[
                    0.2,
                    1.0,
                ],
                size=None,
                type='mae_plugin.KeyedRandomResizedCrop'),
            dict(type='mae_plugin.KeyedRandomFlip'),
            dict(type='mae_plugin.PackUnlabelled'),
        ],
        split='train',
        type='mae_plugin.UnlabelledImages'),
    sampler=dict(type='mae_plugin.KeyedSampler'))
val_cfg = dict()
val_dataloader = dict(
    batch_size=32,
    collate_fn=dict(type='mae_plugin.collate_batch'),
    dataset=dict(
        data_root='data/neu/pretrain_val.txt',
        holdout=0,
        max_images=5000,
        pipeline=[
            dict(size=None, type='mae_plugin.ResizeCenterCrop'),
            dict(type='mae_plugin.PackUnlabelled'),
        ],
        split='train',
        type='mae_plugin.UnlabelledImages'),
    sampler=dict(shuffle=False, type='DefaultSampler'))
val_evaluator = dict(type='mae_plugin.MaskedReconstruction')
