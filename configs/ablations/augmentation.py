"""Crops and colours in pretraining (He et al., 2022, Table 1e), but without the paper's flip of the image.

    python tools/ablate.py configs/ablations/augmentation.py
"""
_base_ = './_base_/digits.py'
title = 'Augmentation'
_random = dict(type='mae_plugin.KeyedRandomResizedCrop', size=None, scale=(0.5, 1.0))
cells = {
    name: dict(pretrain={'train_dataloader.dataset.pipeline': [*transforms, dict(type='mae_plugin.PackUnlabelled')]})
    for name, transforms in {
        'none': [dict(type='mae_plugin.ResizeCenterCrop', size=None, crop_share=1.0)],
        'crop of fixed size': [dict(type='mae_plugin.KeyedResizeCrop', size=None)],
        'crop of random size': [_random],
        'crop of random size, colours': [_random, dict(type='mae_plugin.KeyedColorJitter')],
    }.items()
}
paper = {
    'none': {'fine-tune': 84.0, 'linear': 65.7},
    'crop of fixed size': {'fine-tune': 84.7, 'linear': 73.1},
    'crop of random size': {'fine-tune': 84.9, 'linear': 73.5},
    'crop of random size, colours': {'fine-tune': 84.3, 'linear': 71.9},
}
del _random
