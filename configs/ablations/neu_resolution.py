"""The size of the crops of pretraining; a patch has 16 pixels in each. The tasks keep their size of 160 pixels.

    python tools/ablate.py configs/ablations/neu_resolution.py
"""
_base_ = './_base_/neu.py'
title = 'Resolution'
cells = {
    f'{size}': dict(
        pretrain={'model.backbone.img_size': size},
        linear={'model.backbone.img_size': size},
        segment={'model.backbone.img_size': size})
    for size in (96, 128, 160, 224)
}
