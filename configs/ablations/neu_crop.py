"""The least share of a picture of 200x200 that a crop of pretraining shows; a tenth is 63 pixels, enlarged to 128.

    python tools/ablate.py configs/ablations/neu_crop.py
"""
_base_ = './_base_/neu.py'
title = 'Least crop'
cells = {
    f'{least} %': dict(pretrain={'train_dataloader.dataset.pipeline.0.scale': [least / 100, 1.0]})
    for least in (10, 20, 40, 80)
}
