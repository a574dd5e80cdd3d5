auto_scale_lr = dict(base_batch_size=8, enable=True)
default_hooks = dict(
    bad_images=dict(
        interval=200, max_share=0.01, type='mae_plugin.BadImagesHook'),
    card=dict(allow=[], type='mae_plugin.CheckpointCardHook'),
    checkpoint=dict(
        by_epoch=False, interval=600, max_keep_ckpts=2, type='CheckpointHook'),
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
default_scope = 'mmseg'
load_from = None
model = dict(
    auxiliary_head=None,
    backbone=dict(
        bf16=True,
        depth=12,
        drop_path_rate=0.0,
        embed_dim=192,
        img_size=128,
        init_cfg=dict(checkpoint='', type='mae_plugin.MAEPretrained'),
        num_heads=3,
        out_indices=[
            11,
        ],
        out_type='featmap',
        patch_size=16,
        rel_pos=None,
        type='mae_plugin.PlainViT'),
    data_preprocessor=dict(
        bgr_to_rgb=True,
        mean=[
            123.675,
            116.28,
            103.53,
        ],
        pad_val=0,
        seg_pad_val=255,
        size=[
            160,
            160,
        ],
        std=[
            58.395,
            57.12,
            57.375,
        ],
        test_cfg=dict(size_divisor=32),
        type='SegDataPreProcessor'),
    decode_head=dict(
        channels=64,
        concat_input=False,
        dropout_ratio=0.1,
        in_channels=64,
        loss_decode=dict(
            class_weight=[
                0.3,
                1.0,
                1.0,
                1.0,
            ], type='CrossEntropyLoss'),
        norm_cfg=dict(requires_grad=True, type='BN'),
        num_classes=4,
        num_convs=1,
        type='FCNHead'),
    neck=dict(
        extra_level=False,
        in_channels=192,
        out_channels=64,
        scales=[
            4,
        ],
        type='mae_plugin.SimpleFeaturePyramid'),
    test_cfg=dict(mode='whole'),
    train_cfg=dict(),
    type='EncoderDecoder')
model_wrapper_cfg = dict(
    broadcast_buffers=False,
    find_unused_parameters=False,
    gradient_as_bucket_view=True,
    static_graph=False,
    type='mae_plugin.DistributedDataParallel')
norm_cfg = dict(requires_grad=True, type='BN')
optim_wrapper = dict(
    constructor='mae_plugin.LayerDecayOptimWrapperConstructor',
    dtype='bfloat16',
    optimizer=dict(
        betas=[
            0.9,
            0.999,
        ],
        fused=True,
        lr=0.001,
        type='AdamW',
        weight_decay=0.05),
    paramwise_cfg=dict(layer_decay_rate=0.9),
    type='mae_plugin.AutocastOptimWrapper')
param_scheduler = [
    dict(begin=0, by_epoch=False, end=30, start_factor=1e-06, type='LinearLR'),
    dict(begin=30, by_epoch=False, eta_min=0.0, power=1.0, type='PolyLR'),
]
prepare_data = dict(
    det='data/neu_det.tar',
    root='data/neu',
    seg='data/neu_seg.tar',
    type='neu')
randomness = dict(diff_rank_seed=True, seed=0)
test_cfg = dict()
test_dataloader = dict(
    batch_size=16,
    dataset=dict(
        data_prefix=dict(
            img_path='images/test', seg_map_path='annotations/test'),
        data_root='data/neu/segmentation',
        metainfo=dict(
            classes=[
                'background',
                'inclusion',
                'patches',
                'scratches',
            ],
            palette=[
                [
                    0,
                    0,
                    0,
                ],
                [
                    230,
                    25,
                    75,
                ],
                [
                    60,
                    180,
                    75,
                ],
                [
                    255,
                    225,
                    25,
                ],
            ]),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(keep_ratio=True, scale=[
                160,
                160,
            ], type='Resize'),
            dict(type='LoadAnnotations'),
            dict(type='PackSegInputs'),
        ],
        type='BaseSegDataset'),
    sampler=dict(shuffle=False, type='DefaultSampler'))
test_evaluator = dict(
    iou_metrics=[
        'mIoU',
    ], type='IoUMetric')
train_cfg = dict(max_iters=600, type='IterBasedTrainLoop', val_interval=600)
train_dataloader = dict(
    batch_size=8,
    dataset=dict(
        dataset=dict(
            data_prefix=dict(
                img_path='images/train', seg_map_path='annotations/train'),
            data_root='data/neu/segmentation',
            metainfo=dict(
                classes=[
                    'background',
                    'inclusion',
                    'patches',
                    'scratches',
                ],
                palette=[
                    [
                        0,
                        0,
                        0,
                    ],
                    [
                        230,
                        25,
                        75,
                    ],
                    [
                        60,
                        180,
                        75,
                    ],
                    [
                        255,
                        225,
                        25,
                    ],
                ]),
            pipeline=[
                dict(type='LoadImageFromFile'),
                dict(type='LoadAnnotations'),
                dict(
                    keep_ratio=True,
                    ratio_range=[
                        0.75,
                        1.5,
                    ],
                    scale=[
                        160,
                        160,
                    ],
                    type='RandomResize'),
                dict(crop_size=[
                    160,
                    160,
                ], type='RandomCrop'),
                dict(direction='horizontal', prob=0.5, type='RandomFlip'),
                dict(direction='vertical', prob=0.5, type='RandomFlip'),
                dict(type='PackSegInputs'),
            ],
            type='BaseSegDataset'),
        seed=0,
        share=1.0,
        type='mae_plugin.LabelShare'),
    sampler=dict(shuffle=True, type='InfiniteSampler'))
val_cfg = dict()
val_dataloader = dict(
    batch_size=16,
    dataset=dict(
        data_prefix=dict(
            img_path='images/test', seg_map_path='annotations/test'),
        data_root='data/neu/segmentation',
        metainfo=dict(
            classes=[
                'background',
                'inclusion',
                'patches',
                'scratches',
            ],
            palette=[
                [
                    0,
                    0,
                    0,
                ],
                [
                    230,
                    25,
                    75,
                ],
                [
                    60,
                    180,
                    75,
                ],
                [
                    255,
                    225,
                    25,
                ],
            ]),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(keep_ratio=True, scale=[
                160,
                160,
            ], type='Resize'),
            dict(type='LoadAnnotations'),
            dict(type='PackSegInputs'),
        ],
        type='BaseSegDataset'),
    sampler=dict(shuffle=False, type='DefaultSampler'))
val_evaluator = dict(
    iou_metrics=[
        'mIoU',
    ], type='IoUMetric')
