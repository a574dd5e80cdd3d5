"""How long to pretrain on pictures of steel: a quarter of to four times 38,400 images, which are 9 epochs.

    python tools/ablate.py configs/ablations/neu_length.py
"""
_base_ = './_base_/neu.py'
title = 'Length'
cells = {
    f'{part}': dict(pretrain={
        'train_cfg.max_iters': iterations, 'train_cfg.val_interval': iterations,
        'param_scheduler.0.end': iterations // 10, 'param_scheduler.1.begin': iterations // 10})
    for part, iterations in (('1/4', 300), ('1/2', 600), ('1', 1200), ('2', 2400), ('4', 4800))
}
