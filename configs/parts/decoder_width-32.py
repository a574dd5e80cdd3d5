"""A decoder of half the width (MAE, Table 1b).

    python tools/train.py configs/parts/decoder_width-32.py
"""
_base_ = ['../pretrain/mae_vit-mini-p8_digits.py']
model = dict(neck=dict(decoder_embed_dim=32))
