"""Fine-tuning of timm's ViT-B/16 with registers on classes of your own, pretrained by
``configs/pretrain/mae_timm-vit-base-reg4_images.py``.

    python tools/train.py configs/classification/timm-vit-base-reg4_custom.py --cfg-options \
        model.backbone.init_cfg.checkpoint=work_dirs/mae_timm-vit-base-reg4_images/iter_100000.pth

Data, schedule and the lines to edit are those of ``vit-base_custom.py``.
"""
_base_ = './vit-base_custom.py'
model = dict(
    backbone=dict(
        _delete_=True,
        type='mae_plugin.TimmViT',
        name='vit_base_patch16_reg4_gap_256',
        img_size=224,  # of pretraining
        patch_size=16,
        embed_dim=768,
        depth=12,
        num_heads=12,
        out_type='avg_featmap',
        drop_path_rate=0.1,
        init_cfg=dict(
            type='mae_plugin.MAEPretrained', checkpoint='work_dirs/mae_timm-vit-base-reg4_images/iter_100000.pth')))
