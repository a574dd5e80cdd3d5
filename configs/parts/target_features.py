"""Target: features of a frozen model of timm (MaskFeat, Wei et al., 2022). Here a tiny one with random weights, which
needs no download and teaches little; a real one: teacher='vit_base_patch16_224.dino', pretrained=True.

    python tools/train.py configs/parts/target_features.py
"""
_base_ = ['../pretrain/mae_vit-mini-p8_digits.py']
model = dict(head=dict(target=dict(_delete_=True, type='mae_plugin.FeatureTarget', teacher='test_vit')))
