# ViT-B/16 classifier on the mean of the patch tokens, as MAE's fine-tuning (He et al., 2022, appendix A.1).
default_scope = 'mmpretrain'
model = dict(
    type='ImageClassifier',
    data_preprocessor=dict(
        type='ClsDataPreprocessor',
        num_classes=1000,
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        to_rgb=True),
    backbone=dict(
        type='mae_plugin.PlainViT',
        img_size=224,  # of pretraining
        patch_size=16,
        embed_dim=768,
        depth=12,
        num_heads=12,
        out_type='avg_featmap',
        trainable_blocks=None,  # all; 4 the last four, 0.5 half a block, 0 none
        init_cfg=dict(
            type='mae_plugin.MAEPretrained', checkpoint='work_dirs/mae_vit-base-p16_in1k/iter_499200.pth')),
    head=dict(
        type='LinearClsHead',
        num_classes=1000,
        in_channels=768,
        init_cfg=dict(type='TruncNormal', layer='Linear', std=2e-5)))
