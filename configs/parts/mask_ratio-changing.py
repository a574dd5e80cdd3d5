"""The share of hidden patches grows over training, from 0.5 to 0.9 in eight steps; validation has 0.85.

    python tools/train.py configs/parts/mask_ratio-changing.py
"""
_base_ = ['../pretrain/mae_vit-mini-p8_digits.py']
custom_hooks = [dict(type='mae_plugin.MaskRatioHook', start=0.5, end=0.9)]
