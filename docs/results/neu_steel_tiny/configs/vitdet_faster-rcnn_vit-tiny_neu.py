auto_scale_lr = dict(base_batch_size=4, enable=True)
default_hooks = dict(
    bad_images=dict(
        interval=200, max_share=0.01, type='mae_plugin.BadImagesHook'),
    card=dict(allow=[], type='mae_plugin.CheckpointCardHook'),
    checkpoint=dict(
        by_epoch=False, interval=1000, max_keep_ckpts=2,
        type='CheckpointHook'),
    fast=dict(
        compile=True,
        cuda_graph=False,
        timed_attention=True,
        type='mae_plugin.FastStepHook'),
    logger=dict(interval=50, log_metric_by_epoch=False, type='LoggerHook'),
    param_scheduler=dict(type='ParamSchedulerHook'),
    plain=dict(type='mae_plugin.PlainCheckpointHook'),
    reconstruction=dict(
        interval=5000, num_images=4, type='mae_plugin.ReconstructionHook'),
    runtime_info=dict(type='mae_plugin.MeanLossHook'),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    throughput=dict(mfu=None, type='mae_plugin.ThroughputHook'),
    timer=dict(type='IterTimerHook'))
default_scope = 'mmdet'
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
        out_type='featmap',
        patch_size=16,
        rel_pos=None,
        type='mae_plugin.PlainViT',
        window_block_indexes=[],
        window_size=0,
        with_cls_token=True),
    data_preprocessor=dict(
        bgr_to_rgb=True,
        mean=[
            123.675,
            116.28,
            103.53,
        ],
        pad_mask=False,
        pad_size_divisor=32,
        std=[
            58.395,
            57.12,
            57.375,
        ],
        type='DetDataPreprocessor'),
    neck=dict(
        extra_level=False,
        in_channels=192,
        out_channels=64,
        scales=[
            2,
            1,
            0.5,
        ],
        type='mae_plugin.SimpleFeaturePyramid'),
    roi_head=dict(
        bbox_head=dict(
            bbox_coder=dict(
                target_means=[
                    0.0,
                    0.0,
                    0.0,
                    0.0,
                ],
                target_stds=[
                    0.1,
                    0.1,
                    0.2,
                    0.2,
                ],
                type='DeltaXYWHBBoxCoder'),
            conv_out_channels=256,
            fc_out_channels=256,
            in_channels=64,
            init_cfg=None,
            loss_bbox=dict(loss_weight=1.0, type='L1Loss'),
            loss_cls=dict(
                loss_weight=1.0, type='CrossEntropyLoss', use_sigmoid=False),
            norm_cfg=None,
            num_classes=6,
            num_shared_fcs=1,
            reg_class_agnostic=True,
            roi_feat_size=7,
            type='ConvFCBBoxHead'),
        bbox_roi_extractor=dict(
            featmap_strides=[
                8,
                16,
                32,
            ],
            out_channels=64,
            roi_layer=dict(output_size=7, sampling_ratio=2, type='RoIAlign'),
            type='SingleRoIExtractor'),
        mask_head=None,
        mask_roi_extractor=None,
        type='StandardRoIHead'),
    rpn_head=dict(
        anchor_generator=dict(
            ratios=[
                0.5,
                1.0,
                2.0,
            ],
            scales=[
                4,
            ],
            strides=[
                8,
                16,
                32,
            ],
            type='AnchorGenerator'),
        bbox_coder=dict(
            target_means=[
                0.0,
                0.0,
                0.0,
                0.0,
            ],
            target_stds=[
                1.0,
                1.0,
                1.0,
                1.0,
            ],
            type='DeltaXYWHBBoxCoder'),
        feat_channels=64,
        in_channels=64,
        loss_bbox=dict(loss_weight=1.0, type='L1Loss'),
        loss_cls=dict(
            loss_weight=1.0, type='CrossEntropyLoss', use_sigmoid=True),
        num_convs=1,
        type='RPNHead'),
    test_cfg=dict(
        rcnn=dict(
            mask_thr_binary=0.5,
            max_per_img=50,
            nms=dict(iou_threshold=0.5, type='nms'),
            score_thr=0.05),
        rpn=dict(
            max_per_img=200,
            min_bbox_size=0,
            nms=dict(iou_threshold=0.7, type='nms'),
            nms_pre=500)),
    train_cfg=dict(
        rcnn=dict(
            assigner=dict(
                ignore_iof_thr=-1,
                match_low_quality=False,
                min_pos_iou=0.5,
                neg_iou_thr=0.5,
                pos_iou_thr=0.5,
                type='MaxIoUAssigner'),
            debug=False,
            mask_size=28,
            pos_weight=-1,
            sampler=dict(
                add_gt_as_proposals=True,
                neg_pos_ub=-1,
                num=64,
                pos_fraction=0.25,
                type='RandomSampler')),
        rpn=dict(
            allowed_border=-1,
            assigner=dict(
                ignore_iof_thr=-1,
                match_low_quality=True,
                min_pos_iou=0.0,
                neg_iou_thr=0.3,
                pos_iou_thr=0.7,
                type='mae_plugin.BestOverlapAssigner'),
            debug=False,
            pos_weight=-1,
            sampler=dict(
                add_gt_as_proposals=False,
                neg_pos_ub=-1,
                num=128,
                pos_fraction=0.5,
                type='RandomSampler')),
        rpn_proposal=dict(
            max_per_img=200,
            min_bbox_size=0,
            nms=dict(iou_threshold=0.7, type='nms'),
            nms_pre=500)),
    type='FasterRCNN')
