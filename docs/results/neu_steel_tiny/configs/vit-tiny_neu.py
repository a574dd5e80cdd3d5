auto_scale_lr = dict(base_batch_size=32, enable=True)
default_hooks = dict(
    bad_images=dict(
        interval=200, max_share=0.01, type='mae_plugin.BadImagesHook'),
    card=dict(allow=[], type='mae_plugin.CheckpointCardHook'),
    checkpoint=dict(
        by_epoch=False, interval=150, max_keep_ckpts=2, type='CheckpointHook'),
    fast=dict(
        compile=True,
        cuda_graph=False,
        timed_attention=True,
        type='mae_plugin.FastStepHook'),
    logger=dict(interval=25, log_metric_by_epoch=False, type='LoggerHook'),
    param_scheduler=dict(type='ParamSchedulerHook'),
    plain=dict(type='mae_plugin.PlainCheckpointHook'),
    reconstruction=dict(
        interval=5000, num_images=4, type='mae_plugin.ReconstructionHook'),
    runtime_info=dict(type='mae_plugin.MeanLossHook'),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    throughput=dict(mfu=None, type='mae_plugin.ThroughputHook'),
    timer=dict(type='IterTimerHook'))
default_scope = 'mmpretrain'
load_from = None
model = dict(
    backbone=dict(
        bf16=True,
        depth=12,
        drop_path_rate=0.0,
        embed_dim=192,
        img_size=128,
        init_cfg=dict(checkpoint='', type='mae_plugin.MAEPretrained'),
        num_heads=3,
        out_type='avg_featmap',
        patch_size=16,
        trainable_blocks=None,
        type='mae_plugin.PlainViT'),
    data_preprocessor=dict(
        mean=[
            123.675,
            116.28,
            103.53,
        ],
        num_classes=6,
        std=[
            58.395,
            57.12,
            57.375,
        ],
        to_rgb=True,
        type='ClsDataPreprocessor'),
    head=dict(
        in_channels=192,
        init_cfg=dict(layer='Linear', std=2e-05, type='TruncNormal'),
        loss=dict(
            label_smooth_val=0.1, mode='original', type='LabelSmoothLoss'),
        num_classes=6,
        type='LinearClsHead'),
    type='ImageClassifier')
model_wrapper_cfg = dict(
    broadcast_buffers=False,
    find_unused_parameters=False,
    gradient_as_bucket_view=True,
    static_graph=False,
    type='mae_plugin.DistributedDataParallel')
optim_wrapper = dict(
    constructor='mae_plugin.LayerDecayOptimWrapperConstructor',
    dtype='bfloat16',
    optimizer=dict(
        betas=[
            0.9,
            0.999,
        ],
        fused=True,
        lr=0.0005,
        type='AdamW',
        weight_decay=0.05),
    paramwise_cfg=dict(layer_decay_rate=0.9),
    type='mae_plugin.AutocastOptimWrapper')
param_scheduler = [
    dict(begin=0, by_epoch=False, end=20, start_factor=1e-09, type='LinearLR'),
    dict(
        begin=20,
        by_epoch=False,
        eta_min_ratio=0.001,
        type='CosineAnnealingLR'),
]
prepare_data = dict(
    det='data/neu_det.tar',
    root='data/neu',
    seg='data/neu_seg.tar',
    type='neu')
randomness = dict(diff_rank_seed=True, seed=0)
test_cfg = dict()
test_dataloader = dict(
    batch_size=64,
    collate_fn=dict(type='default_collate'),
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
            dict(type='LoadImageFromFile'),
            dict(
                backend='pillow',
                interpolation='bicubic',
                scale=[
                    160,
                    160,
                ],
                type='Resize'),
            dict(type='PackInputs'),
        ],
        type='CustomDataset'),
    sampler=dict(shuffle=False, type='DefaultSampler'))
test_evaluator = dict(
    topk=[
        1,
    ], type='Accuracy')
train_cfg = dict(max_iters=150, type='IterBasedTrainLoop', val_interval=150)
train_dataloader = dict(
    batch_size=32,
    collate_fn=dict(type='default_collate'),
    dataset=dict(
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
                dict(type='LoadImageFromFile'),
                dict(
                    backend='pillow',
                    crop_ratio_range=[
                        0.3,
                        1.0,
                    ],
                    interpolation='bicubic',
                    scale=160,
                    type='RandomResizedCrop'),
                dict(direction='horizontal', prob=0.5, type='RandomFlip'),
                dict(direction='vertical', prob=0.5, type='RandomFlip'),
                dict(type='PackInputs'),
            ],
            type='CustomDataset'),
        seed=0,
        share=1.0,
        type='mae_plugin.LabelShare'),
    sampler=dict(shuffle=True, type='InfiniteSampler'))
val_cfg = dict()
val_dataloader = dict(
    batch_size=64,
    collate_fn=dict(type='default_collate'),
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
            dict(type='LoadImageFromFile'),
            dict(
                backend='pillow',
                interpolation='bicubic',
                scale=[
                    160,
                    160,
                ],
                type='Resize'),
            dict(type='PackInputs'),
        ],
        type='CustomDataset'),
    sampler=dict(shuffle=False, type='DefaultSampler'))
val_evaluator = dict(
    topk=[
        1,
    ], type='Accuracy')
