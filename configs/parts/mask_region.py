"""Whole regions of similar colour are hidden, found in each image (the idea of R-MAE, Nguyen et al., 2023).

    python tools/train.py configs/parts/mask_region.py
"""
_base_ = ['../pretrain/mae_vit-mini-p8_digits.py']
model = dict(masking=dict(type='mae_plugin.RegionMasking', num_regions=4, mask_ratio=0.75))
