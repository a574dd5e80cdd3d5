"""Mask tokens already in the encoder, or only in the decoder (He et al., 2022, Table 1c).

    python tools/ablate.py configs/ablations/mask_token.py
"""
_base_ = './_base_/digits.py'
title = 'Mask token'
cells = {'in the encoder': dict(pretrain={'model.backbone.type': 'mae_plugin.MaskTokenViT'}), 'in the decoder': {}}
paper = {
    'in the encoder': {'fine-tune': 84.2, 'linear': 59.6},
    'in the decoder': {'fine-tune': 84.9, 'linear': 73.5},
}
