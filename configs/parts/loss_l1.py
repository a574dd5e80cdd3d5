"""Loss: the absolute error, in place of the squared one of MAE (He et al., 2022); SimMIM's (Xie et al., 2022).

    python tools/train.py configs/parts/loss_l1.py
"""
_base_ = ['../pretrain/mae_vit-mini-p8_digits.py']
model = dict(head=dict(loss_type='l1'))
