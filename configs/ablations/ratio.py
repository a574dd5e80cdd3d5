"""How much is hidden (He et al., 2022, Figure 5): 10 to 90 % of the patches, at random.

    python tools/ablate.py configs/ablations/ratio.py

The figure's other numbers are not in the paper's text.
"""
_base_ = './_base_/digits.py'
title = 'Masking ratio'
cells = {
    f'{ratio} %': dict(pretrain={'model.masking.mask_ratio': ratio / 100})
    for ratio in (10, 20, 30, 40, 50, 60, 70, 75, 80, 90)
}
paper = {'10 %': {'linear': 54.6}, '75 %': {'fine-tune': 84.9, 'linear': 73.5}}
