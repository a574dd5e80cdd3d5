"""A linear decoder, as SimMIM's (Xie et al., 2022): it needs an encoder that sees mask tokens.

    python tools/train.py configs/parts/decoder_linear.py
"""
_base_ = ['../pretrain/mae_vit-mini-p8_digits.py']
model = dict(
    backbone=dict(type='mae_plugin.MaskTokenViT'),
    neck=dict(_delete_=True, type='mae_plugin.LinearDecoder'))
