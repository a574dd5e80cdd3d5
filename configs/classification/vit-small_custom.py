"""Fine-tuning of a ViT-S/16 of your own pretraining on your classes: edit the lines of ``vit-base_custom.py``.

    python tools/train.py configs/classification/vit-small_custom.py --cfg-options \
        model.backbone.init_cfg.checkpoint=work_dirs/mae_vit-small-p16_images/iter_100000.pth
"""
_base_ = './vit-base_custom.py'
model = dict(backbone=dict(embed_dim=384, num_heads=6), head=dict(in_channels=384))
