"""Target: pixels normalised by the mean and standard deviation of their patch, 85.4 % fine-tuned and 73.9 % linear
(MAE, He et al., 2022, Table 1d, ViT-L).

    python tools/train.py configs/parts/target_norm-pix.py
"""
_base_ = ['../pretrain/mae_vit-mini-p8_digits.py']
model = dict(head=dict(target=dict(norm_pix=True)))