model_wrapper_cfg = dict(
    broadcast_buffers=False,
    find_unused_parameters=False,
    gradient_as_bucket_view=True,
    static_graph=False,
    type='mae_plugin.DistributedDataParallel')
norm_cfg = dict(eps=1e-06, type='mae_plugin.LayerNorm2d')
optim_wrapper = dict(
    clip_grad=dict(max_norm=10.0),
    constructor='mae_plugin.LayerDecayOptimWrapperConstructor',
    dtype='float32',
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
    dict(begin=0, by_epoch=False, end=50, start_factor=0.001, type='LinearLR'),
    dict(
        begin=50,
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
    batch_size=8,
    dataset=dict(
        ann_file='annotations/val.json',
        data_prefix=dict(img='images'),
        data_root='data/neu/detection',
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
            dict(keep_ratio=True, scale=[
                160,
                160,
            ], type='Resize'),
            dict(type='LoadAnnotations', with_bbox=True),
            dict(
                meta_keys=[
                    'img_id',
                    'img_path',
                    'ori_shape',
                    'img_shape',
                    'scale_factor',
                ],
                type='PackDetInputs'),
        ],
        test_mode=True,
        type='CocoDataset'),
    sampler=dict(shuffle=False, type='DefaultSampler'))
test_evaluator = dict(
    ann_file='data/neu/detection/annotations/val.json',
    metric='bbox',
    type='CocoMetric')
train_cfg = dict(max_iters=1000, type='IterBasedTrainLoop', val_interval=1000)
train_dataloader = dict(
    batch_size=4,
    dataset=dict(
        dataset=dict(
            ann_file='annotations/train.json',
            data_prefix=dict(img='images'),
            data_root='data/neu/detection',
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
                dict(type='LoadAnnotations', with_bbox=True),
                dict(
                    direction=[
                        'horizontal',
                        'vertical',
                        'diagonal',
                    ],
                    prob=[
                        0.25,
                        0.25,
                        0.25,
                    ],
                    type='RandomFlip'),
                dict(
                    keep_ratio=True,
                    ratio_range=[
                        0.8,
                        1.5,
                    ],
                    scale=[
                        160,
                        160,
                    ],
                    type='RandomResize'),
                dict(
                    crop_size=[
                        160,
                        160,
                    ],
                    crop_type='absolute',
                    type='RandomCrop'),
                dict(
                    keep_empty=False,
                    min_gt_bbox_wh=[
                        4,
                        4,
                    ],
                    type='FilterAnnotations'),
                dict(type='PackDetInputs'),
            ],
            type='CocoDataset'),
        seed=0,
        share=1.0,
        type='mae_plugin.LabelShare'),
    sampler=dict(shuffle=True, type='InfiniteSampler'))
val_cfg = dict()
val_dataloader = dict(
    batch_size=8,
    dataset=dict(
        ann_file='annotations/val.json',
        data_prefix=dict(img='images'),
        data_root='data/neu/detection',
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
            dict(keep_ratio=True, scale=[
                160,
                160,
            ], type='Resize'),
            dict(type='LoadAnnotations', with_bbox=True),
            dict(
                meta_keys=[
                    'img_id',
                    'img_path',
                    'ori_shape',
                    'img_shape',
                    'scale_factor',
                ],
                type='PackDetInputs'),
        ],
        test_mode=True,
        type='CocoDataset'),
    sampler=dict(shuffle=False, type='DefaultSampler'))
val_evaluator = dict(
    ann_file='data/neu/detection/annotations/val.json',
    metric='bbox',
    type='CocoMetric')
