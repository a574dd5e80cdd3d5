"""Blocks of the decoder (He et al., 2022, Table 1a; the paper's encoder has 24, this one 4, that of size gpu 12).

    python tools/ablate.py configs/ablations/decoder_depth.py
"""
_base_ = './_base_/digits.py'
title = 'Decoder depth'
cells = {f'{depth}': dict(pretrain={'model.neck.decoder_depth': depth}) for depth in (1, 2, 4, 8, 12)}
paper = {
    '1': {'fine-tune': 84.8, 'linear': 65.5},
    '2': {'fine-tune': 84.9, 'linear': 70.0},
    '4': {'fine-tune': 84.9, 'linear': 71.9},
    '8': {'fine-tune': 84.9, 'linear': 73.5},
    '12': {'fine-tune': 84.4, 'linear': 73.3},
}
