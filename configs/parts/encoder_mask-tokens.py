"""Mask tokens already in the encoder (MAE, Table 1c), which then works on all patches.

    python tools/train.py configs/parts/encoder_mask-tokens.py
"""
_base_ = ['../pretrain/mae_vit-mini-p8_digits.py']
model = dict(backbone=dict(type='mae_plugin.MaskTokenViT'))
