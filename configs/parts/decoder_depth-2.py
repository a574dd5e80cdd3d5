"""A decoder of two blocks instead of one (MAE, Table 1a).

    python tools/train.py configs/parts/decoder_depth-2.py
"""
_base_ = ['../pretrain/mae_vit-mini-p8_digits.py']
model = dict(neck=dict(decoder_depth=2))
