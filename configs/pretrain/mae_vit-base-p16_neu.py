"""MAE pretraining of ViT-B/16 on 4,227 pictures of steel; see ``mae_vit-small-p16_neu.py``.

    python tools/train.py configs/pretrain/mae_vit-base-p16_neu.py
"""
_base_ = './mae_vit-small-p16_neu.py'
model = dict(
    backbone=dict(embed_dim=768, num_heads=12),
    neck=dict(decoder_embed_dim=384, decoder_num_heads=12))
