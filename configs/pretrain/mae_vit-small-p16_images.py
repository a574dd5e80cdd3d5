"""MAE pretraining of ViT-S/16 on images of your own; see ``mae_vit-base-p16_images.py``.

    python tools/train.py configs/pretrain/mae_vit-small-p16_images.py --cfg-options \
        train_dataloader.dataset.data_root=IMAGES
"""
_base_ = './mae_vit-base-p16_images.py'
model = dict(
    backbone=dict(embed_dim=384, num_heads=6),
    neck=dict(decoder_embed_dim=256, decoder_depth=4, decoder_num_heads=8))
