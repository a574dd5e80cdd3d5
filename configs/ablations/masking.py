"""How the hidden patches are chosen (He et al., 2022, Table 1f and Figure 6).

    python tools/ablate.py configs/ablations/masking.py
"""
_base_ = './_base_/digits.py'
title = 'Masking'
cells = {
    'random, 75 %': {},
    **{
        f'{name}, {ratio:.0%}'.replace('%', ' %'): dict(pretrain={
            'model.masking': dict(type=f'mae_plugin.{kind}', mask_ratio=ratio)})
        for name, kind, ratio in (
            ('block', 'BlockMasking', .5), ('block', 'BlockMasking', .75), ('grid', 'GridMasking', .75))
    },
}
paper = {
    'random, 75 %': {'fine-tune': 84.9, 'linear': 73.5},
    'block, 50 %': {'fine-tune': 83.9, 'linear': 72.3},
    'block, 75 %': {'fine-tune': 82.8, 'linear': 63.9},
    'grid, 75 %': {'fine-tune': 84.0, 'linear': 66.0},
}
