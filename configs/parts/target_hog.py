"""Target: histograms of oriented gradients (MaskFeat, Wei et al., 2022), 9 orientations in each quarter of a patch.

    python tools/train.py configs/parts/target_hog.py
"""
_base_ = ['../pretrain/mae_vit-mini-p8_digits.py']
model = dict(head=dict(target=dict(_delete_=True, type='mae_plugin.HOGTarget')))
