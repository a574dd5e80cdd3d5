"""One patch of each 2 x 2 is kept (MAE, Table 1f, "grid": 84.0 with ViT-L, random 84.9).

    python tools/train.py configs/parts/mask_grid.py
"""
_base_ = ['../pretrain/mae_vit-mini-p8_digits.py']
model = dict(masking=dict(type='mae_plugin.GridMasking', mask_ratio=0.75))
