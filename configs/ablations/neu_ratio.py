"""How much of a picture of steel to hide.

    python tools/ablate.py configs/ablations/neu_ratio.py
"""
_base_ = './_base_/neu.py'
title = 'Masking ratio'
cells = {f'{ratio} %': dict(pretrain={'model.masking.mask_ratio': ratio / 100}) for ratio in (50, 60, 75, 90)}
