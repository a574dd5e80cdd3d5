"""The same patches of all images are hidden, those that a picture of 12 x 12 patches shows white: here the centre.

    python tools/train.py configs/parts/mask_file.py
"""
_base_ = ['../pretrain/mae_vit-mini-p8_digits.py']
model = dict(masking=dict(_delete_=True, type='mae_plugin.FileMasking', file='{{ fileDirname }}/mask_file.png'))
