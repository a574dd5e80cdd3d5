"""How long pretraining is (He et al., 2022, Figure 7): an eighth to twice the usual, which in the paper is 800 epochs.

    python tools/ablate.py configs/ablations/length.py

The figure's other numbers are not in the paper's text.
"""
_base_ = './_base_/digits.py'
title = 'Length of pretraining'
cells = {
    name: dict(pretrain={'train_cfg.max_iters': dict(cpu=eighths * 1250, gpu=eighths * 500)})
    for name, eighths in {'1/8': 1, '1/4': 2, '1/2': 4, '1': 8, '2': 16}.items()
}
paper = {'1': {'fine-tune': 84.9, 'linear': 73.5}}
