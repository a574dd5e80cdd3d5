"""MAE pretraining of ViT-Ti/16 on images of your own; see ``mae_vit-base-p16_images.py``.

    python tools/train.py configs/pretrain/mae_vit-tiny-p16_images.py --cfg-options \
        train_dataloader.dataset.data_root=IMAGES
"""
_base_ = './mae_vit-base-p16_images.py'
model = dict(
    backbone=dict(embed_dim=192, num_heads=3),
    neck=dict(decoder_embed_dim=192, decoder_depth=4, decoder_num_heads=6))
