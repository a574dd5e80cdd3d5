# UPerNet on a plain ViT-B/16 with four taps, as MAE's transfer to ADE20K (He et al., 2022, appendix A.4): relative
# position as in BEiT, zero at the start. Tests on whole images.
default_scope = 'mmseg'
norm_cfg = dict(type='SyncBN', requires_grad=True)
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
        test_cfg=dict(size_divisor=32)),
    backbone=dict(
        type='mae_plugin.PlainViT',
        img_size=224,  # of pretraining; the images of the task may have any size
        patch_size=16,
        embed_dim=768,
        depth=12,
        num_heads=12,
        out_type='featmap',
        out_indices=(3, 5, 7, 11),
        rel_pos=dict(type='mae_plugin.RelPosBias'),
        init_cfg=dict(
            type='mae_plugin.MAEPretrained', checkpoint='work_dirs/mae_vit-base-p16_in1k/iter_499200.pth')),
    neck=dict(type='Feature2Pyramid', embed_dim=768, rescales=[4, 2, 1, 0.5], norm_cfg=norm_cfg),
    decode_head=dict(
        type='UPerHead',
        in_channels=[768, 768, 768, 768],
        in_index=[0, 1, 2, 3],
        pool_scales=(1, 2, 3, 6),
        channels=768,
        dropout_ratio=0.1,
        num_classes=150,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0)),
    auxiliary_head=dict(
        type='FCNHead',
        in_channels=768,
        in_index=2,
        channels=256,
        num_convs=1,
        concat_input=False,
        dropout_ratio=0.1,
        num_classes=150,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=0.4)),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'))
