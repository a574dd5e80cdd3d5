"""The size of a patch: on crops of 128 pixels 64 patches of 16, or 256 of 8, which cost about four times as much.

    python tools/ablate.py configs/ablations/neu_patch.py

The pyramid of the segmenter ends in the same size, a quarter of the picture.
"""
_base_ = './_base_/neu.py'
title = 'Patch size'
cells = {
    f'{size}': dict(
        pretrain={'model.backbone.patch_size': size},
        linear={'model.backbone.patch_size': size},
        segment={'model.backbone.patch_size': size, 'model.neck.scales': [size // 4]})
    for size in (16, 8)
}
