"""UPerNet on a ViT-S/16 of your own pretraining: edit the lines of ``upernet_vit-base_custom.py``.

    python tools/train.py configs/segmentation/upernet_vit-small_custom.py --cfg-options \
        model.backbone.init_cfg.checkpoint=work_dirs/mae_vit-small-p16_images/iter_100000.pth
"""
_base_ = './upernet_vit-base_custom.py'
model = dict(
    backbone=dict(embed_dim=384, num_heads=6),
    neck=dict(embed_dim=384),
    decode_head=dict(in_channels=[384, 384, 384, 384], channels=384),
    auxiliary_head=dict(in_channels=384))
