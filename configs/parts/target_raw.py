"""Target: raw pixels, 84.9 % fine-tuned and 73.5 % linear (MAE, He et al., 2022, Table 1d, ViT-L).

    python tools/train.py configs/parts/target_raw.py
"""
_base_ = ['../pretrain/mae_vit-mini-p8_digits.py']
model = dict(head=dict(target=dict(norm_pix=False)))
