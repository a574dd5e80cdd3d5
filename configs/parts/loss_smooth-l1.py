"""Loss: squared for small errors, absolute for large ones (Girshick, 2015), in place of MAE's squared error.

    python tools/train.py configs/parts/loss_smooth-l1.py
"""
_base_ = ['../pretrain/mae_vit-mini-p8_digits.py']
model = dict(head=dict(loss_type='smooth_l1', beta=1.))
