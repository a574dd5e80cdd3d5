"""Windows of attention in fine-tuning, as ViTDet has them for large images, where 10x10 patches need none.

    python tools/ablate.py configs/ablations/neu_window.py

Windows need the class token off, so there is a cell for that alone. Blocks 2, 5, 8 and 11 see everything.
"""
_base_ = './_base_/neu_finetune.py'
title = 'Windows'
_no_token = {'model.backbone.with_cls_token': False}
_windows = {**_no_token, 'model.backbone.window_size': 5,
            'model.backbone.window_block_indexes': [0, 1, 3, 4, 6, 7, 9, 10]}
cells = {
    'none': {},
    'none, no class token': dict(
        detect=_no_token,
        segment={f'+{key}': value for key, value in _no_token.items()}),
    '5x5 patches in 8 of 12 blocks': dict(
        detect=_windows,
        segment={f'+{key}': value for key, value in _windows.items()}),
}
del _no_token, _windows
