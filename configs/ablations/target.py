"""What is predicted of a hidden patch (He et al., 2022, Table 1d; HOG is MaskFeat's, Wei et al., 2022).

    python tools/ablate.py configs/ablations/target.py
"""
_base_ = './_base_/digits.py'
title = 'Target'
cells = {
    name: dict(pretrain={'model.head.target': target})
    for name, target in {
        'pixels': dict(type='mae_plugin.PixelTarget', norm_pix=False),
        'normalised pixels': dict(type='mae_plugin.PixelTarget', norm_pix=True),
        'PCA': dict(type='mae_plugin.PCATarget'),
        'HOG': dict(type='mae_plugin.HOGTarget'),
    }.items()
}
paper = {
    'pixels': {'fine-tune': 84.9, 'linear': 73.5},
    'normalised pixels': {'fine-tune': 85.4, 'linear': 73.9},
    'PCA': {'fine-tune': 84.6, 'linear': 72.3},
}
