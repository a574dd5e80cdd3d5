"""Raw or normalised pixels as the target, on pictures of steel.

    python tools/ablate.py configs/ablations/neu_target.py
"""
_base_ = './_base_/neu.py'
title = 'Target'
cells = {
    'normalised pixels': dict(pretrain={'model.head.target.norm_pix': True}),
    'raw pixels': dict(pretrain={'model.head.target.norm_pix': False}),
}
